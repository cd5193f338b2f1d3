// One training step through the whole cast against the same step in a bare LibTorch loop.
//
// Both sides: the same model, batches made beforehand, Adam on LibTorch's fused kernel, one compute thread, a thread of
// their own. Ours also logs the loss in every step, to the default sinks; the progress bar is off. They run
// alternately, an epoch each; a sample is the mean time of a step of one epoch.
#include "bench/mlp.hpp"
#include "bench/table.hpp"

#include <troupe/runtime/process/pulse.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using Case = troupe::bench::MlpCase;

// The plain step and the captured one, each against the bare loop. `captured`: the part of the bare step's time that a
// captured one may take.
std::array<troupe::bench::Row, 2> measure(const Case& c, double captured, const std::filesystem::path& folder) {
  constexpr int rounds = 31;
  const auto data = troupe::bench::mlp_batches(c);
  const auto adam = [](std::vector<torch::Tensor> parameters) { return troupe::optim::adam(std::move(parameters)); };
  std::vector<double> plain_times, captured_times, peer_times;
  for (int round = -1; round < rounds; ++round) {
    const double peer = troupe::bench::bare_loop(c, *data, adam);
    const double plain = troupe::bench::through_the_cast(c, data, folder, troupe::CaptureStep::off);
    const double replay = troupe::bench::through_the_cast(c, data, folder, troupe::CaptureStep::require);
    if (round < 0) continue;  // a round to warm up
    peer_times.push_back(peer);
    plain_times.push_back(plain);
    captured_times.push_back(replay);
  }
  const auto peer = troupe::bench::summarize(peer_times);
  const std::string name = "784-" + std::to_string(c.hidden) + "-10, batch " + std::to_string(c.batch_size);
  // 2 us and 1 % more.
  return {troupe::bench::at_most(name, troupe::bench::summarize(plain_times), peer, "us", 1.01 + 2 / peer.median),
          troupe::bench::at_most("captured, " + name, troupe::bench::summarize(captured_times), peer, "us", captured)};
}

// What naming slow ranks costs a step: the marks of its collective operations, three of them, against the bare step.
troupe::bench::Row measure_marks(const troupe::bench::Row& step) {
  constexpr int rounds = 31, steps = 100'000, operations = 3;
  troupe::enter_thread(std::make_shared<troupe::Pulse>("worker"));
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < steps * operations; ++i) troupe::CollectiveInFlight().end();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count() / steps);
  }
  return troupe::bench::at_most("marks of three collectives, of " + step.name, troupe::bench::summarize(times),
                                step.peer, "us", 0.001);
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run(argc, argv, "One training step through the cast against a bare LibTorch loop", [] {
    torch::set_num_threads(1);
    const auto folder = std::filesystem::temp_directory_path() / ("troupe_overhead_" + std::to_string(getpid()));
    const std::array<std::array<troupe::bench::Row, 2>, 3> pairs = {measure({16, 8, 8000}, 1 / 4.0, folder),
                                                                    measure({128, 32, 2000}, 1 / 1.6, folder),
                                                                    measure({512, 64, 400}, 1 / 1.3, folder)};
    std::vector<troupe::bench::Row> rows;
    for (const auto& pair : pairs) rows.push_back(pair[0]);
    for (const auto& pair : pairs) rows.push_back(pair[1]);
    for (const auto& pair : pairs) rows.push_back(measure_marks(pair[0]));
    std::filesystem::remove_all(folder);
    return rows;
  });
}
