#!/usr/bin/env bash
# What documentation and comments name exists; and the check finds each kind of name that does not.
set -euo pipefail
here=$TROUPE_SOURCE_DIR/tests/docs
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

python3 "$here/check_names.py" "$TROUPE_SOURCE_DIR" || failures=1

# A small project, and what is said of a line that is added to its page or to its source.
mkdir -p "$folder"/{docs,modules/options,tests/runtime}
printf '%s\n' 'TROUPE_OPTIONS(TrainerOptions, (max_epochs, "stop after so many"))' >"$folder/modules/options/trainer_options.hpp"
printf '%s\n' 'int real_name();' >"$folder/tests/runtime/real_test.cpp"

expect() {  # expect FILE LINE PROBLEM; an empty problem: there is none
  local said
  printf '%s\n' "$2" >"$folder/$1"
  said=$(python3 "$here/check_names.py" "$folder" 2>&1) || true
  rm "$folder/$1"
  [ "$said" = "${3:+$1:1: $3}" ] && return
  echo "error: of '$2' in $1 it said '$said'" >&2
  failures=1
}

expect README.md 'See modules/options/trainer_options.hpp, `real_name()`, real_test and --trainer.max_epochs.' ''
expect README.md 'See modules/gone.hpp.' 'there is no modules/gone.hpp'
expect modules/a.hpp '// See modules/gone.hpp.' 'there is no modules/gone.hpp'
expect modules/a.hpp 'auto path = "modules/gone.hpp";' ''
expect README.md 'As gone_test shows.' 'there is no test gone_test'
expect docs/a.md 'Set --trainer.max_epoch 3.' 'there is no option --trainer.max_epoch'
expect docs/a.md 'Call `gone_name()`.' 'nothing is called gone_name'
expect CHANGELOG.md 'Gone: `gone_name`.' ''
expect docs/a.md 'Set `gone_name = true`.' 'nothing is called gone_name'
expect docs/a.md 'Read `gone.cpp`.' 'there is no file gone.cpp'
expect docs/a.md 'Read [this](gone.md#part).' 'the link leads nowhere: gone.md'
expect docs/architecture.md '| `modules/options/` | options |' ''
expect docs/architecture.md '| `modules/` | options |' 'no row of a table is about modules/options/'
expect docs/a.md 'Read [this](https://example.org/gone.md).' ''
exit $failures
