#!/usr/bin/env bash
# The pages of page_program, opened and used in Chromium without a window. With a folder as argument, screenshots go there.
set -euo pipefail
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
  echo "there is no Chromium: launch/setup --dev installs it" >&2
  exit 77
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$TROUPE_BUILD_DIR/tests/page_program" "$folder"
python3 "$TROUPE_SOURCE_DIR/tests/page/page_test.py" "$browser" "$folder" "$@"
