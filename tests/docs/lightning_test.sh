#!/usr/bin/env bash
# docs/from-lightning.md has a row for every name of the installed Lightning's; and the check finds each kind of mistake.
set -euo pipefail
check=$TROUPE_SOURCE_DIR/tests/docs/check_lightning.py
python=$TROUPE_TORCH_ROOT/../../../../bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

"$python" "$check" "$TROUPE_SOURCE_DIR" || failures=1

# What is said after a change of the page, or of our sources.
fresh() {
  rm -rf "$folder/tree"
  mkdir -p "$folder"/tree/{docs,modules/options,runtime}
  cp "$TROUPE_SOURCE_DIR"/docs/{from-lightning,guide}.md "$folder/tree/docs"
  cp "$TROUPE_SOURCE_DIR/modules/options/trainer_options.hpp" "$folder/tree/modules/options"
  cp -r "$TROUPE_SOURCE_DIR/modules/callbacks" "$folder/tree/modules"
  cp -r "$TROUPE_SOURCE_DIR/runtime/callbacks" "$folder/tree/runtime"
}

expect() {  # expect FILE SED-EXPRESSION PROBLEM
  local said
  fresh
  sed -i "$2" "$folder/tree/$1"
  said=$("$python" "$check" "$folder/tree" 2>&1) || true
  [ "$said" = "docs/from-lightning.md: $3" ] && return
  echo "error: after '$2' in $1 it said '$said'" >&2
  failures=1
}

page=docs/from-lightning.md
# shellcheck disable=SC2016  # the backticks are the page's
{
  expect $page '/^| `max_epochs` | `max_epochs`/d' "'Arguments of the Trainer' has no row for Lightning's max_epochs"
  expect $page '/^| `Timer` |/p' "'Callbacks' has two rows for Timer"
  expect $page 's/^| `benchmark` | none | .*/| `benchmark` | none | |/' \
    "'Arguments of the Trainer' does not say why there is no benchmark"
  expect $page 's/^| `ModelPruning` |/| `ModelPrunning` | none | a typo |\n&/' \
    "'Callbacks' has a row for ModelPrunning, which Lightning does not have"
  expect $page 's/^| `devices` | `devices` |/| `devices` | `device` |/' "'Arguments of the Trainer' names device, which is not ours"
  expect docs/guide.md '/^| `freeze` |/d' "'Names of a LightningModule' has no row for Lightning's freeze"
  expect modules/options/trainer_options.hpp 's/^  int64_t devices = 1;/&\n  bool new_option = false;/' \
    "our option new_option is not on the page"
  expect modules/callbacks/timer.hpp 's/^class Timer : .*/class Fresh : public Callback {\n};\n&/' \
    "our callback Fresh is not on the page"
}
exit $failures
