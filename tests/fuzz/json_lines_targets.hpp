// A run's lines of JSON, which a later run continues.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/sinks/json_lines_sink.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace troupe::fuzz {

inline void add_json_lines_targets(std::vector<Target>& all, const TempDir& dir) {
  const std::string line = R"({"step":9,"epoch":0,"time":1.5,"values":{"loss":0.5,"lr":"NaN"}})";
  std::filesystem::create_directory(dir / "continued");
  all.push_back({"continued json lines",
                 {line + "\n" + line + "\n", line + "\n" + line, line + "\n" + line.substr(0, 40), ""},
                 [folder = dir / "continued"](const std::string& bytes) {
                   put(folder / "metrics.jsonl", bytes);
                   JsonLinesSink sink(folder);
                   sink.write(ScalarsRecord{10, 1, {{"loss", 0.25}}});
                   sink.flush();
                 }});
}

}  // namespace troupe::fuzz
