"""Prints what an MLflow server has of a run, as JSON: read_mlflow.py ADDRESS RUN_ID.

Numbers that are not finite are the words nan, inf and -inf.
"""
import json
import math
import os
import sys

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient

address, run_id = sys.argv[1:]
client = MlflowClient(address)
run = client.get_run(run_id)


def number(value):
    return value if math.isfinite(value) else str(value)


def files_below(path=None):
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from files_below(entry.path)
        else:
            yield entry.path, entry.file_size


print(
    json.dumps(
        {
            "status": run.info.status,
            "name": run.info.run_name,
            "ended": run.info.end_time,
            "experiment": client.get_experiment(run.info.experiment_id).name,
            "runs": len(client.search_runs([run.info.experiment_id])),
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                key: [[metric.step, number(metric.value)] for metric in client.get_metric_history(run_id, key)]
                for key in run.data.metrics
            },
            "files": dict(files_below()),
        }
    )
)
