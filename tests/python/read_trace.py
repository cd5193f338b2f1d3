"""Says of a trace in Chrome's format how often each lane has each span, and how many are not nested by their times."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    events = json.load(file)["traceEvents"]
lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
calls, open_spans, not_nested = {}, {}, 0
for event in events:
    if event["ph"] != "X":
        continue
    lane = lanes[event["tid"]]
    of_lane = calls.setdefault(lane, {})
    of_lane[event["name"]] = of_lane.get(event["name"], 0) + 1
    begin, end = round(1000 * event["ts"]), round(1000 * event["ts"]) + round(1000 * event["dur"])
    stack = open_spans.setdefault(event["tid"], [])
    while stack and stack[-1] <= begin:
        stack.pop()
    not_nested += bool(stack) and end > stack[-1]
    stack.append(end)
print(json.dumps({"calls": calls, "not_nested": not_nested}))
