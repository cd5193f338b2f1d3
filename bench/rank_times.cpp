// The mean time of a training step on two ranks, for bench/run distributed, and on others, for bench/scaling_check.
//
//     rank_times ranks|devices|gpus MODEL captured|plain [STEPS [RANKS]]
//
// MODEL is mlp, gpt or tiny-gpt (rank_models.hpp). "ranks" is for each process of `launch/run -n RANKS`, "devices" are
// so many of one process on the CPU, "gpus" so many GPUs; RANKS is 2 unless given. The first epoch warms up, the middle
// of the others counts; there is one other if STEPS are given.
#include "bench/cells.hpp"
#include "bench/rank_models.hpp"

#include <troupe/troupe.hpp>

#include <string>
#include <vector>

namespace {

void measure(const std::vector<std::string>& words) {
  const bool on_gpus = words.at(0) == "gpus", is_captured = words.at(2) == "captured";
  const bool on_devices = on_gpus || words[0] == "devices";
  if (!on_devices && words[0] != "ranks") {
    throw troupe::UsageError("'" + words[0] + "' is none of ranks, devices and gpus");
  }
  if (!is_captured && words[2] != "plain") throw troupe::UsageError("'" + words[2] + "' is neither captured nor plain");
  const auto& workload = troupe::bench::workload_of(words[1]);
  const troupe::bench::RunFolder folder;
  troupe::TrainerOptions options;
  const int64_t ranks = words.size() > 4 ? troupe::bench::count_of(words[4]) : 2;
  options.accelerator = on_gpus ? troupe::Accelerator::cuda : troupe::Accelerator::cpu;
  options.devices = on_devices ? ranks : 1;
  options.capture_step = is_captured ? troupe::CaptureStep::require : troupe::CaptureStep::off;
  options.default_root_dir = folder.path();
  auto amounts = workload.amounts;
  if (words.size() > 3) amounts = {troupe::bench::count_of(words[3]), 1};
  const auto seconds = workload.train(options, ranks, amounts);
  troupe::bench::print_cell(
      {{"us", troupe::bench::median(seconds) * 1e6}});  // of other ranks launch/run prints nothing
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "rank_times ranks|devices|gpus MODEL captured|plain [STEPS [RANKS]]", 3,
                                  5, measure);
}
