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
if [ "\$1" = -c ]; then
  for wanted in "\${@:3}"; do grep -qx -- "\$wanted" "\$packages" || exit 1; done
  exit 0
fi
echo "pip \$*" >>"$log"
if [ -e "$folder/offline" ]; then echo "no network" >&2; exit 1; fi
if [ -e "$folder/interrupt" ]; then kill -KILL \$PPID; exit 1; fi
for package in "\$@"; do case \$package in *==*) echo "\$package" >>"\$packages" ;; esac; done
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
said "will install from PyPI: torch==$torch (LibTorch, 530 MB)"
ran "apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends g++ "
ran "--no-deps torch==$torch"
! grep -q 'sudo\|libgtest-dev\|tensorboard==' "$log" || problem "expected neither sudo nor the development extras"

succeeds --cpu
ran_nothing
[ ! -s "$folder/said" ] || problem "expected silence where all is there"

succeeds --cpu --dev
said "libgtest-dev (tests)"
ran "tensorboard==$tensorboard"

rm -rf "$deps"
touch "$folder/interrupt"
fails --cpu
rm "$folder/interrupt"
succeeds --cpu
said "the last installation was interrupted"
ran "python3 -m venv --clear $deps/venv"
ran "--no-deps torch==$torch"
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

fails --dve
said "setup: unknown option '--dve'; the options are --dev and --cpu"
}
exit $failures
