// The cards of runs as a target.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <cmath>
#include <vector>

namespace troupe::fuzz {

inline void add_report_targets(std::vector<Target>& all, const TempDir& dir) {
  RunCard card;
  card.metrics = {{"loss", std::nan("")}, {"val_acc", 0.5}};
  card.phases = {{"fit", 60, 25, {{"forward", 30, 25, 2}}, {}, {{"forward", 29, 31, 3}}, "raise data.num_workers"}};
  card.model = {{{"net", "Linear", "[32, 784]", "", 7850}}, 7850, 7840};
  card.failure = Failure{1, "node7", "cuda:1", "fit", "training_step", 2, 5, "no memory"};
  const auto folder = dir / "card";
  std::filesystem::create_directories(folder);
  all.push_back({"run_card", {to_json(RunCard()).dump(), to_json(card).dump()}, [folder](const std::string& bytes) {
                   put(folder / "run.json", bytes);
                   (void)to_json(read_run_card(folder)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
                 }});
}

}  // namespace troupe::fuzz
