#!/usr/bin/env bash
# webdataset's shardshuffle shuffles once: every epoch reads the shards in the same order.
#
# Expected: WebDataset(shards, shardshuffle=20) draws a new shard order for each epoch, just as .shuffle(n) does for
# samples. No seed is set, so nothing asks for a repeatable order.
# Happens: the first epoch's order is random, and every later epoch of that object repeats it. The object draws a seed
# when it is made, and each epoch restarts its shuffle from that seed. A second object gets another order, so it looks
# random from run to run. Oddly, detshuffle=True, the deterministic variant, does change the order every epoch.
#
# Version: webdataset 1.0.2
# Source: webdataset's src/webdataset/compat.py (WebDataset.__init__) and src/webdataset/filters.py (_shuffle);
# shardshuffle, detshuffle and seed on the page "WebDataset API" of its documentation
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
unset WDS_SEED  # it would set a seed
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  webdataset==1.0.2 numpy==2.4.6 PyYAML==6.0.4 braceexpand==0.1.7

"$python" - "$folder" <<'END'
import sys
from importlib.metadata import version
from itertools import groupby

import webdataset

print("webdataset", version("webdataset"))
shards = [f"{sys.argv[1]}/{number}.tar" for number in range(20)]
for number, shard in enumerate(shards):
    with webdataset.TarWriter(shard) as writer:
        for sample in range(3):
            writer.write({"__key__": f"{number}-{sample}", "cls": str(number)})


def keys(dataset):
    return [sample["__key__"] for sample in dataset]


def shard_order(dataset):
    return [int(number) for number, _ in groupby(key.split("-")[0] for key in keys(dataset))]


def orders(epochs):
    return len({tuple(epoch) for epoch in epochs})


plain = webdataset.WebDataset(shards, shardshuffle=20)
epochs = [shard_order(plain) for _ in range(5)]
for number, order in enumerate(epochs):
    print(f"epoch {number}: {' '.join(map(str, order))}")
other = webdataset.WebDataset(shards, shardshuffle=20)
deterministic = webdataset.WebDataset(shards, shardshuffle=20, detshuffle=True)
samples = webdataset.WebDataset(shards, shardshuffle=False).shuffle(60)

seen = {
    "shards were shuffled": epochs[0] != sorted(epochs[0]),
    "orders in 5 epochs": orders(epochs),
    "a second object has the same order": shard_order(other) == epochs[0],
    "orders in 5 epochs with detshuffle": orders(shard_order(deterministic) for _ in range(5)),
    "orders of samples in 5 epochs with shuffle": orders(keys(samples) for _ in range(5)),
}
expected = dict(zip(seen, (True, 5, False, 5, 5)))
described = dict(zip(seen, (True, 1, False, 5, 5)))
for name in seen:
    print(f"{name}: expected {expected[name]}, seen {seen[name]}")
if seen != described:
    sys.exit("no longer as described")
print("as described: all epochs read the shards in one order")
END
