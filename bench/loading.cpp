// Our side of the loading benches: a program that loads batches and prints how many it got a second.
//
//     build/release/bench/loading tensors [BATCHES]
//     build/release/bench/loading resume [ROUNDS]
//
// tensors: 60,000 x 784 floats in memory, batches of 64, shuffled, without fetchers. The batches come through the
// loader actor to this thread, which looks at one number of each; no Trainer is there. A second line has the bare loop:
// the same rows by index_select, in an order that torch::randperm makes anew in each epoch. Both take turns, so that
// what else the machine does falls on both; the medians are printed as JSON.
//
// resume: the time from opening an epoch to its first batch, at its start and after 90 % of it, of a shuffled order
// that is stored (60,000 samples) and of one that is computed (10^10).
#include "bench/loading_consumer.hpp"
#include "bench/table.hpp"

#include <troupe/base/exception_text.hpp>
#include <troupe/runtime/process/compute_threads.hpp>
#include <troupe/runtime/process/process_settings.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kRows = 60'000, kWidth = 784, kBatch = 64;

double rate_since(Clock::time_point start, int64_t batches) {
  return static_cast<double>(batches) / std::chrono::duration<double>(Clock::now() - start).count();
}

/// Batches a second of the bare loop.
double bare_loop(const torch::Tensor& rows, int64_t batches, double& seen) {
  const auto start = Clock::now();
  torch::Tensor order;
  for (int64_t i = 0, at = kRows; i < batches; ++i, at += kBatch) {
    if (at + kBatch > kRows) {
      order = torch::randperm(kRows);
      at = 0;
    }
    seen += rows.index_select(0, order.narrow(0, at, kBatch)).data_ptr<float>()[0];
  }
  return rate_since(start, batches);
}

/// Samples that cost nothing.
struct NoSamples : troupe::Dataset {
  explicit NoSamples(int64_t count) : count(count) {}
  int64_t size() const override { return count; }
  troupe::Batch get(int64_t) override { return {}; }
  std::optional<troupe::Batch> get_batch(at::IntArrayRef indices) override {
    return troupe::Batch{torch::tensor(indices)};
  }
  int64_t count;
};

int resume(int64_t rounds) {
  for (const int64_t size : {int64_t{60'000}, int64_t{10'000'000'000}}) {
    troupe::bench::LoadingConsumer consumer(
        troupe::DataLoader(std::make_shared<NoSamples>(size), {.batch_size = kBatch, .shuffle = true}));
    std::array<std::vector<double>, 2> times;  // at the start, after 90 %
    for (int64_t round = -1; round < rounds; ++round) {
      for (const std::size_t late : {0, 1}) {
        const auto start = Clock::now();
        consumer.open(late == 0 ? 0 : size / kBatch / 10 * 9);
        consumer.take(1, [](const troupe::Batch&) {});
        const std::chrono::duration<double, std::milli> took = Clock::now() - start;
        if (round >= 0) times[late].push_back(took.count());
      }
    }
    for (const std::size_t late : {0, 1}) {
      std::cout << "{\"samples\": " << size << ", \"from\": " << (late == 0 ? "0.0" : "0.9")
                << ", \"first_batch_ms\": " << troupe::bench::median(times[late])
                << ", \"spread\": " << troupe::bench::spread(times[late]) << "}\n";
    }
  }
  return 0;
}

int load_tensors(int64_t batches) {
  constexpr int rounds = 15;
  const auto rows = torch::rand({kRows, kWidth});
  const auto data = std::make_shared<troupe::TensorDataset>(rows);
  troupe::bench::LoadingConsumer consumer(
      troupe::DataLoader(data, {.batch_size = kBatch, .shuffle = true, .drop_last = true}));
  double seen = 0;
  const auto look = [&](const troupe::Batch& batch) { seen += batch[0].data_ptr<float>()[0]; };
  std::vector<double> ours, bare;
  for (int round = -1; round < rounds; ++round) {
    const auto start = Clock::now();
    consumer.take(batches, look);
    const double own_rate = rate_since(start, batches);
    const double bare_rate = bare_loop(rows, batches, seen);
    if (round < 0) continue;  // a round to warm up
    ours.push_back(own_rate);
    bare.push_back(bare_rate);
  }
  std::cout << "{\"name\": \"troupe\", \"batches_per_second\": " << troupe::bench::median(ours)
            << ", \"spread\": " << troupe::bench::spread(ours) << "}\n"
            << "{\"name\": \"bare index_select\", \"batches_per_second\": " << troupe::bench::median(bare)
            << ", \"spread\": " << troupe::bench::spread(bare) << "}\n";
  return seen > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int64_t count = argc > 2 ? std::atoll(argv[2]) : (what == "resume" ? 31 : 4000);
  if ((what != "tensors" && what != "resume") || count < 1 || argc > 3) {
    std::cerr << "usage: loading tensors [BATCHES] or loading resume [ROUNDS], at least 1\n";
    return 2;
  }
  try {
    troupe::use_one_compute_thread();
    troupe::keep_freed_memory();  // as a run does
    return what == "resume" ? resume(count) : load_tensors(count);
  } catch (...) {
    std::cerr << troupe::current_exception_text() << '\n';
    return 1;
  }
}
