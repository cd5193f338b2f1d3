#!/usr/bin/env bash
# CAF 0.17.6 declares caf::local_actor::now(), and its library does not have it.
#
# Expected: the public header declares `clock_type::time_point now() const noexcept` for every actor, so a program that
# calls it compiles and links.
# Happens: it compiles, and the link ends with "undefined reference". No source of that version defines the function.
# self->clock().now(), which is what later versions define it as, is there. Whoever calls now() in a template of a static
# library hears of it only when a program is linked.
#
# Version: libcaf-dev and libcaf-core0.17, 0.17.6-2.1+b1 of Debian 12
# Source: caf/local_actor.hpp of the package; libcaf_core/src/local_actor.cpp of later versions has the definition
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$folder"
cd "$folder"
version=0.17.6-2.1+b1
apt-get --quiet=2 download "libcaf-dev=$version" "libcaf-core0.17=$version" 2>/dev/null
for package in *.deb; do dpkg-deb --extract "$package" root; done
echo "CAF $(sed -n 's/^#define CAF_VERSION //p' root/usr/include/caf/config.hpp), package $version"
grep 'time_point now() const' root/usr/include/caf/local_actor.hpp

cat >actor.cpp <<'END'
#include <caf/all.hpp>

#include <iostream>

int main() {
  caf::actor_system_config config;
  caf::actor_system system(config);
  system.spawn([](caf::event_based_actor* self) {
    std::cout << (self->CLOCK.time_since_epoch().count() > 0 ? "a time" : "no time") << std::endl;
  });
  system.await_all_actors_done();
}
END
library=$(find root -name 'libcaf_core.so*' -type f | head -1)
build() { g++ -std=c++17 -w -Iroot/usr/include "-DCLOCK=$1" actor.cpp "$library" -pthread -o actor; }

echo "self->clock().now():"
build 'clock().now()'
LD_LIBRARY_PATH=$(dirname "$library") timeout 20 ./actor
echo "self->now():"
if build 'now()' 2>error; then
  echo "it links now" >&2
  exit 1
fi
grep -m 1 -o 'undefined reference to .*' error
