// Our side of the benchmark `loading`: how fast batches reach the thread that trains.
//
//     loading CASE FOLDER WORKERS SECONDS
//
// FOLDER has the data that bench/peers/make_loading_data.py makes. The batches of 64 come through the loader actor,
// with WORKERS fetchers, to this thread, which does nothing with them; no Trainer is there. A line of JSON says how
// many samples came a second ("samples"), or for `paths` how long the first batch took from the beginning of the
// program's work ("start_s") and what memory came with each fetcher ("fetcher_mb": what the process has more than
// before the loader began, but for the batches that wait), or for `resumed` and `fresh` how long the first batch of an
// epoch takes that begins at 90 % of it, or at its start ("first_ms"). `bare` is a loop of index_select over the
// tensors of `tensors`, without a loader.
#include "bench/cells.hpp"
#include "bench/loading_consumer.hpp"

#include <troupe/base/nearest.hpp>
#include <troupe/base/number_text.hpp>
#include <troupe/base/text.hpp>
#include <troupe/runtime/process/compute_threads.hpp>
#include <troupe/runtime/process/process_settings.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::bench::LoadingConsumer;
namespace transforms = troupe::transforms;

constexpr std::chrono::seconds settling{1};
constexpr int64_t rows = 60'000, width = 784, batch_size = 64;

struct Job {
  std::string what;
  std::filesystem::path folder;
  int64_t workers = 0;
  double seconds = 1;
};

double seconds_since(Clock::time_point start) {
  return troupe::bench::microseconds_since(start) / 1e6;
}

std::shared_ptr<transforms::Compose> crop_and_normalize(bool is_photo) {
  const transforms::Normalize normalize({0.485, 0.456, 0.406}, {0.229, 0.224, 0.225});
  if (is_photo) {
    return std::make_shared<transforms::Compose>(transforms::RandomResizedCrop(224), transforms::RandomHorizontalFlip(),
                                                 transforms::ToFloat(), normalize);
  }
  return std::make_shared<transforms::Compose>(transforms::RandomCrop(64, {.padding = 4}),
                                               transforms::RandomHorizontalFlip(), transforms::ToFloat(), normalize);
}

troupe::Batch made_tensors() {
  return {torch::rand({rows, width}), torch::randint(10, {rows})};
}

troupe::DataLoader loader_of(const Job& job) {
  troupe::DataLoaderOptions options{.batch_size = batch_size, .shuffle = true, .num_workers = job.workers};
  if (job.what == "tensors") return {std::make_shared<troupe::TensorDataset>(made_tensors()), options};
  if (job.what == "tokens") {
    return {std::make_shared<troupe::TokenDataset>(
                std::vector<std::filesystem::path>{job.folder / "tokens.bin"}, 1024,
                troupe::TokenDatasetOptions{.stride = 1, .type = troupe::TokenType::uint16}),
            options};
  }
  if (job.what == "shards" || job.what == "resumed" || job.what == "fresh") {
    const auto data = std::make_shared<troupe::TarDataset>((job.folder / "shards").string(),
                                                           troupe::TarOptions{.transform = crop_and_normalize(true)});
    options.shuffle = false;
    options.sampler = data->shuffled(200);
    return {data, options};
  }
  const auto part = job.what == "jpeg" || job.what == "png" ? job.what : "paths";
  return {std::make_shared<troupe::ImageFolder>(
              job.folder / part, troupe::ImageFolderOptions{.transform = crop_and_normalize(part == "jpeg")}),
          options};
}

/// Samples a second, from the first batch on.
double rate(const Job& job) {
  LoadingConsumer consumer(loader_of(job));
  consumer.take(1, [](const troupe::Batch&) {});
  int64_t samples = 0;
  const auto start = Clock::now();
  while (seconds_since(start) < job.seconds) {
    consumer.take(8, [&](const troupe::Batch& batch) { samples += batch[0].size(0); });
  }
  return static_cast<double>(samples) / seconds_since(start);
}

