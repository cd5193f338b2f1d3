"""Logs with trackio itself: write_trackio.py FOLDER PROJECT RUN COUNT."""

import os
import sys

os.environ["TRACKIO_DIR"] = sys.argv[1]
os.environ["HF_HUB_OFFLINE"] = "1"

import trackio  # noqa: E402

trackio.init(project=sys.argv[2], name=sys.argv[3], config={"from": "python"}, embed=False)
for step in range(int(sys.argv[4])):
    trackio.log({"loss": step / 2}, step=step)
trackio.finish()
