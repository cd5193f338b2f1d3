#!/usr/bin/env bash
# Installs Debian's package of Troupe (cmake/TroupeDebian.cmake) with apt in a bare Debian, which debootstrap makes, and
# makes, builds and trains a project there, with nothing but what the package depends on. Outside CI (ctest -C slow): it
# fetches 400 MB of Debian's packages and takes minutes, and where the build has code for CUDA, builds Troupe without it first. LibTorch is that of this machine, unless TROUPE_FETCH_TORCH is set:
# then troupe-setup fetches it there. 77 is "not possible here".
set -euo pipefail

say() { echo "bare_debian: $*"; }
fail() { echo "error: $*" >&2; exit 1; }
skip() { say "$*"; exit 77; }

[ "$(id -u)" -eq 0 ] || skip "making a bare Debian needs root"
command -v debootstrap >/dev/null || skip "debootstrap is missing: apt-get install debootstrap"
if [ "${1:-}" != --inside ]; then
  unshare --mount --pid --fork true 2>/dev/null || skip "namespaces cannot be made here"
  exec unshare --mount --pid --fork --kill-child "$0" --inside  # mounts and processes end with it
fi

folder=$(mktemp -d)
root=$folder/root
# Nothing of this machine may be mounted there when it is removed.
finish() {
  local place
  for place in root/.cache/troupe proc; do
    ! mountpoint -q "$root/$place" || umount "$root/$place" || return
  done
  rm -rf "$folder"
}
trap finish EXIT
seconds_since() { echo $((SECONDS - $1)) s; }

say "makes the package"
cpack --config "$TROUPE_BUILD_DIR/CPackConfig.cmake" -B "$folder/package" -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip >"$folder/log" 2>&1 ||
  fail "cpack said: $(cat "$folder/log")"
packages=("$folder"/package/*.deb)
say "$(basename "${packages[0]}"), $(stat -c %s "${packages[0]}") bytes"

# shellcheck disable=SC1091  # of this machine
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt's own variables
mirror=$(apt-get indextargets --format '$(CODENAME) $(SITE)' "Created-By: Packages" | sed -n "s/^$release //p" | head -1)
[ -n "$mirror" ] || skip "apt has no source of $release"
say "makes a bare $release"
start=$SECONDS
debootstrap --variant=minbase "$release" "$root" "$mirror" >"$folder/log" 2>&1 || fail "debootstrap said: $(tail "$folder/log")"
say "that took $(seconds_since "$start")"
rm -rf "$root/etc/apt"
cp -a /etc/apt "$root/etc/apt"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"

inside() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ${PIP_CERT:+PIP_CERT=/etc/pip.pem} chroot "$root" sh -c "cd /root && $1"
}
installs() {  # installs NAME COMMAND
  local start=$SECONDS
  inside "$2" >"$folder/log" 2>&1 || fail "$1 failed: $(tail -n 30 "$folder/log")"
  say "$1: $(seconds_since "$start")"
}
says() { grep -qF -- "$1" "$folder/log" || fail "expected '$1', and it said: $(cat "$folder/log")"; }

cp "${packages[0]}" "$root/tmp/troupe.deb"
installs "apt-get update" "apt-get update"
installs "apt-get install" "apt-get install -y --no-install-recommends /tmp/troupe.deb"
[ ! -e "$root/root/.cache/troupe" ] || fail "the installation has fetched something"

# Without LibTorch one sentence says what to run.
! inside "troupe new my_net" >"$folder/log" 2>&1 || fail "the command runs without LibTorch"
says "LibTorch $TROUPE_TORCH_VERSION was not found in /root/.cache/troupe: run troupe-setup, which installs it"
mkdir "$root/root/empty"
printf 'cmake_minimum_required(VERSION 3.25)\nproject(empty LANGUAGES CXX)\nfind_package(troupe REQUIRED)\n' >"$root/root/empty/CMakeLists.txt"
! inside "cmake -S empty -B empty/build" >"$folder/log" 2>&1 || fail "find_package(troupe) succeeds without LibTorch"
tr -s '\n ' ' ' <"$folder/log" >"$folder/line"
mv "$folder/line" "$folder/log"
says "LibTorch $TROUPE_TORCH_VERSION was not found: run troupe-setup, which installs it"

mkdir -p "$root/root/.cache/troupe"
if [ -z "${TROUPE_FETCH_TORCH:-}" ]; then
  mkdir "$folder/above" "$folder/work"
  here=$(readlink -f "$TROUPE_TORCH_ROOT/../../../../..")
  mount -t overlay overlay -o "lowerdir=$here,upperdir=$folder/above,workdir=$folder/work" "$root/root/.cache/troupe" ||
    skip "an overlay cannot be mounted here"
  for python in "$root"/root/.cache/troupe/venv*/bin/python3; do ln -sfn /usr/bin/python3 "$python"; done  # another place there
else
  # What this machine's pip is told.
  [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
  if [ -n "${PIP_CERT:-}" ]; then cp "$PIP_CERT" "$root/etc/pip.pem"; fi
fi
installs "troupe-setup" "troupe-setup --cpu"

installs "troupe new" "troupe new my_net"
says "  cmake -B build
  cmake --build build"
installs "cmake" "cd my_net && cmake -B build"
installs "cmake --build" "cd my_net && cmake --build build"
installs "my_net fit" "cd my_net && build/my_net fit --config config.toml"
installs "my_net test" "cd my_net && build/my_net test --config config.toml --ckpt_path best"
says "test_acc"
installs "ctest" "cd my_net && ctest --test-dir build"
installs "troupe runs" "cd my_net && troupe runs"
says "my_net/version_0"
installs "two ranks" "cd my_net && troupe-run -n 2 build/my_net fit --config config.toml --trainer.max_epochs 2"
installs "a PATH that begins with /bin" "PATH=/bin:/usr/bin cmake -S my_net -B other"

installs "apt-get remove" "apt-get remove -y troupe"
for place in bin/troupe bin/troupe-setup bin/troupe-run lib/troupe lib/libtroupe.a share/troupe include/troupe; do
  [ ! -e "$root/usr/$place" ] || fail "/usr/$place is there after the package was removed"
done
say "all is well"
