"""What the peers of the benchmark `loading` share: PROGRAM CASE FOLDER WORKERS SECONDS prints a line of JSON."""
import os
import sys
import time

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def arguments():
    """Case, folder of the data, workers, seconds."""
    return sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])


def rate(epoch, seconds):
    """Samples a second over `seconds`, from the first batch on. epoch() gives the sizes of an epoch's batches."""
    samples, start = 0, None
    while True:
        size = 0
        for size in epoch():
            now = time.perf_counter()
            if start is None:
                start = now
                continue
            samples += size
            if now - start > seconds:
                return samples / (now - start)
        if not size:
            sys.exit("an epoch had no batches")  # and none of those to come


def own_bytes(pids):
    """Memory of these processes that no file backs, pages that others have too by their part. Tensors that processes
    share, which are the batches that wait, are not in it."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            total += sum(1024 * int(line.split()[1]) for line in file if line.startswith("Pss_Anon:"))
    return total


def files(folder):
    """Paths of all files and the numbers of their folders, in the order of their names."""
    found = []
    for number, name in enumerate(sorted(os.listdir(folder))):
        place = os.path.join(folder, name)
        found += [(os.path.join(place, file), number) for file in sorted(os.listdir(place))]
    return found
