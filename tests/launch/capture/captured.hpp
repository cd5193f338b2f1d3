// Runs whose steps are captured, held against runs whose steps are not.
#pragma once

#include "tests/support/lines.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// All that a run leaves behind and that a captured step may not change.
struct Left {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;  ///< parameters, buffers, states of optimizers, a draw
  std::vector<std::pair<std::string, double>> metrics;         ///< all that sinks got, in order
};

/// Equal to the bit, NaNs too.
inline void expect_same(const Left& a, const Left& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    ASSERT_EQ(a.tensors[i].first, b.tensors[i].first);
    const auto &x = a.tensors[i].second, &y = b.tensors[i].second;
    ASSERT_EQ(x.sizes(), y.sizes()) << a.tensors[i].first;
    EXPECT_TRUE(has_same_bits(x, y)) << a.tensors[i].first << " differs by "
                                     << (x.to(torch::kDouble) - y.to(torch::kDouble)).abs().max().item<double>();
  }
  ASSERT_EQ(a.metrics.size(), b.metrics.size());
  for (std::size_t i = 0; i < a.metrics.size(); ++i) {
    EXPECT_EQ(a.metrics[i].first, b.metrics[i].first);
    EXPECT_EQ(std::memcmp(&a.metrics[i].second, &b.metrics[i].second, sizeof(double)), 0)
        << a.metrics[i].first << " at " << i << ": " << a.metrics[i].second << " and " << b.metrics[i].second;
  }
}

/// Keeps what is logged.
struct KeptMetrics : Sink {
  std::string name() const override { return "kept"; }
  void flush() override {}
  void write(const Record& record) override {
    if (const auto* scalars = std::get_if<ScalarsRecord>(&record)) {
      values.insert(values.end(), scalars->values.begin(), scalars->values.end());
    }
  }
  std::vector<std::pair<std::string, double>> values;
};

/// Looks at optimizers before they are gone.
struct KeptStates : Callback {
  void on_fit_end(RunContext& run, Module&) override {
    for (auto& optimizer : run.optimizers()) {
      for (auto& group : optimizer->param_groups()) {
        for (auto& parameter : group.params()) {
          if (auto* adam = dynamic_cast<optim::FusedAdam*>(optimizer.get())) {
            if (const auto state = adam->state(0, &parameter - group.params().data())) {
              for (const auto& each : *state) {
                if (each.defined()) states.emplace_back("state", each.clone());
              }
            }
          }
        }
      }
    }
    states.emplace_back("draw", torch::rand({4}));
  }
  std::vector<std::pair<std::string, torch::Tensor>> states;
};

class CapturedStep : public ::testing::Test {
 protected:
  using Make = std::function<std::shared_ptr<Module>()>;

  TrainerOptions options() const {
    auto options = quiet(dir_);
    options.max_epochs = 2;
    options.accelerator = Accelerator::cpu;
    options.num_threads = 1;
    options.seed = 7;
    options.log_every_n_steps = 1;
    options.enable_checkpointing = false;
    return options;
  }
  Left run(const Make& make, const DataLoader& loader, TrainerOptions options, CaptureStep capture) const {
    const auto metrics = std::make_shared<KeptMetrics>();
    const auto states = std::make_shared<KeptStates>();
    options.capture_step = capture;
    if (capture == CaptureStep::off) options.capture_step_dump.clear();  // nothing is captured, and it is refused
    options.loggers = {};
    options.sinks = {metrics};
    options.callbacks.push_back(states);
    torch::manual_seed(3);
    Trainer trainer(options);
    const auto module = trainer.fit(make(), loader, has_validation ? DataLoaders(loader) : DataLoaders());
    captured = trainer.captured();
    Left left;
    for (const auto& item : module->named_parameters()) left.tensors.emplace_back(item.key(), item.value().detach());
    for (const auto& item : module->named_buffers()) left.tensors.emplace_back(item.key(), item.value());
    left.tensors.insert(left.tensors.end(), states->states.begin(), states->states.end());
    left.metrics = metrics->values;
    return left;
  }
  /// Captured steps are those of a plain run.
  void expect_captured(const Make& make, const DataLoader& loader, const TrainerOptions& options) const {
    const Left plain = run(make, loader, options, CaptureStep::off);
    expect_same(plain, run(make, loader, options, CaptureStep::require));
    EXPECT_GT(captured.replays(), 0);
    auto checked = options;
    checked.capture_step_check_every = 2;
    expect_same(plain, run(make, loader, checked, CaptureStep::check));
  }

  TempDir dir_;
  bool has_validation = false;
  mutable CapturedSteps captured;  ///< of the latest run
};

}  // namespace troupe
