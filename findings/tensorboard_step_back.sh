#!/usr/bin/env bash
# A single point at step 0 makes TensorBoard hide the whole curve before it.
#
# Expected: a tag logged at steps 100, 200, 300 and then 0 (say, by an evaluation after training that counts its own
# steps) shows four points. With --load_fast=false the same TensorBoard does show four.
# Happens: by default only the last point is left. Each new point discards every earlier point of its tag whose step
# is not smaller, as if training had restarted there. Nothing is said about it, and the points are still in the file.
#
# Version: tensorboard 2.21.0 with tensorboard-data-server 0.7.2 on x86-64 Linux. Where no data server is available,
# TensorBoard falls back to the slower loader, which keeps all points.
# Source: TensorBoard's tensorboard/data/server/reservoir.rs (preemption) for the default loader;
# tensorboard/backend/event_processing/plugin_event_accumulator.py for the slower one, which discards points only if
# the file itself marks a restart
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
server=
stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap 'stop_server; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  tensorboard==2.21.0 tensorboard-data-server==0.7.2 absl-py==2.5.1 grpcio==1.85.3 Markdown==3.11.3 MarkupSafe==3.0.4 \
  numpy==2.4.6 packaging==26.4 pillow==13.0.0 protobuf==7.36.2 setuptools==80.9.0 typing_extensions==4.16.0 Werkzeug==3.1.9

cat >"$folder/write.py" <<'END'
import sys
from importlib.metadata import version

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

print("tensorboard", version("tensorboard"), "tensorboard-data-server", version("tensorboard-data-server"))
points = [("loss", 100, 4.0), ("loss", 200, 3.0), ("loss", 300, 2.0), ("loss", 0, 1.0), ("last", 0, 0.0)]
writer = EventFileWriter(sys.argv[1])
for time, (tag, step, value) in enumerate(points):
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    writer.add_event(Event(wall_time=1_700_000_000 + time, step=step, summary=summary))
writer.close()
END

cat >"$folder/read.py" <<'END'
# Waits until the server that logs to the given file has loaded the run, then prints the steps that it has of "loss".
import json
import re
import sys
import time
import urllib.request
from pathlib import Path

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
log = Path(sys.argv[1])


def get(address, page):
    with opener.open(f"{address}/data/plugin/scalars/{page}", timeout=10) as answer:
        return json.load(answer)


for _ in range(240):
    time.sleep(0.5)
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
    try:
        if found and "last" in get(found[0], "tags").get("train", {}):
            print(*(step for _, step, _ in get(found[0], "scalars?run=train&tag=loss")))
            break
    except OSError:
        pass  # not ready yet
else:
    sys.exit(f"TensorBoard does not answer:\n{log.read_text()}")
END

steps_shown() {  # steps_shown [OPTION...] sets `steps` to what TensorBoard, started with these options, has of "loss"
  "$folder/venv/bin/tensorboard" --logdir "$folder/runs" --host 127.0.0.1 --port 0 "$@" >"$folder/log" 2>&1 &
  server=$!
  "$python" "$folder/read.py" "$folder/log" >"$folder/steps"
  stop_server
  steps=$(cat "$folder/steps")
}

"$python" "$folder/write.py" "$folder/runs/train"
steps_shown
fast=$steps
echo "default: expected steps 100 200 300 0, seen $fast"
steps_shown --load_fast=false
slow=$steps
echo "--load_fast=false: expected steps 100 200 300 0, seen $slow"
if [ "$fast" != 0 ] || [ "$slow" != "100 200 300 0" ]; then
  echo "no longer as described" >&2
  exit 1
fi
echo "as described: by default, the point at step 0 is all that is left"
