#!/usr/bin/env python3
"""As many digits of pi as DURATION seconds allow, kept in S3. Runs on the borrowed machine: standard library only."""

import json
import os
import subprocess
import time


def digits():
    """The spigot of Jeremy Gibbons: one digit after the other, without end."""
    q, r, t, k, n, m = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), (10 * (3 * q + r)) // t - 10 * n
        else:
            q, r, t, k, n, m = q * k, (2 * q + r) * m, t * m, k + 1, (q * (7 * k + 2) + r * m) // (t * m), m + 2


def main():
    duration = float(os.environ["DURATION"])
    started = said = time.monotonic()
    found = []
    for digit in digits():
        found.append(str(digit))
        now = time.monotonic()
        if now - said >= 1:
            said = now
            print("%d digits after %d s" % (len(found), now - started), flush=True)
        if now - started >= duration:
            break
    with open("pi.txt", "w") as out:
        out.write(found[0] + "." + "".join(found[1:]) + "\n")
    subprocess.run([os.environ["TRANSIENT_PUT"], "pi.txt"], check=True)
    with open(os.environ["TRANSIENT_RESULT"], "w") as out:
        json.dump({"digits": len(found), "object": "pi.txt", "seconds": round(time.monotonic() - started, 1)}, out)
    print("%d digits of pi, kept in pi.txt" % len(found))


if __name__ == "__main__":
    main()
