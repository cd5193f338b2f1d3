// What soak_test.sh runs for thousands of steps: training with two fetchers, validation, a metric, both sinks and
// checkpoints. It prints how much memory stays resident after a tenth of them and at the end.
#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace troupe {
namespace {

struct SoakOptions {
  int64_t hidden = 32;
};
TROUPE_OPTIONS(SoakOptions, (hidden, "units"))

// In KiB.
int64_t resident_memory() {
  long size = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    (void)!std::fscanf(file, "%ld %ld", &size, &resident);
    std::fclose(file);
  }
  return resident * sysconf(_SC_PAGESIZE) / 1024;
}

int64_t median(std::vector<int64_t> values) {
  std::ranges::sort(values);
  return values.at(values.size() / 2);
}

class Soaked : public ModuleWith<SoakOptions> {
 public:
  explicit Soaked(const SoakOptions& options) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(16, options.hidden), nn::BatchNorm1d(options.hidden),
                                                 nn::ReLU(), nn::Dropout(0.1), nn::Linear(options.hidden, 4)));
    accuracy_ = register_metric("accuracy", metrics::Accuracy({.task = metrics::Task::multiclass, .num_classes = 4}));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = torch::cross_entropy_loss(forward(batch[0]), batch[1]);
    log("train_loss", loss, {.on_step = true, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    const auto y = forward(batch[0]);
    accuracy_.update(y, batch[1]);
    log("val_accuracy", accuracy_);
    log("val_loss", torch::cross_entropy_loss(y, batch[1]));
    return {};
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    const int64_t every = std::max<int64_t>(1, trainer().options().max_steps / 500);
    if (trainer().progress().global_step % every == 0) samples_.push_back(resident_memory());
  }
  // Medians of the samples between 8 and 12 %, and of the last 4 %: a single one may hit a checkpoint being written.
  void on_train_end() override {
    if (trainer().global_rank() > 0) return;
    const auto at = [&](double share) { return samples_.begin() + static_cast<int64_t>(share * samples_.size()); };
    const int64_t tenth = median({at(0.08), at(0.12)}), end = median({at(0.96), samples_.end()});
    print("resident KiB after a tenth", tenth, "at the end", end, "growth in per cent",
          100.0 * static_cast<double>(end - tenth) / static_cast<double>(tenth));
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters()); }
  DataLoaders train_dataloader() override { return data(4000, true); }
  DataLoaders val_dataloader() override { return data(320, false); }

 private:
  static DataLoader data(int64_t count, bool trains) {
    const auto x = torch::arange(count * 16, torch::kFloat32).view({count, 16}).mul(0.37).sin();
    return {std::make_shared<TensorDataset>(x, x.slice(1, 0, 4).argmax(1)),
            {.batch_size = 16, .shuffle = trains, .num_workers = trains ? 2 : 0}};
  }
  torch::nn::Sequential net_{nullptr};
  MetricHolder<metrics::Accuracy> accuracy_;
  std::vector<int64_t> samples_;
};

}  // namespace
}  // namespace troupe

int main(int argc, char** argv) {
  troupe::TrainerOptions options{.max_steps = 20000, .val_check_interval = 100, .log_every_n_steps = 10, .seed = 5};
  options.enable_progress_bar = options.enable_model_summary = false;
  options.callbacks = {std::make_shared<troupe::ModelCheckpoint>(
      troupe::ModelCheckpointOptions{.save_top_k = 2, .save_last = true, .every_n_train_steps = 200})};
  return troupe::main<troupe::Soaked>(argc, argv, {.trainer = options});
}
