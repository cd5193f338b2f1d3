#!/usr/bin/env bash
# Every test that the documents name is there.
set -euo pipefail
cd "$TROUPE_SOURCE_DIR"
failures=0
names=$(grep -ohE '\b[a-z0-9_]+_test\b' README.md CONTRIBUTING.md docs/*.md | sort -u)
[ -n "$names" ] || { echo "error: no document names a test" >&2; exit 1; }
for name in $names; do
  if [ -z "$(find tests \( -name "$name.cpp" -o -name "$name.sh" \) -print -quit)" ]; then
    echo "error: there is no test $name, which is named in $(grep -lwE "$name" README.md CONTRIBUTING.md docs/*.md | tr '\n' ' ')" >&2
    failures=1
  fi
done
exit $failures
