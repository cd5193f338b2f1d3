"""Prints as JSON what trackio itself reads of a project: read_trackio.py FOLDER PROJECT."""

import json
import math
import os
import sys

os.environ["TRACKIO_DIR"] = sys.argv[1]

import trackio  # noqa: E402
from trackio.sqlite_storage import SQLiteStorage  # noqa: E402


def plain(value):
    return value if not isinstance(value, float) or math.isfinite(value) else repr(value)


project = sys.argv[2]
runs = []
for run in trackio.Api().runs(project):
    logs = SQLiteStorage.get_logs(project, run_id=run.id)
    runs.append(
        {
            "id": run.id,
            "name": run.name,
            "config": {name: plain(value) for name, value in run.config.items()},
            "logs": [{name: plain(value) for name, value in row.items()} for row in logs],
            "alerts": [{name: alert[name] for name in ("title", "text", "level", "step")} for alert in run.alerts()],
        }
    )
values = []
if runs:
    for point in SQLiteStorage.get_metric_values(project, None, "loss", run_id=runs[0]["id"]):
        values.append([point["step"], plain(point["value"])])
SQLiteStorage.init_db(project)  # as its server does: the file is one of its own
print(json.dumps({"projects": SQLiteStorage.get_projects(), "runs": runs, "loss": values}))
