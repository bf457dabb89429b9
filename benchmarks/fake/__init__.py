"""A light fake of the AWS APIs that the benchmarks use: real HTTP on loopback, in a process of its own, for both sides.

moto answers fewer requests than a stock triggerer alone asks for. What is signed, sent and parsed is real
on the side that asks; what is answered is as long as AWS's own answers are, because parsing them is most of the work.
"""
