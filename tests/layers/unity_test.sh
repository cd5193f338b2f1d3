#!/usr/bin/env bash
# No two sources of the library, or of a program of tests, define one name in their unnamed namespaces; and the check finds each kind of such a pair.
set -euo pipefail
check=$TROUPE_SOURCE_DIR/tests/layers/check_unity.py
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

python3 "$check" "$TROUPE_SOURCE_DIR" || failures=1

mkdir "$folder/tests"
printf '%s\n' 'set(_alone "_mpi_test.cpp$")' 'foreach(_folder IN ITEMS base runtime)' >"$folder/tests/CMakeLists.txt"

in_unnamed_namespace() {  # in_unnamed_namespace FILE DEFINITION
  mkdir -p "$(dirname "$folder/$1")"
  printf 'namespace troupe {\n\nnamespace {\n\n%b\n\n}  // namespace\n\n}  // namespace troupe\n' "$2" >"$folder/$1"
}

expect_tests() {  # the same for two tests
  local verdict=passes
  in_unnamed_namespace tests/runtime/a_test.cpp "$2"
  in_unnamed_namespace tests/runtime/deep/b_test.cpp "$3"
  python3 "$check" "$folder" >"$folder/said" 2>&1 || verdict=fails
  rm -r "$folder/tests/runtime"
  [ $verdict = "$1" ] && return
  echo "error: expected that tests with '$2' and '$3' together $1; it said: $(cat "$folder/said")" >&2
  failures=1
}

expect() {  # expect VERDICT DEFINITION OTHER: of a tree whose two sources have them
  local verdict=passes
  in_unnamed_namespace base/a.cpp "$2"
  in_unnamed_namespace runtime/deep/b.cpp "$3"
  python3 "$check" "$folder" >"$folder/said" 2>&1 || verdict=fails
  [ $verdict = "$1" ] && return
  echo "error: expected that '$2' and '$3' together $1; it said: $(cat "$folder/said")" >&2
  failures=1
}

expect fails 'int twice(int x) {\n  return 2 * x;\n}' '/// The same.\nint twice(int value) { return value + value; }'
expect fails 'int sum(const A& a,\n        int b = 0) {\n}' 'void sum(const A& first, int second) {\n}'
expect fails 'struct Row {\n  int cells;\n};' 'class Row : public Base {\n};'
expect fails 'constexpr int limit = 3;' 'constexpr std::array<int, 2> limit = {1, 2};'
expect fails 'template <class T>\nT member(const Json& json) {\n}' 'template <class Value>\nValue member(const Json& entry) {\n}'
expect fails 'std::mutex lock;' '[[noreturn]] void lock() {\n}'
expect passes 'int twice(int x) {\n  return 2 * x;\n}' 'double twice(double x) {\n  return 2 * x;\n}'
expect passes 'void fill(int* x) {\n}' 'void fill(int* x, int count) {\n}'
expect passes 'namespace fs = std::filesystem;\nusing Json = nlohmann::json;' 'namespace fs = std::filesystem;\nusing Json = nlohmann::json;'
expect passes 'struct Row {\n  void add(int);\n};\nvoid Row::add(int) {\n  int once = 1;\n}' 'int once() {\n  return 1;\n}'
expect_tests fails 'int twice(int x) {\n  return 2 * x;\n}' 'double twice(double x) {\n  return 2 * x;\n}'
expect_tests passes 'int twice(int x) {\n  return 2 * x;\n}' 'int thrice(int x) {\n  return 3 * x;\n}'
expect_tests fails 'using Row = int;' 'struct Row {\n  int cells;\n};'
expect_tests passes 'using Row = int;' 'using Row = int;'

# What a test or a source calls its own must not be called as a type that a header has.
rm -r "$folder/base" "$folder/runtime"
mkdir "$folder/runtime"
printf '%s\n' 'namespace torch {' 'class Tensor;' '}' '' 'namespace troupe {' '' 'class Later;' '' 'class Row : public Base {' '  int cells;' '};' '' \
  'int twice(int x) {' '  return 2 * x;' '}' '' 'enum class Kind { one };' '' '}  // namespace troupe' >"$folder/runtime/row.hpp"
expect_tests fails 'struct Row {\n  int cells;\n};' 'int once;'
expect_tests fails 'int once;' 'Row Kind(int x) {\n}'
expect_tests fails 'using Kind = int;' 'int once;'
expect_tests passes 'using Row = other::Row;' 'struct Later {\n};'
expect fails 'int once;' 'struct Row {\n  int cells;\n};'
expect passes 'int once;' 'int rows;'
exit $failures
