// Our side of the benchmark `weights`: how fast weights come out of files.
//
//     weights make MEGABYTES FOLDER      writes the files that the cases read
//     weights CASE FOLDER REPEATS
//
// CASE is `whole` (one safetensors file), `sharded` (ten and an index), `selective` (a sixth of the tensors of the
// whole file) or `pth` (a file of torch.save). Each time all tensors are made and then copied, one after another, into
// the same memory, so that every byte of the file is read once. A line of JSON has the middle of REPEATS: what a
// gigabyte of tensors takes ("ms_per_gb"), and how long it takes until the tensors are there ("open_ms"). The files are
// in the system's cache, since they were read once before.
#include "bench/cells.hpp"

#include <troupe/base/nearest.hpp>
#include <troupe/base/text.hpp>
#include <troupe/runtime/process/compute_threads.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::NamedTensors;
using troupe::bench::microseconds_since;
namespace fs = std::filesystem;

constexpr int64_t width = 2048;  // 16.8 MB in a layer's weight

/// Layers with a large weight and a small bias.
NamedTensors made_weights(int64_t megabytes) {
  const int64_t layer_bytes = width * width * 4;
  const auto layers = std::max<int64_t>(1, megabytes * 1'000'000 / layer_bytes);
  NamedTensors out;
  for (int64_t i = 0; i < layers; ++i) {
    const auto name = "layers." + std::to_string(i);
    out.emplace_back(name + ".weight", torch::rand({width, width}));
    out.emplace_back(name + ".bias", torch::rand({width}));
  }
  return out;
}

void make_files(int64_t megabytes, const fs::path& folder) {
  const auto weights = made_weights(megabytes);
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : weights) bytes += tensor.nbytes();
  troupe::write_sharded_safetensors(weights, folder / "whole", {.max_shard_bytes = bytes, .overwrite = true});
  troupe::write_sharded_safetensors(weights, folder / "sharded",
                                    {.max_shard_bytes = std::max<uint64_t>(1, bytes / 10), .overwrite = true});
  troupe::write_pth(weights, folder / "weights.pth");
}

NamedTensors load(const std::string& what, const fs::path& folder) {
  if (what == "pth") return troupe::pth_weights(folder / "weights.pth");
  const troupe::ShardedSafetensors file(folder / (what == "sharded" ? "sharded" : "whole"));
  return what == "selective" ? file.read_matching("layers.?.*") : file.read_all();
}

struct Loaded {
  double open_us = 0, all_us = 0, bytes = 0;
};

Loaded load_once(const std::string& what, const fs::path& folder, torch::Tensor& memory) {
  const auto start = Clock::now();
  const auto weights = load(what, folder);
  Loaded loaded{.open_us = microseconds_since(start)};
  for (const auto& [name, tensor] : weights) {
    memory.narrow(0, 0, tensor.numel()).copy_(tensor.view(-1));
    loaded.bytes += static_cast<double>(tensor.nbytes());
  }
  loaded.all_us = microseconds_since(start);
  return loaded;
}

void measure(const std::vector<std::string>& words) {
  const std::vector<std::string> known = {"make", "whole", "sharded", "selective", "pth"};
  if (std::ranges::find(known, words[0]) == known.end()) {
    throw troupe::UsageError("there is no case " + troupe::shown(words[0]) + "; did you mean " +
                             troupe::nearest(words[0], known) + "?");
  }
  troupe::use_one_compute_thread();
  const torch::NoGradGuard no_gradients;
  if (words[0] == "make") return make_files(troupe::bench::count_of(words[1]), words[2]);
  auto memory = torch::zeros({width * width});
  load_once(words[0], words[1], memory);
  std::vector<double> open_ms, ms_per_gb;
  for (int64_t i = troupe::bench::count_of(words[2]); i > 0; --i) {
    const auto loaded = load_once(words[0], words[1], memory);
    open_ms.push_back(loaded.open_us / 1e3);
    ms_per_gb.push_back(loaded.all_us / 1e3 / (loaded.bytes / 1e9));
  }
  troupe::bench::print_cell(
      {{"ms_per_gb", troupe::bench::median(ms_per_gb)}, {"open_ms", troupe::bench::median(open_ms)}});
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "weights make MEGABYTES FOLDER | CASE FOLDER REPEATS", 3, 3, measure);
}
