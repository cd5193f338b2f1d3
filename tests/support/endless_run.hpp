// A fit that goes on until somebody ends it, on a thread of its own.
#pragma once

#include "tests/support/lines.hpp"

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>

namespace troupe {

class EndlessRun {
 public:
  /// Below `root`, as line/version_0; it has begun to train when this returns. Validates when it is asked to.
  explicit EndlessRun(const std::filesystem::path& root, TrainerOptions options = {}) {
    options.name = "line";
    options.default_root_dir = root;
    options.max_epochs = -1;
    options.seed = 7;
    options.log_every_n_steps = 1;
    options.check_val_every_n_epoch = 1'000'000;
    options.num_sanity_val_steps = 0;
    options.enable_progress_bar = options.enable_model_summary = false;
    options.callbacks.push_back(std::make_shared<Begins>(begun_));
    options.callbacks.push_back(std::make_shared<LearningRateMonitor>());
    auto begun = begun_.get_future();
    trainer_ = std::make_unique<Trainer>(options);
    run_ = std::async(std::launch::async, [this] { trainer_->fit<Line>({.lr = 0.01}, points(), points(16, false)); });
    while (begun.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
      const bool has_ended = run_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
      if (has_ended) run_.get();  // what it throws
    }
    folder_ = trainer_->run_dir();
  }
  ~EndlessRun() {
    trainer_->request_stop("the test is over");
    if (run_.valid()) run_.wait();
  }
  EndlessRun(const EndlessRun&) = delete;
  EndlessRun& operator=(const EndlessRun&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  /// Waits for the end; throws what the fit throws.
  Trainer& ended() {
    run_.get();
    return *trainer_;
  }
  Trainer& trainer() { return *trainer_; }

 private:
  struct Begins : Callback {
    explicit Begins(std::promise<void>& promise) : begun(promise) {}
    void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override {
      if (!std::exchange(has_begun, true)) begun.set_value();
    }
    std::promise<void>& begun;
    bool has_begun = false;
  };

  std::promise<void> begun_;
  std::filesystem::path folder_;
  std::unique_ptr<Trainer> trainer_;
  std::future<void> run_;
};

}  // namespace troupe
