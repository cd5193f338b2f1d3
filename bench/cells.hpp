// What the programs have in common that bench/run starts: they print each measured number as a line of JSON.
//
//     {"who": "bare", "us": 95.2}
//
// bench/run knows what a number is about, unless the line says it: "case" and "who" are its row and its contender
// there.
#pragma once

#include "bench/table.hpp"
#include "troupe/base/failure.hpp"

#include <nlohmann/json.hpp>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

namespace troupe::bench {

inline void print_cell(const nlohmann::ordered_json& cell) {
  std::cout << cell.dump() << std::endl;
}

inline double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

/// The number that a word of the command line is. Throws UsageError unless it is one from `least` on.
inline int64_t count_of(const std::string& word, int64_t least = 1) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size() || number < least) {
    throw UsageError("'" + word + "' is no number from " + std::to_string(least) + " on");
  }
  return number;
}

/// A folder for a run's files, removed at the end.
class RunFolder {
 public:
  RunFolder() { std::filesystem::create_directories(path_); }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_ = std::filesystem::temp_directory_path() / ("troupe_bench_" + std::to_string(getpid()));
};

/// The whole main function: gives `measure` the words of the command line. Returns 2 if there are fewer than `least` or
/// more than `most`, with `usage` on stderr, and 1 with the message of what `measure` throws.
inline int run_cells(int argc, char** argv, const std::string& usage, std::size_t least, std::size_t most,
                     const std::function<void(const std::vector<std::string>&)>& measure) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < least || words.size() > most) {
    std::cerr << "usage: " << usage << '\n';
    return 2;
  }
  try {
    measure(words);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << usage.substr(0, usage.find(' ')) << ": " << error.what() << '\n';
    return 1;
  }
}

}  // namespace troupe::bench
