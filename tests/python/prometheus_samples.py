"""Prints what Prometheus' own client reads in a file, or at an address: a sample a line, by name and labels."""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

source = sys.argv[1]
if source.startswith("http:"):
    with urllib.request.urlopen(source, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", answer.headers
        text = answer.read().decode()
else:
    with open(source, encoding="utf-8") as file:
        text = file.read()
lines = [f"{sample.name} {family.type} {sample.labels} {sample.value}"
         for family in text_string_to_metric_families(text) for sample in family.samples]
print("\n".join(sorted(lines)))
