// The mean time of a training step on two ranks, for bench/run distributed.
//
//     rank_times ranks|devices MODEL captured|plain [STEPS]
//
// MODEL is mlp, gpt or tiny-gpt (rank_models.hpp). "ranks" is for each process of `launch/run -n 2`, "devices" are two
// of one process. The first epoch warms up, the middle of the others counts.
#include "bench/cells.hpp"
#include "bench/rank_models.hpp"

#include <troupe/troupe.hpp>

#include <string>
#include <vector>

namespace {

void measure(const std::vector<std::string>& words) {
  const bool on_devices = words.at(0) == "devices", is_captured = words.at(2) == "captured";
  if (!on_devices && words[0] != "ranks") throw troupe::UsageError("'" + words[0] + "' is neither ranks nor devices");
  if (!is_captured && words[2] != "plain") throw troupe::UsageError("'" + words[2] + "' is neither captured nor plain");
  const auto& workload = troupe::bench::workload_of(words[1]);
  const troupe::bench::RunFolder folder;
  troupe::TrainerOptions options;
  options.devices = on_devices ? 2 : 1;
  options.capture_step = is_captured ? troupe::CaptureStep::require : troupe::CaptureStep::off;
  options.default_root_dir = folder.path();
  auto amounts = workload.amounts;
  if (words.size() > 3) amounts = {troupe::bench::count_of(words[3]), 1};
  const auto seconds = workload.train(options, /*ranks=*/2, amounts);
  troupe::bench::print_cell(
      {{"us", troupe::bench::median(seconds) * 1e6}});  // of other ranks launch/run prints nothing
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "rank_times ranks|devices MODEL captured|plain [STEPS]", 3, 4, measure);
}
