// Readers of a run's metrics.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/report/report_page.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace troupe::fuzz {

inline void add_curve_targets(std::vector<Target>& all, const TempDir& dir) {
  const auto in_folder = [&dir](const std::string& name) {
    const auto folder = dir / ("curves of " + name);
    std::filesystem::create_directory(folder);
    return [folder, name](const std::string& bytes) {
      put(folder / name, bytes);
      const auto curves = read_metric_curves(folder);
      (void)report_page(std::vector<RunView>{{RunCard(), curves}});
    };
  };
  all.push_back({"metrics csv",
                 {"epoch,step,loss\n0,1,0.5\n0,2,nan\n1,3,\n", "step,\"a,\"\"b\"\"\nc\"\r\n1,-inf\r\n2,1e300"},
                 in_folder("metrics.csv")});
  all.push_back({"metrics jsonl",
                 {"{\"step\":49,\"epoch\":0,\"time\":1764447600.5,\"values\":{\"loss\":0.25,\"norm\":\"NaN\"}}\n"
                  "{\"step\":99,\"values\":{\"norm\":\"-Infinity\"}}\n",
                  "{\"values\":{},\"other\":true,\"step\":-1e300,\"epoch\":null}\n{\"st"},
                 in_folder("metrics.jsonl")});
}

}  // namespace troupe::fuzz
