// The time of an all-reduce between two ranks, for bench/run collectives.
//
//     collectives mpi        in each process of `launch/run -n 2`
//     collectives memory     between two threads
//
// float32, 4 KiB to 64 MiB, one compute thread a rank. A number is the middle of five means of as many calls as take a
// while.
#include "bench/cells.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"

#include <torch/torch.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int samples = 5;

struct Case {
  int64_t bytes;
  int64_t repeats;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {{4 << 10, 100}, {16 << 10, 100}, {64 << 10, 100}, {256 << 10, 50},
                                        {1 << 20, 30},  {4 << 20, 10},   {16 << 20, 4},   {64 << 20, 2}};
  return all;
}

std::string name_of(int64_t bytes) {
  return bytes < 1 << 20 ? std::to_string(bytes >> 10) + " KiB" : std::to_string(bytes >> 20) + " MiB";
}

void measure(troupe::CollectiveBackend& backend, bool is_first, bool is_quick) {
  torch::set_num_threads(1);
  for (const auto& c : cases()) {
    const int64_t repeats = is_quick ? 1 : c.repeats;
    std::vector<at::Tensor> tensors = {at::ones({c.bytes / 4})};
    std::vector<double> times;
    for (int sample = -1; sample < samples; ++sample) {
      backend.barrier()->wait();
      const auto start = Clock::now();
      for (int64_t i = 0; i < repeats; ++i) backend.allreduce(tensors)->wait();
      const double us = troupe::bench::microseconds_since(start) / static_cast<double>(repeats);
      if (sample >= 0) times.push_back(us);  // the first warms up
    }
    if (is_first) troupe::bench::print_cell({{"case", name_of(c.bytes)}, {"us", troupe::bench::median(times)}});
  }
}

void measure_memory(bool is_quick) {
  const auto world = troupe::MemoryWorld::create(2);
  std::jthread other([&] { measure(*world->backend(1), false, is_quick); });
  measure(*world->backend(0), true, is_quick);
}

void measure_mpi(bool is_quick) {
  troupe::MpiWorld world;
  {
    troupe::MpiBackend backend(world);
    measure(backend, world.rank() == 0, is_quick);
  }
  if (!world.shut_down()) throw std::runtime_error("MPI was not shut down");
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "collectives mpi|memory [--quick]", 1, 2, [](const auto& words) {
    const bool is_quick = words.size() == 2;
    if (words[0] == "mpi") return measure_mpi(is_quick);
    if (words[0] == "memory") return measure_memory(is_quick);
    throw troupe::UsageError("'" + words[0] + "' is neither mpi nor memory");
  });
}
