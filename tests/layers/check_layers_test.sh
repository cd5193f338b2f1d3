#!/usr/bin/env bash
# check_layers.sh refuses each kind of forbidden include, in both spellings, and lets the others pass.
set -euo pipefail
check=$TROUPE_SOURCE_DIR/tests/layers/check_layers.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# The check of a tree whose only content is the line $2 in a file of layer $1, with the extension $3 in the folder $4.
verdict() {
  rm -rf "$folder/tree"
  mkdir -p "$folder"/tree/{base,modules,runtime,actors,launch}/{deep,collectives}
  echo '#include "troupe/modules/api.hpp"' >"$folder/tree/launch/troupe.hpp"
  echo '#pragma once' >"$folder/tree/modules/api.hpp"
  printf '%s\n' "$2" >"$folder/tree/$1/${4:-deep}/sample.${3:-hpp}"
  if "$check" "$folder/tree" >"$folder/said" 2>&1; then echo passes; else echo fails; fi
}

expect() {  # expect VERDICT LAYER LINE [EXTENSION [FOLDER]]
  if [ "$(verdict "$2" "$3" "${4:-hpp}" "${5:-deep}")" != "$1" ]; then
    echo "error: expected that '$3' $1 in $2/; it said: $(cat "$folder/said")" >&2
    failures=1
  fi
}

forbidden() {  # forbidden LAYER HEADER
  expect fails "$1" "#include \"$2\""
  expect fails "$1" "#include <$2>"
  expect fails "$1" "  #  include<$2>" cpp
  expect fails "$1" "#include \"$2\"" cu
  expect passes "$1" "// as #include <$2> says"
}

for above in modules runtime actors launch; do forbidden base "troupe/$above/x.hpp"; done
for above in runtime actors launch; do forbidden modules "troupe/$above/x.hpp"; done
for above in actors launch; do forbidden runtime "troupe/$above/x.hpp"; done
forbidden actors troupe/launch/x.hpp
for layer in base modules runtime actors; do
  forbidden $layer troupe/troupe.hpp
  forbidden $layer ../launch/x.hpp
done
for layer in base modules runtime; do
  forbidden $layer caf/all.hpp
  forbidden $layer caf/actor.hpp
done
for layer in base modules actors; do
  for header in mpi.h mpi/mpi.h openmpi/mpi.h nccl.h nccl_net.h nccl/nccl.h \
                torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp; do
    forbidden $layer $header
  done
done

expect passes modules '#include <torch/types.h>'
expect fails base '#include <torch/types.h>'
expect passes base '#include <c10/util/Exception.h>'
expect passes modules '#include "troupe/base/text.hpp"'
expect passes modules '#include "troupe/modules/batch.hpp"'
expect passes runtime '#include <mpi.h>' cpp collectives
expect passes launch '#include <mpi.h>' cpp
expect fails runtime '#include <mpi.h>' cpp
expect fails runtime '#include <mpi.h>' hpp collectives
expect fails launch '#include <mpi.h>' hpp
expect passes runtime '#include "troupe/runtime/collectives/mpi_world.hpp"'
expect passes runtime '#include <nccl.h>'
expect passes runtime '#include "troupe/modules/batch.hpp"'
expect passes actors '#include <caf/actor.hpp>'
expect passes actors '#include "troupe/modules/hook_order.hpp"'
expect passes launch '#include "troupe/actors/caf.hpp"'

# What troupe.hpp reaches: directly, or through another header.
reaches() {  # reaches VERDICT LINE-OF-TROUPE.HPP [LINE-OF-launch/part.hpp]
  verdict launch "${3:-#pragma once}" hpp >/dev/null
  mv "$folder/tree/launch/deep/sample.hpp" "$folder/tree/launch/part.hpp"
  mkdir -p "$folder/tree/runtime/replica"
  touch "$folder"/tree/{actors/x,runtime/replica/replica,runtime/public}.hpp
  echo "$2" >"$folder/tree/launch/troupe.hpp"
  local said=fails
  if "$check" "$folder/tree" >"$folder/said" 2>&1; then said=passes; fi
  [ "$said" = "$1" ] || { echo "error: expected that troupe.hpp with '$2' and '${3:-}' $1: $(cat "$folder/said")" >&2; failures=1; }
}
part='#include "troupe/launch/part.hpp"'
reaches passes "$part" '#include "troupe/runtime/public.hpp"'
reaches passes "$part" '// #include "troupe/actors/x.hpp"'
reaches passes "$part" '#include "troupe/launch/part.hpp"'
for bad in '#include "troupe/actors/x.hpp"' '#include <troupe/runtime/replica/replica.hpp>' '#include <caf/actor.hpp>' \
           '  # include <troupe/actors/x.hpp>'; do
  reaches fails "$bad"
  reaches fails "$part" "$bad"
done
reaches fails '#include "troupe/launch/gone.hpp"'
exit $failures
