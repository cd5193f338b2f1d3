// What the strategies that divide the training's state cost and save: the time of a step, and the memory of a rank.
//
//     strategies [--devices N] [--quick]
//
// N devices of one process (2 unless given) train the models of rank_models.hpp and a deep MLP, the state of which is
// most of what it needs, with each strategy. A line has the model and the strategy, the median time of a step, and the
// most bytes that all of the process's tensors took at one time within the steps, divided by N. Strategies take turns,
// round by round, so that a slow moment hits all. --quick takes few steps; its times are worth nothing.
#include "bench/cells.hpp"
#include "bench/counted_memory.hpp"
#include "bench/rank_models.hpp"
#include "bench/table.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using troupe::Strategy;
using troupe::bench::CountedMemory;

// The most bytes are those of the steps from the second epoch on.
class Peak : public troupe::Callback {
 public:
  void on_train_epoch_start(troupe::RunContext& run, troupe::Module&) override {
    if (run.progress().epoch == 1) CountedMemory::begin_again();
  }
  void on_train_epoch_end(troupe::RunContext&, troupe::Module&) override { bytes = CountedMemory::most_bytes(); }
  int64_t bytes = 0;
};

struct DeepMlpOptions {
  int64_t layers = 16, width = 512;
};
TROUPE_OPTIONS(DeepMlpOptions, (layers, "hidden layers"), (width, "units of each"))

class DeepMlp : public troupe::ModuleWith<DeepMlpOptions> {
 public:
  explicit DeepMlp(const DeepMlpOptions& o) : ModuleWith(o) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(784, o.width)));
    for (int64_t i = 0; i < o.layers; ++i) {
      net_->push_back(nn::ReLU());
      net_->push_back(nn::Linear(o.width, o.width));
    }
    net_->push_back(nn::Linear(o.width, 10));
  }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    return torch::nn::functional::cross_entropy(net_->forward(batch[0]), batch[1]);
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters()); }

 private:
  torch::nn::Sequential net_{nullptr};
};

using Train = std::vector<double> (*)(troupe::TrainerOptions, int64_t ranks, troupe::bench::Amounts);

struct Model {
  std::string name;
  troupe::bench::Amounts amounts;
  Train train;
};

std::vector<Model> models() {
  std::vector<Model> all;
  for (const auto& each : troupe::bench::workloads()) all.push_back({each.name, each.amounts, each.train});
  all.push_back(
      {"deep MLP", {40, 3}, [](troupe::TrainerOptions options, int64_t ranks, troupe::bench::Amounts amounts) {
         return troupe::bench::train<DeepMlp>({}, std::move(options), ranks, amounts, troupe::bench::images);
       }});
  return all;
}

void compare(int64_t devices, bool quick) {
  const CountedMemory counted;
  const troupe::bench::RunFolder folder;
  const std::vector<Strategy> strategies = {Strategy::ddp, Strategy::zero, Strategy::zero2, Strategy::fsdp};
  for (const auto& model : models()) {
    std::map<Strategy, std::vector<double>> seconds;
    std::map<Strategy, int64_t> bytes;
    for (int round = 0; round < (quick ? 1 : 3); ++round) {
      for (const auto strategy : strategies) {
        const auto peak = std::make_shared<Peak>();
        troupe::TrainerOptions options;
        options.default_root_dir = folder.path();
        options.devices = devices;
        options.strategy = strategy;
        options.callbacks = {peak};
        const auto own = model.train(options, devices, quick ? troupe::bench::Amounts{3, 1} : model.amounts);
        seconds[strategy].insert(seconds[strategy].end(), own.begin(), own.end());
        bytes[strategy] = peak->bytes;
      }
    }
    const double ddp = troupe::bench::median(seconds[Strategy::ddp]);
    for (const auto strategy : strategies) {
      const double each = troupe::bench::median(seconds[strategy]);
      std::printf("%-9s %-6s %9.1f us  %4.2f x ddp  %7.2f MiB per rank\n", model.name.c_str(),
                  troupe::name_of(strategy).c_str(), each * 1e6, each / ddp,
                  static_cast<double>(bytes[strategy]) / static_cast<double>(devices) / (1 << 20));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int64_t devices = 2;
  bool quick = false;
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == std::string_view("--quick")) {
      quick = true;
    } else if (argv[i] == std::string_view("--devices") && i + 1 < argc) {
      devices = std::max(2, std::atoi(argv[++i]));
    } else {
      std::fprintf(stderr, "strategies: '%s' is not known; use --devices N or --quick\n", argv[i]);
      return 2;
    }
  }
  try {
    compare(devices, quick);
    return 0;
  } catch (const troupe::bench::Interrupted& interrupted) {
    std::fprintf(stderr, "strategies: %s\n", interrupted.what());
    return 128 + interrupted.signal;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "strategies: %s\n", error.what());
    return 1;
  }
}
