#!/usr/bin/env bash
# Installs Troupe, moves the installation, and builds and runs a project of somebody else's against it. Makes Debian's
# package too, and builds and runs a new project against what is in it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix="$folder/an installation"

fail() { echo "error: $*" >&2; exit 1; }

cmake --install "$TROUPE_BUILD_DIR" --prefix "$folder/elsewhere" >/dev/null
mv "$folder/elsewhere" "$prefix"

[ -e "$prefix/include/troupe/launch/c_api/troupe_c.h" ] || fail "the header of C is not installed"
[ -e "$prefix/include/troupe/troupe.hpp" ] || fail "the umbrella header is not installed"
for layer in base modules runtime launch; do
  [ -n "$(find "$prefix/include/troupe/$layer" -name '*.hpp' -print -quit)" ] || fail "no header of $layer/ is installed"
done
for private in actors/coordinator.hpp actors/worker.hpp runtime/replica launch/parse_config.hpp; do
  [ ! -e "$prefix/include/troupe/$private" ] || fail "$private is installed, and is private"
done
! grep -rn 'include *[<"]caf/' "$prefix/include/troupe" --exclude-dir=actors || fail "a header of the API includes CAF"
for place in "$TROUPE_SOURCE_DIR" "$TROUPE_BUILD_DIR" "$folder" "$TROUPE_TORCH_ROOT"; do
  ! grep -rF "$place" "$prefix" --include='*.cmake' || fail "the installation names $place"
done

# The README's first block of C++.
awk '/^```cpp$/ { inside = 1; next } /^```$/ && inside { exit } inside' "$TROUPE_SOURCE_DIR/README.md" >"$folder/readme.cpp"
grep -q 'class Digits' "$folder/readme.cpp" || fail "the README's first block of C++ is not its module"

# With the compiler and the LibTorch of the build, but without its flags. Relative paths let ccache know the program again.
export CCACHE_BASEDIR=$folder CCACHE_NOHASHDIR=1
launcher=()
[ -z "$(command -v ccache)" ] || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake -S "$TROUPE_SOURCE_DIR/tests/install/outside" -B "$folder/b uild" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$TROUPE_CXX" -DCMAKE_CXX_FLAGS="$TROUPE_CXX_FLAGS" "${launcher[@]}" \
  -DREADME_MODULE="$folder/readme.cpp" -DCMAKE_PREFIX_PATH="$prefix" -DTorch_DIR="$TROUPE_TORCH_ROOT/share/cmake/Torch"
cmake --build "$folder/b uild"
said=$("$folder/b uild/outside" fit --model.lr 0.5 --trainer.max_epochs 20 --trainer.default_root_dir "$folder/runs")
[ "$said" = "slope 3" ] || fail "the outside program printed '$said'"
checkpoint="$folder/runs/slope/version_0/checkpoints/last.safetensors"
[ -e "$checkpoint" ] || fail "the outside program left no checkpoint"

# The module in a program in another language, which has no sanitizer.
library="$folder/b uild/liboutside_predictor.so"
others=$(nm -D --defined-only "$library" | awk '$3 !~ /^troupe_/')
[ -z "$others" ] || fail "the library for other languages exports more than its functions: $others"
if [ -z "$TROUPE_CXX_FLAGS" ]; then
  said=$(python3 - "$library" "$checkpoint" <<'PREDICT'
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.troupe_last_error.restype = ctypes.c_char_p
slope, given, out = ctypes.c_void_p(), (ctypes.c_float * 2)(2, -1), (ctypes.c_float * 2)()
for failed in (library.troupe_predictor_open(b"slope", sys.argv[2].encode(), ctypes.byref(slope)),
               library.troupe_predictor_predict(slope, given, ctypes.c_int64(2), out, ctypes.c_int64(2))):
    assert not failed, library.troupe_last_error().decode()
library.troupe_predictor_close(slope)
print(*map(round, out))
PREDICT
  ) || fail "the library for other languages does not work"
  [ "$said" = "6 -3" ] || fail "the library for other languages printed '$said'"
fi

# The installed command, from another folder.
said=$(cd / && "$prefix/bin/troupe" checkpoint verify "$checkpoint")
[[ "$said" = *": good: "* ]] || fail "the installed command says of the checkpoint: $said"
said=$(cd "$folder" && "$prefix/bin/troupe" runs)
[[ "$said" = *slope/version_0* ]] || fail "the installed command lists the runs as: $said"