double bare_rate(const Job& job) {
  const auto data = made_tensors();
  int64_t samples = 0, at = rows;
  torch::Tensor order;
  const auto start = Clock::now();
  while (seconds_since(start) < job.seconds) {
    if (at + batch_size > rows) order = torch::randperm(rows), at = 0;
    const auto chosen = order.narrow(0, at, batch_size);
    samples += data[0].index_select(0, chosen).size(0);
    (void)data[1].index_select(0, chosen);
    at += batch_size;
  }
  return static_cast<double>(samples) / seconds_since(start);
}

/// Memory of this process that no file backs, in bytes, as bench/peers/loading_common.py counts it.
int64_t own_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Pss_Anon:")) return std::stoll(line.substr(std::size("Pss_Anon:") - 1)) * 1024;
  }
  throw std::runtime_error("/proc/self/smaps_rollup has no Pss_Anon");
}

nlohmann::ordered_json start_with_many_paths(const Job& job) {
  const auto start = Clock::now();
  const auto loader = loader_of(job);
  const int64_t before = own_bytes();
  LoadingConsumer consumer(loader);
  consumer.take(1, [](const troupe::Batch&) {});
  const double first = seconds_since(start);
  const auto begin = Clock::now();
  int64_t waiting = 0;  // bytes of the batches that wait for the training once nobody takes them
  while (seconds_since(begin) < job.seconds) {
    consumer.take(1, [&](const troupe::Batch& batch) { waiting = batch.bytes() * loader.options().prefetch; });
  }
  std::this_thread::sleep_for(settling);
  const auto came = static_cast<double>(own_bytes() - before - waiting);
  return {{"start_s", first},
          {"fetcher_mb", came / static_cast<double>(std::max<int64_t>(1, job.workers)) / (1 << 20)}};
}

/// Milliseconds from the opening of an epoch to its first batch, the least of several.
double first_batch_ms(const Job& job, double part) {
  const auto loader = loader_of(job);
  const auto position = static_cast<int64_t>(part * static_cast<double>(*loader.batch_count()));
  LoadingConsumer consumer(loader);
  consumer.take(1, [](const troupe::Batch&) {});
  double least = 1e9;
  const auto begin = Clock::now();
  while (seconds_since(begin) < job.seconds) {
    const auto start = Clock::now();
    consumer.open(position);
    consumer.take(1, [](const troupe::Batch&) {});
    least = std::min(least, seconds_since(start) * 1e3);
  }
  return least;
}

nlohmann::ordered_json result_of(const Job& job) {
  if (job.what == "paths") return start_with_many_paths(job);
  if (job.what == "resumed") return {{"first_ms", first_batch_ms(job, 0.9)}};
  if (job.what == "fresh") return {{"first_ms", first_batch_ms(job, 0)}};
  return {{"samples", job.what == "bare" ? bare_rate(job) : rate(job)}};
}

void measure(const std::vector<std::string>& words) {
  const std::vector<std::string> known = {"tensors", "bare",  "jpeg",    "png",  "shards",
                                          "tokens",  "paths", "resumed", "fresh"};
  if (std::ranges::find(known, words[0]) == known.end()) {
    throw troupe::UsageError("there is no case " + troupe::shown(words[0]) + "; did you mean " +
                             troupe::nearest(words[0], known) + "?");
  }
  const auto seconds = troupe::number_from_text<double>(words[3]);
  if (!seconds || !(*seconds > 0))
    throw troupe::UsageError("SECONDS is " + troupe::shown(words[3]) + ", no number above 0");
  troupe::use_one_compute_thread();
  troupe::keep_freed_memory();  // as a run does
  troupe::bench::print_cell(result_of({words[0], words[1], troupe::bench::count_of(words[2], 0), *seconds}));
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "loading CASE FOLDER WORKERS SECONDS", 4, 4, measure);
}
