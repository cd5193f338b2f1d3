"""Two ranks with a link between them: hosts that are network namespaces (tests/hosts/with_hosts.sh)."""
import math
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOSTS = ("host1", "host2")


def enter():
    """Starts this program anew beside the hosts, unless it is there already."""
    if "HOSTS_ON" not in os.environ:
        os.execv(os.path.join(ROOT, "tests/hosts/with_hosts.sh"), ["with_hosts.sh", str(len(HOSTS)), *sys.argv])
    os.environ["OMPI_MCA_mpi_yield_when_idle"] = "1"  # the hosts have the same cores


def launch(*words):
    """launch/run with a rank on each host, from the first one; `words` are further arguments and the program."""
    return [os.environ["HOSTS_ON"], HOSTS[0], os.path.join(ROOT, "launch/run"), "-n", str(len(HOSTS)), "-H", ",".join(HOSTS),
            "--mca", "plm_rsh_agent", os.environ["HOSTS_AGENT"], "--mca", "oob_tcp_if_include", "eth0", "--mca",
            "btl_tcp_if_include", "eth1", *map(str, words)]


def slow_down(rate):
    """Bytes per second that each host receives over eth1, on the switch; math.inf is as fast as it goes. Returns what is wrong
    where this kernel cannot slow a link, else an empty text."""
    for host in HOSTS:
        device = f"{host}-eth1"
        subprocess.run(["tc", "qdisc", "del", "dev", device, "root"], stderr=subprocess.DEVNULL, check=False)
        if rate == math.inf:
            continue
        limit = ["tbf", "rate", f"{rate:.0f}bps", "burst", "128kb", "latency", "50ms"]
        done = subprocess.run(["tc", "qdisc", "add", "dev", device, "root", *limit], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            return f"this kernel cannot slow a link ({done.stderr.strip()})"
    return ""
