"""Where benchmarks run: the peers' Python, the variables of every process, the machine, the versions."""
import fcntl
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time

from harness.benchmark import PEERS, ROOT

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "troupe/bench-peers")
DEPS = os.environ.get("TROUPE_DEPS") or os.path.expanduser("~/.cache/troupe")  # of launch/setup
TORCH_PYTHON = os.path.join(DEPS, "venv/bin/python")


def say(text):
    print(f"bench/run: {text}", file=sys.stderr, flush=True)


def fail(text, status=1):
    say(text)
    sys.exit(status)


def said_by(command):
    """Nothing if it fails, or is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def run_or_fail(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        fail(f"'{command[0]}' does not start ({error.strerror}); launch/setup --dev installs what the benchmarks need")
    if done.returncode != 0:
        fail(f"'{shlex.join(command)}' ended with {done.returncode}:\n{done.stdout[-2000:]}")


def make_peers():
    """The python of the peers. It finds PyTorch in launch/setup's environment, and all else in its own."""
    where = "import torch, sysconfig; print(sysconfig.get_path('purelib'))"
    torch_packages = said_by([TORCH_PYTHON, "-c", where])
    if not torch_packages:
        fail(f"PyTorch does not load in {TORCH_PYTHON}; install it with: launch/setup --dev")
    requirements = os.path.join(PEERS, "requirements.txt")
    with open(requirements, encoding="utf-8") as file:
        wanted = f"{torch_packages}\n{file.read()}"
    venv, stamp = os.path.join(CACHE, "venv"), os.path.join(CACHE, "made_for")
    python = os.path.join(venv, "bin/python")
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as file:
                if file.read() == wanted and os.path.exists(python):
                    return python
            os.remove(stamp)
        say(f"will install JAX, Lightning and what they need from PyPI, 0.6 GB, in {CACHE}")
        shutil.rmtree(venv, ignore_errors=True)
        run_or_fail([TORCH_PYTHON, "-m", "venv", venv])
        packages = said_by([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        with open(os.path.join(packages, "torch.pth"), "w", encoding="utf-8") as file:
            file.write(torch_packages + "\n")
        run_or_fail([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                     "-r", requirements])
        with open(stamp, "w", encoding="utf-8") as file:  # only now: an interrupted installation begins anew
            file.write(wanted)
    return python


def variables():
    """One compute thread and the CPU for everybody, whatever the caller's settings are."""
    theirs = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "XLA_", "JAX_", "TORCH", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    kept.pop("GLIBC_TUNABLES", None)
    return {**kept,
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            # The flags alone leave XLA a pool of threads as large as the machine; NPROC is the size of that pool.
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "NPROC": "1",
            "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu",
            # As troupe::keep_freed_memory() has it (runtime/process/process_settings.cpp).
            "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
            "TORCHINDUCTOR_CACHE_DIR": os.path.join(CACHE, "inductor"),
            "PYTHONDONTWRITEBYTECODE": "1"}


def cores_in_use(seconds=1.0):
    """By everybody, over a moment in which this program sleeps; what a virtual machine was denied counts too."""
    def ticks():
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(number) for number in file.readline().split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]  # idle, waiting for a disk
    total, idle = ticks()
    time.sleep(seconds)
    total_then, idle_then = ticks()
    passed = max(total_then - total, 1)
    return (passed - (idle_then - idle)) / passed * os.cpu_count()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))}


def revision():
    commit = said_by(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]) or "unknown"
    return commit + " with changes" if said_by(["git", "-C", ROOT, "status", "--porcelain"]) else commit


def versions(python):
    """Of the peers, if they take part."""
    if not python:
        return {}
    ask = """import json, sys
from importlib.metadata import distributions
found = {each.name: each.version for each in distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"""
    names = ["torch", "lightning", "jax", "jaxlib", "optax", "numpy", "torchvision", "webdataset", "spdl", "onnxruntime"]
    return {**json.loads(said_by([python, "-c", ask, *names]) or "{}"),
            "python": said_by([python, "-c", "import platform; print(platform.python_version())"])}
