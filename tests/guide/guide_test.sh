#!/usr/bin/env bash
# docs/guide.md holds the snippets of tests/guide as they are, and has a section and a row for every name of Lightning's
# guide; docs/update_guide --check says so where it is not.
set -euo pipefail
update=$TROUPE_SOURCE_DIR/docs/update_guide
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

"$update" --check "$TROUPE_SOURCE_DIR" || failures=1

# A small guide of its own, to see that each mistake is found.
fresh() {
  rm -rf "$folder/tree"
  mkdir -p "$folder"/tree/{docs,tests/guide}
  printf '%s\n' '  // [guide:one]' '  int x;  // [guide:hide]' '  int y;' '  // [guide:end]' \
    >"$folder/tree/tests/guide/a_test.cpp"
  printf '%s\n' 'Opening' '`one`' >"$folder/tree/tests/guide/names.txt"
  printf '%s\n' '# Opening' '## `one`' '<!-- snippet: one -->' '```cpp' 'int y;' '```' '| `one` | ours |' \
    >"$folder/tree/docs/guide.md"
}

expect() {  # expect TEXT: the check of the tree fails and says so; of "", it passes
  local status=0
  "$update" --check "$folder/tree" >"$folder/said" 2>&1 || status=$?
  if [ -z "$1" ] && [ $status -eq 0 ]; then return; fi
  if [ -n "$1" ] && [ $status -ne 0 ] && grep -qF -- "$1" "$folder/said"; then return; fi
  echo "error: expected '$1'; status $status, it said: $(cat "$folder/said")" >&2
  failures=1
}

fresh
expect ""
sed -i 's/int y/int z/' "$folder/tree/tests/guide/a_test.cpp"
expect "out of date"
"$update" "$folder/tree"
expect ""
grep -qx 'int z;' "$folder/tree/docs/guide.md" || { echo "error: the guide was not updated" >&2; failures=1; }

fresh
printf '%s\n' '// [guide:two]' 'int b;' '// [guide:end]' >>"$folder/tree/tests/guide/a_test.cpp"
expect "the snippet 'two' is not in docs/guide.md"
fresh
printf '%s\n' '<!-- snippet: three -->' '```cpp' '```' >>"$folder/tree/docs/guide.md"
expect "there is no snippet 'three'"
fresh
cp "$folder"/tree/tests/guide/{a,b}_test.cpp
expect "the snippet 'one' is there twice"
fresh
sed -i '$d' "$folder/tree/tests/guide/a_test.cpp"
expect "the snippet 'one' has no end"
fresh
sed -i 's/^## .*/## other/' "$folder/tree/docs/guide.md"
expect "no section is called 'one'"
fresh
sed -i '$d' "$folder/tree/docs/guide.md"
expect "the table has no row for 'one'"
exit $failures
