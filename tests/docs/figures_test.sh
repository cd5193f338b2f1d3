#!/usr/bin/env bash
# Figures that README and docs quote are those of docs/benchmarks.md; and the check finds each that is not.
set -euo pipefail
here=$TROUPE_SOURCE_DIR/tests/docs
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

python3 "$here/check_figures.py" "$TROUPE_SOURCE_DIR" || failures=1

mkdir "$folder/docs"
printf '%s\n' '# Benchmarks' '<!-- figures that other pages may quote' 'steps, small, bare/ours: 3.40' '-->' \
  >"$folder/docs/benchmarks.md"

expect() {  # expect LINE PROBLEM; an empty problem: there is none
  local said
  printf '%s\n' "$1" >"$folder/README.md"
  said=$(python3 "$here/check_figures.py" "$folder" 2>&1) || true
  [ "$said" = "${2:+README.md:1: $2}" ] && return
  echo "error: of '$1' it said '$said'" >&2
  failures=1
}

expect 'It is 3.40<!-- bench: steps, small, bare/ours --> times as fast.' ''
expect 'It is 3.5<!-- bench: steps, small, bare/ours --> times as fast.' \
  "'steps, small, bare/ours' is 3.40 in docs/benchmarks.md, not 3.5"
expect 'It is 3.40<!-- bench: steps, large, bare/ours --> times as fast.' \
  "docs/benchmarks.md has no figure 'steps, large, bare/ours'"
expect 'It is fast <!-- bench: steps, small, bare/ours -->.' \
  'a marker of a figure has none before it, or does not end in this line'
expect 'It is 1 of 2.' ''
exit $failures
