// The all-reduce of two ranks: over MPI and between threads, against PyTorch's Gloo backend in the same run.
//
// All sides: float32, two ranks on this machine, one compute thread each, 4 KiB to 64 MiB. A sample is the mean of as
// many calls as take a while; the sides take turns, a round each, so that a slow moment hits all of them. The program
// runs itself under mpirun for the MPI side.
#include "bench/table.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

#include <unistd.h>

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int samples = 5;
constexpr int rounds = 5;

struct Case {
  int64_t bytes;
  int64_t repeats;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {{4 << 10, 100}, {16 << 10, 100}, {64 << 10, 100}, {256 << 10, 50},
                                        {1 << 20, 30},  {4 << 20, 10},   {16 << 20, 4},   {64 << 20, 2}};
  return all;
}

// Seconds of one all-reduce, a list of samples for each case.
json measure(troupe::CollectiveBackend& backend) {
  torch::set_num_threads(1);
  json results = json::array();
  for (const auto& c : cases()) {
    std::vector<at::Tensor> tensors = {at::ones({c.bytes / 4})};
    json seconds = json::array();
    for (int sample = -1; sample < samples; ++sample) {
      backend.barrier()->wait();
      const auto start = Clock::now();
      for (int64_t i = 0; i < c.repeats; ++i) backend.allreduce(tensors)->wait();
      const double taken = std::chrono::duration<double>(Clock::now() - start).count();
      if (sample >= 0) seconds.push_back(taken / static_cast<double>(c.repeats));  // the first warms up
    }
    results.push_back(seconds);
  }
  return results;
}

json over_memory() {
  json results;
  const auto world = troupe::MemoryWorld::create(2);
  std::jthread other([&] { measure(*world->backend(1)); });
  std::thread first([&] { results = measure(*world->backend(0)); });
  first.join();
  return results;
}

// What runs under mpirun.
int mpi_rank() {
  troupe::MpiWorld world;
  {
    troupe::MpiBackend backend(world);
    const json results = measure(backend);
    if (world.rank() == 0) std::cout << results << std::endl;
  }
  return world.shut_down() ? 0 : 1;
}

json output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) throw std::runtime_error("cannot run " + command);
  std::string text;
  std::array<char, 4096> buffer{};
  while (const auto size = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) text.append(buffer.data(), size);
  const auto begin = text.find('[');
  if (begin == std::string::npos) throw std::runtime_error("no numbers came from " + command);
  return json::parse(text.substr(begin));
}

json over_mpi() {
  const std::string root = geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " : "";
  return output_of(root + "mpirun -n 2 --oversubscribe --bind-to none '" TROUPE_BENCH_SELF "' --as-rank");
}

json over_gloo() {
  std::string command = "'" TROUPE_BENCH_PYTHON "' '" TROUPE_BENCH_SOURCE "/gloo_all_reduce.py'";
  for (const auto& c : cases()) command += " " + std::to_string(c.bytes) + ":" + std::to_string(c.repeats);
  return output_of(command);
}

std::string name_of(int64_t bytes) {
  return bytes < 1 << 20 ? std::to_string(bytes >> 10) + " KiB" : std::to_string(bytes >> 20) + " MiB";
}

std::vector<troupe::bench::Row> compare() {
  struct Side {
    const char* name;
    json (*run)();
    std::vector<std::vector<double>> times{cases().size(), std::vector<double>{}};
  };
  std::vector<Side> sides = {{"MPI, 2 ranks", over_mpi}, {"memory, 2 threads", over_memory}, {"Gloo", over_gloo}};
  for (int round = 0; round < rounds; ++round) {
    for (auto& side : sides) {
      const json results = side.run();
      for (std::size_t i = 0; i < cases().size(); ++i) {
        for (const double seconds : results.at(i)) side.times[i].push_back(seconds * 1e6);
      }
    }
  }
  std::vector<troupe::bench::Row> rows;
  for (std::size_t side = 0; side < 2; ++side) {
    for (std::size_t i = 0; i < cases().size(); ++i) {
      const int64_t bytes = cases()[i].bytes;
      const double bar = bytes <= 4 << 20 ? 1.0 / 3 : 1;  // three times as fast, beyond 4 MiB never slower
      rows.push_back(troupe::bench::at_most(std::string(sides[side].name) + ", " + name_of(bytes),
                                            troupe::bench::summarize(sides[side].times[i]),
                                            troupe::bench::summarize(sides[2].times[i]), "us", bar));
    }
  }
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--as-rank") return mpi_rank();
  return troupe::bench::run(argc, argv, "All-reduce of two ranks against Gloo", compare);
}
