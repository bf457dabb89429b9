"""Machines that work a queue off: how many, when more, when done, and what they came to."""
