"""Writes tar shards as people do: write_shards.py FOLDER. Prints "SHARD KEY EXTENSION SIZE" for each file of a sample, in the
order of the archives. A file holds its name again and again, up to its size.

With tarfile in its three formats, with GNU tar in five, gzipped as one member and as several.
"""
import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

folder = Path(sys.argv[1])
NAMES = ["a.jpg", "a.cls", "dir/b.seg.png", "dir/b.cls", "d.ot/c.JPG", "d.ot/c.Cls", "e/" + "long" * 20 + "/" + "f" * 70 + ".txt",
         "g/" + "longer" * 40 + ".txt", "h/gr\u00fc\u00df.json"]
LEFT_OUT = ["README", ".hidden.jpg", "dir/._b.jpg", "__notes__", "__meta__/x.json"]
SIZES = {"a.jpg": 100_000, "a.cls": 1, "dir/b.cls": 0}


def content(name):
    size = SIZES.get(name, 3 * len(name))
    return (name.encode() * (size // len(name) + 1))[:size]


def announce(shard, names):
    for name in names:
        path, _, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        print(shard, (path + "/" if path else "") + stem, extension.lower(), len(content(name)))


def write(path, names, form, mode="w"):
    with tarfile.open(path, mode, format=form) as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content(name))
            tar.addfile(entry, io.BytesIO(content(name)))


ustar = [name for name in NAMES if len(name) < 200]
for form, kind in [(tarfile.USTAR_FORMAT, "ustar"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")]:
    names = ustar if kind == "ustar" else NAMES
    write(folder / f"python_{kind}.tar", names[:2] + LEFT_OUT + names[2:], form)
    announce(f"python_{kind}.tar", names)

tree = folder / "tree"
for name in NAMES + LEFT_OUT:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_bytes(content(name))
for form in ["v7", "oldgnu", "gnu", "ustar", "posix"]:
    names = [name for name in NAMES if len(name) < (100 if form == "v7" else 200 if form == "ustar" else 1000)]
    with_folders = sorted({parent for name in names for parent in map(str, Path(name).parents) if parent != "."})
    command = ["tar", f"--format={form}", "--no-recursion", "-cf", str(folder / f"tar_{form}.tar"), "-C", str(tree)]
    subprocess.run(command + with_folders + names, check=True)
    announce(f"tar_{form}.tar", names)

plain = (folder / "python_gnu.tar").read_bytes()
(folder / "one.tar.gz").write_bytes(gzip.compress(plain))
announce("one.tar.gz", NAMES)
(folder / "several.tgz").write_bytes(b"".join(gzip.compress(plain[at:at + 7000]) for at in range(0, len(plain), 7000)))
announce("several.tgz", NAMES)

# A file that tar has packed already is packed as a hard link.
links = folder / "links"
links.mkdir()
(links / "a.txt").write_bytes(content("a.txt"))
(links / "b.txt").hardlink_to(links / "a.txt")
subprocess.run(["tar", "-cf", str(folder / "links.tar"), "-C", str(links), "a.txt", "b.txt"], check=True)