# Debian's package, unpacked: what it has and says. tests/install/bare_debian.sh installs it.
cpack --config "$TROUPE_BUILD_DIR/CPackConfig.cmake" -B "$folder/package" -D CPACK_DEBIAN_COMPRESSION_TYPE=none >"$folder/log" ||
  fail "cpack said: $(cat "$folder/log")"
package=("$folder"/package/*.deb)
dpkg-deb -x "${package[0]}" "$folder/unpacked"
prefix=$folder/unpacked/usr
depends=", $(dpkg-deb -f "${package[0]}" Depends),"
for needed in libc6 libstdc++6 libcaf-core0.17 libcaf-dev libspdlog-dev nlohmann-json3-dev libopenmpi-dev openmpi-bin g++ cmake; do
  [[ $depends = *", $needed,"* || $depends = *", $needed ("* ]] || fail "the package does not depend on $needed:$depends"
done
[[ $depends != *torch* ]] || fail "the package depends on a LibTorch of Debian's:$depends"
for place in include/troupe/troupe.hpp lib/libtroupe.a lib/cmake/troupe/troupeConfig.cmake lib/troupe/troupe share/doc/troupe/copyright \
  share/doc/troupe/changelog.gz share/troupe/launch/requirements/torch.txt bin/troupe-setup bin/troupe-run; do
  [ -e "$prefix/$place" ] || fail "the package has no $place: $(dpkg-deb -c "${package[0]}")"
done
scripts=$(dpkg-deb -I "${package[0]}" | grep -E ' (pre|post)(inst|rm) ' || true)
[ -z "$scripts" ] || fail "the package runs something when it is installed: $scripts"
! readelf -d "$prefix/lib/troupe/troupe" | grep -qE 'R(UN)?PATH' || fail "the command in the package names folders of this machine"
"$prefix/bin/troupe-run" -n 2 --dry-run true | grep -q mpirun || fail "troupe-run does not run"
code=0
said=$(TROUPE_DEPS="$folder" "$prefix/bin/troupe" runs 2>&1) || code=$?
[ "$code $said" = "1 troupe: LibTorch $TROUPE_TORCH_VERSION was not found in $folder: run troupe-setup, which installs it" ] ||
  fail "without LibTorch the command ends with $code and says: $said"
code=0
said=$(HOME="$folder" TROUPE_DEPS="$folder" cmake -S "$TROUPE_SOURCE_DIR/tests/install/outside" -B "$folder/no_torch" -G Ninja \
  -DCMAKE_CXX_COMPILER="$TROUPE_CXX" -DCMAKE_PREFIX_PATH="$prefix" -DTROUPE_PYTHON3=false 2>&1) || code=$?
[[ $code != 0 && $(tr -s '\n ' ' ' <<<"$said") = *"was not found"*": run troupe-setup, which installs it"* ]] ||
  fail "without LibTorch find_package ends with $code and says: $said"
# The command takes LibTorch from where launch/setup puts it.
export TROUPE_DEPS=$folder/deps
mkdir -p "$TROUPE_DEPS/venv/lib/python3.0"
ln -s "$(dirname "$TROUPE_TORCH_ROOT")" "$TROUPE_DEPS/venv/lib/python3.0/site-packages"

# A project that the packaged command makes: built as it says, it trains, and knows what it has learnt. Without
# optimization it compiles in less time.
said=$(cd "$folder" && "$prefix/bin/troupe" new my_net)
[[ "$said" = *"cmake -B build -DCMAKE_PREFIX_PATH=\"$prefix\""* ]] || fail "the command says of the new project: $said"
# As in a Debian whose /lib is a link into /usr.
mkdir "$folder/linked"
ln -s "$prefix/lib" "$folder/linked/lib"
cmake -S "$folder/my_net" -B "$folder/my_net/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug \
  -DCMAKE_CXX_COMPILER="$TROUPE_CXX" -DCMAKE_CXX_FLAGS="$TROUPE_CXX_FLAGS -g0" "${launcher[@]}" \
  -DCMAKE_PREFIX_PATH="$folder/linked" -DTorch_DIR="$TROUPE_TORCH_ROOT/share/cmake/Torch"
cmake --build "$folder/my_net/build"
ctest --test-dir "$folder/my_net/build" --output-on-failure || fail "the new project's tests fail"
