"""Makes COUNT runs below FOLDER and times how long the command takes to list them: listed_runs.py MAKER COMMAND COUNT FOLDER."""
import json
import subprocess
import sys
import time

from common import report

maker, command, count, folder = sys.argv[1:]
subprocess.run([maker, "make", count, folder], check=True)
start = time.perf_counter()
listed = subprocess.run([command, "runs", folder, "--json"], check=True, capture_output=True, text=True).stdout
took = time.perf_counter() - start
if len(json.loads(listed)) != int(count):
    sys.exit(f"{command} listed {len(json.loads(listed))} of {count} runs")
report(ms=took * 1000)
