// Captured steps (trainer.capture_step) of the examples' models against the same steps in a bare LibTorch loop.
//
// Both sides: the same training_step, batches made beforehand, AdamW on LibTorch's fused kernel, one compute thread, a
// thread of their own. They run alternately, an epoch each; a sample is the mean time of a step of one epoch.
// `captured --profile FILE` writes the programs with the time of each operator instead.
#include "bench/made_batches.hpp"
#include "bench/table.hpp"
#include "examples/char_rnn/char_rnn.hpp"
#include "examples/digits/digits.hpp"
#include "examples/gpt/gpt.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>

#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::bench::MadeBatches;
using MakeBatch = std::function<troupe::Batch()>;

// An example's model with the bench's optimizer.
template <class M>
struct Timed : M {
  using M::M;
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adamw(this->parameters()); }
  void on_train_epoch_start() override { start = Clock::now(); }
  void on_train_epoch_end() override { seconds = std::chrono::duration<double>(Clock::now() - start).count(); }
  Clock::time_point start;
  double seconds = 0;
};

template <class M>
torch::Tensor loss_of(M& model, const troupe::Batch& batch, int64_t step) {
  if constexpr (std::is_base_of_v<CharRnn, M>) {
    return model.training_step(batch, step, troupe::StepOutput()).loss();
  } else {
    return model.training_step(batch, step).loss();
  }
}

struct Case {
  std::string name;
  double bar;  ///< of the bare step's time
  int64_t steps;
  MakeBatch make_batch;
  /// Microseconds per step.
  std::function<double(const Case&, const std::shared_ptr<MadeBatches>&, const troupe::TrainerOptions&)> captured;
  std::function<double(const Case&, const MadeBatches&)> bare;
};

template <class M, class O>
Case case_of(std::string name, double bar, int64_t steps, O options, MakeBatch make_batch) {
  const auto captured = [options](const Case& c, const std::shared_ptr<MadeBatches>& data,
                                  const troupe::TrainerOptions& o) {
    troupe::Trainer trainer(o);
    const auto model =
        trainer.fit(std::make_shared<Timed<M>>(options), troupe::DataLoader(data, {.batch_size = data->batch_size()}));
    return model->seconds / static_cast<double>(c.steps) * 1e6;
  };
  const auto bare = [options](const Case& c, const MadeBatches& data) {
    double seconds = 0;
    Timed<M> model(options);
    std::thread([&] {
      torch::set_num_threads(1);
      auto optimizer = troupe::optim::adamw(model.parameters());
      const auto start = Clock::now();
      for (int64_t step = 0; step < c.steps; ++step) {
        auto loss = loss_of(model, data.batch(step), step);
        optimizer->zero_grad();
        loss.backward();
        optimizer->step();
      }
      seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }).join();
    return seconds / static_cast<double>(c.steps) * 1e6;
  };
  return {std::move(name), bar, steps, std::move(make_batch), captured, bare};
}

std::shared_ptr<MadeBatches> batches_of(const Case& c) {
  return std::make_shared<MadeBatches>(c.make_batch, c.steps, /*count=*/16);
}

std::vector<Case> cases() {
  const auto text = [](int64_t size, int64_t length) {
    return [=] {
      const auto bytes = torch::randint(256, {size, length + 1});
      return troupe::Batch{{"input", bytes.slice(1, 0, length).contiguous()},
                           {"target", bytes.slice(1, 1).contiguous()}};
    };
  };
  const auto images = [] { return troupe::Batch{torch::randn({32, 1, 28, 28}), torch::randint(10, {32})}; };
  return {
      case_of<Gpt>("GPT 2 x 32, 8 x 32 tokens", 1 / 1.3, 400,
                   GptOptions{.layers = 2, .heads = 2, .width = 32, .context = 32, .dropout = 0}, text(8, 32)),
      case_of<CharRnn>("LSTM of char_rnn, 32 x 64 bytes", 1 / 1.1, 20, CharRnnOptions{.bptt = 64}, text(32, 64)),
      case_of<Digits>("CNN of digits, batch 32", 1 / 1.3, 60, DigitsOptions{}, images),
      case_of<Gpt>("GPT 4 x 128, 16 x 128 tokens", 1, 5, GptOptions{}, text(16, 128)),
  };
}

troupe::TrainerOptions options_in(const std::filesystem::path& folder) {
  troupe::TrainerOptions options{.max_epochs = 1, .seed = 1, .num_threads = 1, .default_root_dir = folder};
  options.capture_step = troupe::CaptureStep::require;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  return options;
}

troupe::bench::Row measure(const Case& c, const std::filesystem::path& folder) {
  constexpr int rounds = 11;
  const auto data = batches_of(c);
  std::vector<double> our_times, peer_times;
  for (int round = -1; round < rounds; ++round) {
    const double peer = c.bare(c, *data);
    const double own = c.captured(c, data, options_in(folder));
    if (round < 0) continue;  // a round to warm up
    peer_times.push_back(peer);
    our_times.push_back(own);
  }
  return troupe::bench::at_most(c.name, troupe::bench::summarize(our_times), troupe::bench::summarize(peer_times), "us",
                                c.bar);
}

}  // namespace

int main(int argc, char** argv) {
  torch::set_num_threads(1);
  const auto folder = std::filesystem::temp_directory_path() / ("troupe_captured_" + std::to_string(getpid()));
  const bool is_profile = argc == 3 && std::strcmp(argv[1], "--profile") == 0;
  if (is_profile) {
    int number = 0;
    for (const auto& c : cases()) {
      auto options = options_in(folder);
      options.capture_step_dump = std::string(argv[2]) + "." + std::to_string(number++);
      c.captured(c, batches_of(c), options);
    }
    std::filesystem::remove_all(folder);
    return 0;
  }
  return troupe::bench::run(argc, argv, "Captured steps against a bare LibTorch loop", [&] {
    std::vector<troupe::bench::Row> rows;
    for (const auto& c : cases()) rows.push_back(measure(c, folder));
    std::filesystem::remove_all(folder);
    return rows;
  });
}
