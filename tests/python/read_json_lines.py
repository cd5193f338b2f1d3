"""Prints as JSON what Python makes of a file of JSON lines: read_json_lines.py FILE [pandas]."""

import json
import math
import sys


def refuse(name):
    sys.exit(f"{name} is no JSON")


with open(sys.argv[1], encoding="utf-8") as file:
    records = [json.loads(line, parse_constant=refuse) for line in file]

curves = {}
for record in records:
    for name, value in record.get("values", {}).items():
        number = float(value)  # which reads "NaN" and "-Infinity"
        curves.setdefault(name, []).append([record["step"], number if math.isfinite(number) else repr(number)])

if "pandas" in sys.argv:
    try:
        import pandas
    except ImportError:
        pass
    else:
        assert len(pandas.read_json(sys.argv[1], lines=True)) == len(records)

print(json.dumps({"records": records, "curves": curves}))
