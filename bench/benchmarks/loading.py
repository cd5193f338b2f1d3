"""Reading data: how many samples a second reach the thread that trains, and how soon the first ones do."""
import functools
import glob
import os

from harness.benchmark import PEERS, Bar, Benchmark, Contender, Measure, Run
from harness.environment import CACHE, TORCH_PYTHON, run_or_fail, said_by, say

CASES = {  # as the programs name them: how the page calls them, the numbers of workers
    "tensors": ("tensors in memory, 784 floats", (0,)),
    "jpeg": ("JPEG photos 400 x 300", (1, 2)),
    "png": ("PNG 64 x 64", (1, 2)),
    "shards": ("tar shards of the photos", (1, 2)),
    "tokens": ("windows of 1,025 tokens", (1, 2)),
}
LISTING = "a million paths, 2 workers"
RESUMED = "tar shards, first batch of an epoch"
PEERS_OF = {"jpeg": ("torch", "spdl"), "png": ("torch", "spdl")}
FACTORS = {"tensors": {"bare": 0.9, "torch": 7}, "jpeg": {"torch": 3, "spdl": 1.5}, "png": {"torch": 5, "spdl": 2},
           "shards": {"torch": 3}, "tokens": {"torch": 10}}


def title(case, workers):
    return f"{CASES[case][0]}, {workers or 'no'} worker{'s' * (workers != 1)}"


@functools.cache  # not in every round
def make_data(folder, *words):
    run_or_fail([TORCH_PYTHON, os.path.join(PEERS, "make_loading_data.py"), folder, *words])
    return folder


def data(setting):
    if setting.quick:
        return make_data(os.path.join(setting.folder, "loading"), "quick")
    return make_data(os.path.join(CACHE, "loading"))


@functools.cache
def has_spdl(python, folder):
    """SPDL's wheel has no FFmpeg, which it looks for when it decodes."""
    photo = sorted(glob.glob(os.path.join(folder, "jpeg/*/*.jpg")))[0]
    if said_by([python, "-c", f"import spdl.io; print(spdl.io.decode_packets(spdl.io.demux_image({photo!r})))"]):
        return True
    say("SPDL is left out, since it finds no FFmpeg: apt-get install libavdevice59 libavfilter8")
    return False


def runs(setting):
    folder, seconds = data(setting), "0.1" if setting.quick else "3"
    program = setting.program("bench/loading")
    left_out = () if not setting.python or has_spdl(setting.python, folder) else ("spdl",)
    found = []
    for case, (_, counts) in CASES.items():
        for workers in counts:
            words = [case, folder, str(workers), seconds]
            found.append(Run([program, *words], title(case, workers), "ours"))
            if setting.python:
                found += [Run([*setting.peer(f"{peer}_loading.py"), *words], title(case, workers), peer)
                          for peer in PEERS_OF.get(case, ("torch",)) if peer not in left_out]
    found.append(Run([program, "bare", folder, "0", seconds], title("tensors", 0), "bare"))
    words = ["paths", folder, "2", seconds]
    found.append(Run([program, *words], LISTING, "ours"))
    if setting.python:
        found.append(Run([*setting.peer("torch_loading.py"), *words], LISTING, "torch"))
    found += [Run([program, "resumed", folder, "1", seconds], RESUMED, "ours"),
              Run([program, "fresh", folder, "1", seconds], RESUMED, "fresh")]
    return found


def bars():
    found = [Bar("ours", (peer,), factor, tuple(title(case, n) for n in CASES[case][1]))
             for case, peers in FACTORS.items() for peer, factor in peers.items()]
    found += [Bar("ours", ("torch",), 10, (LISTING,), measure) for measure in ("start_s", "fetcher_mb")]
    return (*found, Bar("ours", ("fresh",), None, (RESUMED,), "first_ms"))


BENCHMARK = Benchmark(
    name="loading",
    place=82,
    title="Reading data",
    about="""Batches of 64, shuffled, as they reach the thread that trains, which does nothing with them. Photos are cropped
at random (RandomResizedCrop 224, or a crop of 64 of images padded by 4), flipped and normalized; all make float batches.
PyTorch is its DataLoader with torchvision (uint8 tensors, transforms v2), webdataset for shards and a map of numpy's for
tokens; its workers are processes. SPDL decodes and crops by FFmpeg in threads. Ours are fetchers, which are threads. "No
worker" is the loader's own thread with us, and the training thread with PyTorch. A million paths are links to a thousand
images: the time to the first batch has the listing of the folders in it, and memory is what all
processes of a side have more than before its loader began, a second after the training has stopped to take batches; those that
wait are not counted, and the rest is divided by two. The last row is Troupe twice: an epoch that is opened at 90 % of its batches, and at its start.""",
    contenders={
        "ours": Contender("Troupe", is_ours=True),
        "fresh": Contender("Troupe, from the start", is_ours=True),
        "bare": Contender("bare index_select"),
        "torch": Contender("PyTorch DataLoader"),
        "spdl": Contender("SPDL"),
    },
    measures=(Measure("samples", "samples/s", "samples", larger_is_better=True), Measure("start_s", "s", "first batch"),
              Measure("fetcher_mb", "MiB", "memory of a worker"), Measure("first_ms", "ms", "first batch")),
    runs=runs,
    minutes=12,
    bars=bars(),
    programs=("bench/loading",),
)
