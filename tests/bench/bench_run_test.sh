#!/usr/bin/env bash
# bench/run in its quick form: its programs run and its table is whole. It measures nothing that counts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run=$TROUPE_SOURCE_DIR/bench/run

"$run" captured_step --quick --build "$TROUPE_BUILD_DIR" --json "$folder/table.json" >"$folder/table" 2>"$folder/err" || {
  cat "$folder/err" >&2
  exit 1
}
grep -q "captured" "$folder/table" || { echo "error: the table is: $(cat "$folder/table")" >&2; exit 1; }
python3 -m json.tool "$folder/table.json" >/dev/null

# Bad arguments are told from programs that break.
code=0
"$run" captured_steps >/dev/null 2>"$folder/err" || code=$?
[ "$code" -eq 2 ] && grep -q captured_step "$folder/err" || { echo "error: $code, $(cat "$folder/err")" >&2; exit 1; }
