"""Runs a program that prints {"first_step_at": SECONDS} on the monotonic clock, for bench/run start.

    watched.py COMMAND...

Prints how long after its start that was, what else that line has ("processor_s"), and the peak of the resident memory of the
process. What the program says goes to stderr if it fails.
"""
import json
import os
import subprocess
import sys
import tempfile
import time


def main():
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(sys.argv[1:], stdout=output, stderr=subprocess.STDOUT, text=True)
        _, status, used = os.wait4(process.pid, 0)
        output.seek(0)
        lines = output.read().splitlines()
    said = [json.loads(line) for line in lines if line.startswith('{"first_step_at"')]
    if os.waitstatus_to_exitcode(status) != 0 or not said:
        sys.exit("\n".join(lines))
    print(json.dumps({"seconds": said[0].pop("first_step_at") - start, **said[0], "peak_mib": used.ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
