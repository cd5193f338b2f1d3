// What a training waits for its validations, in turn and beside it.
//
//     async_validation [ROUNDS [STEPS [EPOCHS]]]     for bench/run async_validation
//
// The MLP 784-256-10 b64 with Adam. A validation has as many batches as make it as long as an epoch of training, which
// is measured first. "none" has no validation, "turn" validates at the end of each epoch, "beside" does so with
// trainer.async_validation; they alternate in one process, with one compute thread for the training and one for the
// validation. The time of a fit is that from its first training batch to the end of its last one: between them lie
// EPOCHS - 1 validations. "ms" is that time, less the time of "none", for each validation.
#include "bench/cells.hpp"
#include "bench/made_batches.hpp"
#include "bench/mlp.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::bench::MadeBatches;

constexpr int64_t hidden = 256, batch_size = 64;

struct TimedMlpOptions {
  int64_t hidden = 256;
};
TROUPE_OPTIONS(TimedMlpOptions, (hidden, "width of the hidden layer"))

class TimedMlp : public troupe::ModuleWith<TimedMlpOptions> {
 public:
  explicit TimedMlp(TimedMlpOptions options) : ModuleWith(options) {
    net_ = register_module("net", std::make_shared<troupe::bench::MlpNet>(this->options().hidden));
  }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    if (began == Clock::time_point()) began = Clock::now();
    return loss(batch);
  }
  void on_train_batch_end(const troupe::StepOutput&, const troupe::Batch&, int64_t) override { ended = Clock::now(); }
  troupe::StepOutput validation_step(const troupe::Batch& batch, int64_t) override {
    log("val_loss", loss(batch));
    return {};
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters()); }

  double milliseconds() const { return std::chrono::duration<double, std::milli>(ended - began).count(); }

  Clock::time_point began, ended;  // of the training's batches

 private:
  torch::Tensor loss(const troupe::Batch& batch) {
    auto [x, y] = batch.get<2>();
    return torch::nn::functional::cross_entropy(net_->forward(x), y);
  }

  std::shared_ptr<troupe::bench::MlpNet> net_;
};

enum class Way { none, turn, beside };

struct Setting {
  int64_t steps = 0, epochs = 0;
  std::filesystem::path folder;
};

std::shared_ptr<MadeBatches> batches(int64_t steps) {
  const auto make = [] { return troupe::Batch{torch::randn({batch_size, 784}), torch::randint(10, {batch_size})}; };
  return std::make_shared<MadeBatches>(make, steps);
}

double fit_ms(const Setting& setting, int64_t val_batches, Way way) {
  troupe::TrainerOptions options{.max_epochs = setting.epochs, .seed = 1, .num_threads = 1};
  options.default_root_dir = setting.folder;
  options.enable_checkpointing = options.logger = false;
  options.num_sanity_val_steps = 0;
  options.quiet = true;
  options.async_validation = way == Way::beside;
  if (way == Way::none) options.limit_val_batches = 0;
  const auto loader = [](int64_t steps) { return troupe::DataLoader(batches(steps), {.batch_size = batch_size}); };
  troupe::Trainer trainer(options);
  return trainer.fit<TimedMlp>(TimedMlpOptions{hidden}, loader(setting.steps), loader(val_batches))->milliseconds();
}

// Batches that make a validation as long as an epoch of training.
int64_t batches_of_validation(const Setting& setting) {
  const Setting short_fit{setting.steps, 3, setting.folder};
  const double training = fit_ms(short_fit, 1, Way::none) / static_cast<double>(short_fit.epochs);
  const double validation = (fit_ms(short_fit, setting.steps, Way::turn) - training * 3) / 2;
  const double wanted = static_cast<double>(setting.steps) * training / std::max(validation, 0.05 * training);
  return std::max<int64_t>(1, std::llround(wanted));
}

void measure(int64_t rounds, const Setting& setting) {
  const int64_t val_batches = batches_of_validation(setting);
  std::map<Way, std::vector<double>> times;
  for (int64_t round = -1; round < rounds; ++round) {  // a round to warm up
    for (const Way way : {Way::none, Way::turn, Way::beside}) {
      const double ms = fit_ms(setting, val_batches, way);
      if (round >= 0) times[way].push_back(ms);
    }
  }
  const auto validations = static_cast<double>(setting.epochs - 1);
  const double alone = troupe::bench::median(times[Way::none]);
  // A ratio of numbers around nothing says nothing.
  const auto waited = [&](Way way) {
    return std::max(0.01, (troupe::bench::median(times[way]) - alone) / validations);
  };
  troupe::bench::print_cell({{"who", "epoch"}, {"ms", alone / static_cast<double>(setting.epochs)}});
  troupe::bench::print_cell({{"who", "turn"}, {"ms", waited(Way::turn)}});
  troupe::bench::print_cell({{"who", "beside"}, {"ms", waited(Way::beside)}});
}

}  // namespace

int main(int argc, char** argv) {
  using troupe::bench::count_of;
  return troupe::bench::run_cells(
      argc, argv, "async_validation [ROUNDS [STEPS [EPOCHS]]]", 0, 3, [](const auto& words) {
        const troupe::bench::RunFolder folder;
        measure(
            words.size() > 0 ? count_of(words[0]) : 3,
            {words.size() > 1 ? count_of(words[1]) : 400, words.size() > 2 ? count_of(words[2], 2) : 6, folder.path()});
      });
}
