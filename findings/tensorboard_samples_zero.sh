#!/usr/bin/env bash
# TensorBoard shows no scalars at all if its server is told 0 samples, which to its own reader means all of them.
#
# Expected: `tensorboard --samples_per_plugin scalars=0` keeps every point of a curve, where the default keeps 1,000 of a tag. To
# EventAccumulator, the reader of the same package, a size of 0 is "all events", and so said the flag's help for years.
# Happens: 0 keeps none: the run and its tag are listed, and the curve has no point. A large number (scalars=100000) keeps all.
#
# Version: tensorboard 2.21.0 with tensorboard-data-server 0.7.2
# Source: tensorboard/backend/event_processing/event_accumulator.py (size_guidance); `tensorboard --helpfull`, --samples_per_plugin
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
  tensorboard==2.21.0 tensorboard-data-server==0.7.2 numpy==2.4.6 protobuf==7.36.2 setuptools==80.9.0 werkzeug==3.1.9

"$python" - "$folder" <<'END'
import json
import re
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

POINTS = 3000
print("tensorboard", version("tensorboard"), "data server", version("tensorboard-data-server"))
writer = EventFileWriter(f"{sys.argv[1]}/logs/run")
for step in range(POINTS):
    value = Summary.Value(tag="loss", simple_value=step)
    writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=Summary(value=[value])))
writer.close()


def points(*words):
    """How many points of the curve TensorBoard serves, once it lists its tag."""
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", f"{sys.argv[1]}/logs", "--port", "0",
                               *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+:\d+/", line)))
        get = lambda path: json.load(urllib.request.urlopen(address + "data/plugin/scalars/" + path))
        deadline, found = time.monotonic() + 60, []
        while time.monotonic() < deadline:
            if "loss" in get("tags").get("run", {}):
                found = get("scalars?run=run&tag=loss")
                if len(found) >= 1000:
                    break
                if time.monotonic() > deadline - 40:  # 20 s after the start nothing more comes
                    break
            time.sleep(0.5)
        return len(found)
    finally:
        server.kill()


reader = EventAccumulator(f"{sys.argv[1]}/logs/run", size_guidance={"scalars": 0}).Reload()
read = len(reader.Scalars("loss"))
default, none, many = points(), points("--samples_per_plugin", "scalars=0"), points("--samples_per_plugin", "scalars=100000")
print(f"of {POINTS} points the reader keeps {read} with size 0; the server {default} by default, {none} with scalars=0, "
      f"{many} with scalars=100000")
if (read, default, none, many) != (POINTS, 1000, 0, POINTS):
    sys.exit("no longer as described")
print("as described: 0 is all to the reader and none to the server")
END
