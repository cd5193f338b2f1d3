#!/usr/bin/env bash
# webdataset takes the hidden twins that macOS's tar adds for samples of their own, and splits the real ones.
#
# Expected: tar on macOS writes a small file "._NAME" before each file that has extended attributes. A reader of shards
# leaves such hidden files out, as webdataset does at the top of an archive: its rule for names says that a base name has
# something before its first dot.
# Happens: in a folder of an archive the rule finds "train/" as the name and "_0001.jpg" as the extension. Each twin then is
# a partial sample with the key "train/", and since the files of a sample must follow each other, the image and the label of
# train/0001 come as two samples. Nothing is said. Who asks for ("jpg", "cls") loses every sample, or gets an error that
# names a key which no file has.
#
# Version: webdataset 1.0.2
# Source: webdataset's src/webdataset/tariterators.py (base_plus_ext, group_by_keys)
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  webdataset==1.0.2 numpy==2.4.6 PyYAML==6.0.4 braceexpand==0.1.7

"$python" - "$folder" <<'END'
import io
import sys
import tarfile
from importlib.metadata import version

import webdataset

print("webdataset", version("webdataset"))


def samples(place):
    path = f"{sys.argv[1]}/shard.tar"
    with tarfile.open(path, "w") as tar:
        for suffix in ("jpg", "cls"):
            for name in (f"{place}._0001.{suffix}", f"{place}0001.{suffix}"):
                info = tarfile.TarInfo(name)
                info.size = 1
                tar.addfile(info, io.BytesIO(b"7"))
    dataset = webdataset.WebDataset(path, shardshuffle=False)
    return [(s["__key__"], sorted(k for k in s if not k.startswith("__"))) for s in dataset]


top, inside = samples(""), samples("train/")
print("at the top:", top)
print("in a folder:", inside)
if top != [("0001", ["cls", "jpg"])] or len(inside) != 4 or [key for key, _ in inside].count("train/") != 2:
    sys.exit("no longer as described")
print("as described: one sample at the top, four parts of samples in a folder")
END
