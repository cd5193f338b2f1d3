// How long a checkpoint holds the training, and a copy of the run's state into memory that is there, for
// bench/run checkpoint.
//
//     checkpoint LAYERS WIDTH [SAVES]
//
// A linear stack with Adam trains; every fifth step a checkpoint is due, and the one before is on the disk by then.
// "ours" is the time between the end of that batch and the start of the next one, less what it is without a checkpoint.
// "copy" is a plain copy of parameters and moments on the same thread, once before each of them. Milliseconds; the
// middle of SAVES.
#include "bench/cells.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Case {
  int64_t layers;
  int64_t width;
};

constexpr int64_t every = 5;    // steps from one checkpoint to the next
constexpr int64_t warm_up = 2;  // the first checkpoints: new memory is touched in them

std::atomic<int64_t> saved{0};

class Stack : public troupe::Module {
 public:
  explicit Stack(const Case& c) {
    for (int64_t i = 0; i < c.layers; ++i) {
      layers_.push_back(register_module("layer" + std::to_string(i), torch::nn::Linear(c.width, c.width)));
    }
  }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t batch_idx) override {
    if (batch_idx % every == every - 1) {
      // Nothing is being written while the time is taken.
      for (int64_t before = saved; before < batch_idx / every; before = saved) saved.wait(before);
      copies.push_back(seconds_of_copy());
    }
    auto x = batch[0];
    for (auto& layer : layers_) x = layer(x);
    return x.mean();
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters(), {.lr = 1e-6}); }
  void on_train_batch_end(const troupe::StepOutput&, const troupe::Batch&, int64_t) override { end_ = Clock::now(); }
  troupe::EpochControl on_train_batch_start(const troupe::Batch&, int64_t batch_idx) override {
    const double took = std::chrono::duration<double>(Clock::now() - end_).count();
    if (batch_idx > 0) (batch_idx % every == 0 ? held : plain).push_back(took);
    return troupe::EpochControl::proceed;
  }

  std::vector<double> held, plain, copies;

 private:
  double seconds_of_copy() {
    const torch::NoGradGuard no_gradients;
    if (kept_.empty()) {
      // As much as Adam has: the parameters and two moments.
      for (int i = 0; i < 3; ++i) {
        for (const auto& parameter : parameters()) kept_.push_back(torch::zeros_like(parameter));
      }
    }
    const auto all = parameters();
    const auto start = Clock::now();
    for (std::size_t i = 0; i < kept_.size(); ++i) kept_[i].copy_(all[i % all.size()]);
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  std::vector<torch::nn::Linear> layers_;
  std::vector<torch::Tensor> kept_;
  Clock::time_point end_;
};

void measure(const Case& c, int64_t saves) {
  saves += warm_up;
  const troupe::bench::RunFolder folder;
  troupe::TrainerOptions options{.max_epochs = 1, .seed = 1, .num_threads = 1, .default_root_dir = folder.path()};
  options.enable_progress_bar = options.enable_model_summary = options.logger = false;
  options.callbacks = {std::make_shared<troupe::ModelCheckpoint>(
      troupe::ModelCheckpointOptions{.save_top_k = 1, .every_n_train_steps = every})};
  troupe::Trainer trainer(options);
  trainer.add_actor("saved", troupe::on_events([](const troupe::CheckpointSaved&, troupe::RunHandle&) {
                      ++saved;
                      saved.notify_all();
                    }));
  const auto data = std::make_shared<troupe::TensorDataset>(torch::ones({every * saves + 1, c.width}));
  const auto model = trainer.fit(std::make_shared<Stack>(c), troupe::DataLoader(data, {.batch_size = 1}));
  const auto after_warm_up = [](const std::vector<double>& all) {
    return troupe::bench::median({all.begin() + warm_up, all.end()}) * 1e3;
  };
  const double usual = troupe::bench::median(model->plain) * 1e3;
  troupe::bench::print_cell({{"who", "ours"}, {"ms", after_warm_up(model->held) - usual}});
  troupe::bench::print_cell({{"who", "copy"}, {"ms", after_warm_up(model->copies)}});
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run_cells(argc, argv, "checkpoint LAYERS WIDTH [SAVES]", 2, 3, [](const auto& words) {
    const Case c = {troupe::bench::count_of(words[0]), troupe::bench::count_of(words[1])};
    measure(c, words.size() == 3 ? troupe::bench::count_of(words[2]) : 20);
  });
}
