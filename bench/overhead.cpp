// One training step through the whole cast and in a loop with Fabric, plain and captured, and the same step in a bare
// LibTorch loop.
//
//     overhead [ROUNDS [STEPS]]       for bench/run overhead
//
// All sides: the same model, batches made beforehand, Troupe's Adam, one compute thread, a thread of
// their own. Ours also log the loss in every step, to the default sinks; the progress bar is off. They alternate in one
// process, an epoch each, so that what the machine does between two processes is no part of a difference of 1 %. A
// number is the middle of the rounds' mean times of a step. What Fabric adds is measured by itself, since it is less
// than the spread of these: step by step, on the same model (mlp.hpp).
#include "bench/cells.hpp"
#include "bench/mlp.hpp"

#include <troupe/runtime/process/pulse.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using Case = troupe::bench::MlpCase;

// What naming slow ranks costs a step: the marks of its collective operations, three of them.
double us_of_marks() {
  constexpr int steps = 100'000, operations = 3;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < steps * operations; ++i) troupe::CollectiveInFlight().end();
  return troupe::bench::microseconds_since(start) / steps;
}

void measure(const Case& c, int64_t rounds, const std::filesystem::path& folder) {
  const auto data = troupe::bench::mlp_batches(c);
  const auto adam = [](std::vector<torch::Tensor> parameters) { return troupe::optim::adam(std::move(parameters)); };
  using troupe::CaptureStep;
  // Captured: the second epoch, since the first two steps are recorded.
  const std::vector<std::pair<std::string, std::function<double()>>> sides = {
      {"bare", [&] { return troupe::bench::bare_loop(c, *data, adam); }},
      {"plain", [&] { return troupe::bench::through_the_cast(c, data, folder, CaptureStep::off); }},
      {"captured",
       [&] { return troupe::bench::through_the_cast(c, data, folder, CaptureStep::require, /*epochs=*/2); }},
      {"fabric", [&] { return troupe::bench::fabric_loop(c, *data, adam, /*captures=*/false); }},
      {"fabric_captured", [&] { return troupe::bench::fabric_loop(c, *data, adam, /*captures=*/true, /*epochs=*/2); }},
      {"marks", us_of_marks},
  };
  std::map<std::string, std::vector<double>> times;
  for (int64_t round = -1; round < rounds; ++round) {  // a round to warm up
    // Another side comes first each time: where the memory lies depends on who ran before.
    for (std::size_t i = 0; i < sides.size(); ++i) {
      const auto& [who, measured] = sides[(i + static_cast<std::size_t>(round + 1)) % sides.size()];
      const double us = measured();
      if (round >= 0) times[who].push_back(us);
    }
  }
  const std::string name = "784-" + std::to_string(c.hidden) + "-10 b" + std::to_string(c.batch_size);
  for (const auto& [who, all] : times) {
    troupe::bench::print_cell({{"case", name}, {"who", who}, {"us", troupe::bench::median(all)}});
  }
  // A long step differs more from one time to the next.
  const int64_t turns = rounds * std::min<int64_t>(2 * c.steps, 400) * std::max<int64_t>(1, c.hidden / 128);
  const auto added = troupe::bench::added_by_fabric(c, *data, adam, turns);
  troupe::bench::print_cell(
      {{"case", name}, {"who", "fabric"}, {"added", added.us}, {"reach", (added.high - added.low) / 2}});
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "overhead [ROUNDS [STEPS]]", 0, 2, [](const auto& words) {
    torch::set_num_threads(1);
    troupe::enter_thread(std::make_shared<troupe::Pulse>("worker"));
    const int64_t rounds = words.empty() ? 31 : troupe::bench::count_of(words[0]);
    const troupe::bench::RunFolder folder;
    for (Case c : {Case{16, 8, 4000}, Case{128, 32, 1000}, Case{512, 64, 250}}) {
      if (words.size() == 2) c.steps = troupe::bench::count_of(words[1]);
      measure(c, rounds, folder.path());
    }
  });
}
