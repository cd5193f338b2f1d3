// Steps with manual optimization that are captured, against the same steps that are not: equal to the bit.
#include "tests/launch/capture/captured.hpp"
#include "tests/support/file_content.hpp"

#include <gmock/gmock.h>

#include <random>

namespace troupe {
namespace {

namespace F = torch::nn::functional;
using ::testing::ElementsAre, ::testing::HasSubstr;

struct ByHand : Module {
  explicit ByHand(double dropout_in = 0) : dropout(dropout_in) {
    first = register_module("first", torch::nn::Linear(20, 16));
    norm = register_module("norm", torch::nn::BatchNorm1d(16));
    second = register_module("second", torch::nn::Linear(16, 10));
    automatic_optimization = false;
  }
  torch::Tensor loss_of(const Batch& batch) {
    const auto hidden = torch::relu(norm(first(batch[0])));
    return F::cross_entropy(second(torch::dropout(hidden, dropout, is_training())), batch[1]);
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto loss = loss_of(batch);
    log("loss", loss, {.on_epoch = true});
    go(loss, batch_idx);
    return loss;
  }
  virtual void go(const torch::Tensor& loss, int64_t) {
    optimizer().zero_grad();
    manual_backward(loss);
    optimizer().step();
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }

  double dropout;
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

template <class M, class... Arguments>
auto by_hand(Arguments... arguments) {
  return [=] { return std::make_shared<M>(arguments...); };
}

DataLoader rows(int64_t samples, int64_t batch_size = 8) {
  torch::manual_seed(1);
  return {std::make_shared<TensorDataset>(torch::randn({samples, 20}), torch::randint(10, {samples})),
          {.batch_size = batch_size, .shuffle = true}};
}

/// What `act` throws, as text.
std::string failure(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class ManualCapture : public CapturedStep {
 protected:
  /// The run is that of plain steps, and says why its steps are none that are captured.
  template <class Make>
  void expect_refused(const Make& make, const std::string& why) const {
    const Left plain = run(make, rows(64), options(), CaptureStep::off);
    expect_same(plain, run(make, rows(64), options(), CaptureStep::automatic));
    EXPECT_EQ(captured.replays(), 0);
    EXPECT_THAT(captured.refusals, ElementsAre(HasSubstr(why)));
    EXPECT_THAT(failure([&] { run(make, rows(64), options(), CaptureStep::require); }), HasSubstr(why));
  }
};

TEST_F(ManualCapture, IsThatOfOneOptimizer) {
  for (const auto precision : {Precision::float32, Precision::bfloat16_mixed, Precision::float16_mixed,
                               Precision::bfloat16_true, Precision::float64}) {
    auto how = options();
    how.precision = precision;
    expect_captured(by_hand<ByHand>(0.3), rows(70), how);
  }
}

// As each optimizer makes them; LibTorch's own too.
struct ByHandWith : ByHand {
  explicit ByHandWith(int which_in) : which(which_in) {}
  Optimizers configure_optimizers() override {
    switch (which) {
      case 0: return optim::sgd(parameters(), {.lr = 0.1, .momentum = 0.9, .nesterov = true});
      case 1: return optim::rmsprop(parameters(), {.lr = 0.01, .momentum = 0.5, .centered = true});
      case 2: return torch::optim::Adam(parameters(), 0.01);
      case 3: return torch::optim::SGD(parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
      case 4: return optim::schedule_free_adamw(*this);
      case 5: return optim::radam(*this);
      case 6: return optim::asgd(*this, {}, {.t0 = 3});
      default: return optim::adafactor(*this);
    }
  }
  int which;
};

TEST_F(ManualCapture, LeadsToTheStepsOfEveryOptimizer) {
  for (int which = 0; which < 8; ++which) expect_captured(by_hand<ByHandWith>(which), rows(70), options());
}

// What is scaled up until float16 cannot hold it: steps are left out, and the scale goes down.
struct Overflowing : ByHand {
  void go(const torch::Tensor& loss, int64_t batch_idx) override { ByHand::go(loss * 1e3, batch_idx); }
};

TEST_F(ManualCapture, LeavesOutStepsThatOverflow) {
  auto how = options();
  how.precision = Precision::float16_mixed;
  expect_captured(by_hand<Overflowing>(), rows(70), how);
}

// Gradients that are clipped, of two passes, dropped behind the step, all at once and as LibTorch does it.
struct Clipped : ByHand {
  explicit Clipped(GradientClipAlgorithm how_in, int zeroing_in) : how(how_in), zeroing(zeroing_in) {}
  void go(const torch::Tensor& loss, int64_t) override {
    if (zeroing == 0) optimizer().zero_grad();
    manual_backward(loss);
    manual_backward(0.1 * second->weight.square().sum() + first->bias.sum());
    clip_gradients(*optimizer(), 0.05, how);
    optimizer().step();
    if (zeroing == 1) optimizer().zero_grad();
    if (zeroing == 2) optimizer()->zero_grad();
    if (zeroing == 3) {
      for (const auto& parameter : parameters()) parameter.mutable_grad() = parameter.grad() * 0.5;
    }
    optimizer().step();
  }
  GradientClipAlgorithm how;
  int zeroing;
};

TEST_F(ManualCapture, ClipsAndAddsUpGradients) {
  for (const auto how : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
    for (int zeroing = 0; zeroing < 5; ++zeroing) expect_captured(by_hand<Clipped>(how, zeroing), rows(70), options());
  }
}

// A generator, a discriminator with weights that are bounded, and a penalty on its gradient.
struct Adversaries : Module {
  explicit Adversaries(bool toggles_in, bool has_penalty_in) : toggles(toggles_in), has_penalty(has_penalty_in) {
    generator = register_module("generator", torch::nn::Linear(4, 20));
    discriminator = register_module(
        "discriminator", torch::nn::Sequential(torch::nn::Linear(20, 8), torch::nn::Tanh(), torch::nn::Linear(8, 1)));
    automatic_optimization = false;
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [g, d] = optimizers<2>();
    {
      if (toggles) toggle_optimizer(0);
      const auto loss = -discriminator->forward(made(batch)).mean();
      log("g_loss", loss);
      g.zero_grad();
      manual_backward(loss);
      g.step();
      if (toggles) untoggle_optimizer(0);
    }
    std::optional<OptimizerHandle::Toggled> toggled;
    if (toggles) toggled.emplace(d);
    d.zero_grad();
    const auto fake = made(batch).detach();
    manual_backward(-discriminator->forward(batch[0]).mean());
    manual_backward(discriminator->forward(fake).mean());
    if (has_penalty) manual_backward(penalty(batch[0], fake));
    d.step();
    const torch::NoGradGuard no_gradients;
    for (auto& parameter : discriminator->parameters()) parameter.clamp_(-0.2, 0.2);
    return {};
  }
  torch::Tensor made(const Batch& batch) { return torch::tanh(generator(torch::randn({batch[0].size(0), 4}))); }
  torch::Tensor penalty(const torch::Tensor& real, const torch::Tensor& fake) {
    const auto share = torch::rand({real.size(0), 1});
    const auto between = (share * real + (1 - share) * fake).requires_grad_();
    const auto gradient =
        torch::autograd::grad({discriminator->forward(between).sum()}, {between}, {}, true, /*create_graph=*/true)[0];
    return 10 * (gradient.norm(2, 1) - 1).square().mean();
  }
  Optimizers configure_optimizers() override {
    return {optim::adam(generator->parameters(), {.lr = 0.01}),
            optim::rmsprop(discriminator->parameters(), {.lr = 0.02})};
  }

  bool toggles, has_penalty;
  torch::nn::Linear generator{nullptr};
  torch::nn::Sequential discriminator{nullptr};
};

TEST_F(ManualCapture, IsThatOfAdversaries) {
  for (const bool toggles : {false, true}) {
    for (const bool has_penalty : {false, true}) {
      expect_captured(by_hand<Adversaries>(toggles, has_penalty), rows(70), options());
    }
  }
}

// Schedulers that it steps itself, and hooks in between that look at gradients, change them and put others in their
// place.
struct Hooked : ByHand {
  explicit Hooked(int what_in) : ByHand(0.3), what(what_in) {}
  void go(const torch::Tensor& loss, int64_t batch_idx) override {
    ByHand::go(loss, batch_idx);
    lr_schedulers()[0]->step();
  }
  Optimizers configure_optimizers() override {
    auto optimizer = optim::adam(parameters(), {.lr = 0.01});
    return {optimizer, {.scheduler = lr_schedulers::one_cycle(optimizer, {.max_lr = {0.1}, .total_steps = 120})}};
  }
  // Within autocast, if there is one.
  void on_before_backward(const torch::Tensor& loss) override {
    losses.push_back(loss.detach() + torch::mm(second->weight, first->weight).sum().detach());
  }
  void on_after_backward() override {
    const torch::NoGradGuard no_gradients;
    auto& gradient = first->weight.mutable_grad();
    norms.push_back(gradient.norm());
    if (what == 1) gradient.mul_(0.5);
    if (what == 2) gradient = gradient * 0.5;
    if (what == 3) gradient.add_(torch::randn_like(gradient), 0.01);
    if (what == 4) gradient.reset();
  }
  void on_before_optimizer_step(torch::optim::Optimizer& optimizer, int64_t) override {
    rates.push_back(torch::tensor(optimizer.param_groups()[0].options().get_lr()));
    if (what == 5) second->bias.mutable_grad().zero_();
  }
  void training_epoch_end(const EpochOutputs& all) override {
    torch::Tensor sum = torch::zeros({});
    for (const auto& each : all) sum = sum + each["loss"];
    log("sum", sum);
    log("kept", (torch::stack(losses) * torch::stack(norms) * torch::stack(rates)).sum());
  }
  int what;
  std::vector<torch::Tensor> losses, norms, rates;
};

TEST_F(ManualCapture, HasItsHooksAndSchedulersAtTheirPlaces) {
  for (int what = 0; what < 6; ++what) {
    auto how = options();
    expect_captured(by_hand<Hooked>(what), rows(70), how);
    how.precision = what % 2 == 0 ? Precision::bfloat16_mixed : Precision::float16_mixed;
    expect_captured(by_hand<Hooked>(what), rows(70), how);
  }
}

TEST_F(ManualCapture, LeavesOutWhatNonfiniteLeavesOut) {
  struct Broken : ByHand {
    void go(const torch::Tensor& loss, int64_t batch_idx) override {
      ByHand::go(loss / (loss - 2.4).clamp_min(0), batch_idx);  // not finite once it is that small
    }
  };
  auto skipping = options();
  skipping.nonfinite = NonFinite::skip;
  skipping.max_skipped_steps = 100;
  expect_captured(by_hand<Broken>(), rows(70), skipping);
}

// A step after several batches, which the module says or does not say.
struct Windowed : ByHand {
  explicit Windowed(int64_t window_in, bool says_in, bool is_first_in = false)
      : window(window_in), says(says_in), is_first(is_first_in) {}
  void go(const torch::Tensor& loss, int64_t batch_idx) override {
    if (is_first && batch_idx % window == 0) optimizer().zero_grad();
    manual_backward(loss / window);
    if ((batch_idx + 1) % window != 0) return;
    optimizer().step();
    if (!is_first) optimizer().zero_grad();
  }
  std::optional<int64_t> capture_kind(int64_t batch_idx) const override {
    if (!says) return std::nullopt;
    return batch_idx % window;
  }
  int64_t window;
  bool says, is_first;
};

TEST_F(ManualCapture, IsOneForEachKindThatTheModuleSays) {
  for (const int64_t window : {2, 3, 4}) {
    for (const bool is_first : {false, true}) {
      expect_captured(by_hand<Windowed>(window, true, is_first), rows(150), options());
    }
  }
}

TEST_F(ManualCapture, IsRefusedIfItIsNotTheSameForAllBatches) {
  for (const int64_t window : {3, 4}) {
    expect_refused(by_hand<Windowed>(window, false), "it makes no step of optimizer 0, so that other batches");
  }
}

TEST_F(ManualCapture, IsRefusedWithItsReason) {
  struct Closing : ByHand {
    void go(const torch::Tensor& loss, int64_t) override {
      int calls = 0;
      optimizer().step([&] {
        if (calls++ == 0) {
          optimizer().zero_grad();
          manual_backward(loss);
        }
        return loss.detach();
      });
    }
  };
  expect_refused(by_hand<Closing>(), "it steps an optimizer with a closure");
  struct Bare : ByHand {
    void go(const torch::Tensor& loss, int64_t batch_idx) override {
      ByHand::go(loss, batch_idx);
      optimizer()->step();
    }
  };
  expect_refused(by_hand<Bare>(), "it steps an optimizer itself");
  struct BareOfLibTorch : Bare {
    Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }
  };
  expect_refused(by_hand<BareOfLibTorch>(), "it changes a parameter by what it has computed (aten::add_");
  struct Rated : ByHand {
    void go(const torch::Tensor& loss, int64_t batch_idx) override {
      optimizer()->param_groups()[0].options().set_lr(0.01 / static_cast<double>(1 + batch_idx));
      ByHand::go(loss, batch_idx);
    }
  };
  expect_refused(by_hand<Rated>(), "it sets a learning rate by itself");
  struct Scheduled : ByHand {
    void go(const torch::Tensor& loss, int64_t batch_idx) override {
      ByHand::go(loss, batch_idx);
      kept->step();
    }
    Optimizers configure_optimizers() override {
      auto optimizer = optim::adam(parameters(), {.lr = 0.01});
      kept = lr_schedulers::step(optimizer, {.step_size = 10});
      return {optimizer, {.scheduler = kept}};
    }
    std::shared_ptr<LRScheduler> kept;
  };
  expect_refused(by_hand<Scheduled>(), "it sets a learning rate by itself");
  struct Freezing : ByHand {
    void go(const torch::Tensor& loss, int64_t batch_idx) override {
      ByHand::go(loss, batch_idx);
      first->bias.set_requires_grad(!first->bias.requires_grad());
    }
  };
  expect_refused(by_hand<Freezing>(), "it leaves a layer in another mode, or a parameter or buffer frozen");
}

// In batch 7 of a run whose first batches do not show it.
struct Fickle : ByHand {
  explicit Fickle(int what_in) : what(what_in) {}
  void go(const torch::Tensor& loss, int64_t batch_idx) override {
    const bool is_other = ++count > 6;
    ByHand::go(is_other && what == 0 ? loss * 2 : loss, batch_idx);
    if (is_other && what == 1) optimizer().step();
    if (is_other && what == 2) clip_gradients(*optimizer(), 0.01);
    if (is_other && what == 3) second->bias.mutable_grad() = torch::ones({10});
  }
  int what, count = 0;
};

TEST_F(ManualCapture, IsCheckedAgainstThePlainStep) {
  auto checked = options();
  checked.capture_step_check_every = 2;
  for (int what = 0; what < 4; ++what) {
    EXPECT_THAT(failure([&] { run(by_hand<Fickle>(what), rows(160), checked, CaptureStep::check); }),
                HasSubstr("capture_step = check: training_step "))
        << what;
  }
}

TEST_F(ManualCapture, IsWrittenAsText) {
  auto dumping = options();
  dumping.capture_step_dump = dir_.path() / "dump.txt";
  run(by_hand<Windowed>(2, true), rows(64), dumping, CaptureStep::require);
  const std::string text = content_of(dumping.capture_step_dump);
  EXPECT_THAT(text, HasSubstr("# training_step, manual optimization, kind 1, Float [8, 20], Long [8], 6 replays"));
  EXPECT_THAT(text, HasSubstr("step of optimizer 0()  # called"));
}

// Networks and orders of calls that are drawn.
struct Drawn : Module {
  explicit Drawn(unsigned seed) : draws(seed) {
    automatic_optimization = false;
    count = below(3) + 1;
    for (int i = 0; i < count; ++i) {
      const std::string number = std::to_string(i);
      nets.push_back(register_module("net" + number, torch::nn::Linear(20, 6 + i)));
      heads.push_back(register_module("head" + number, torch::nn::Linear(6 + i, 10)));
      Plan plan;
      for (int* each : {&plan.toggles, &plan.schedules, &plan.reads_others, &plan.drops}) *each = below(2);
      plan.zeroing = below(4);
      plan.passes = below(3) + 1;
      plan.clipping = below(3);
      plan.steps = below(4) == 0 ? 2 : 1;
      plan.optimizer = below(3);
      plans.push_back(plan);
    }
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    StepOutput::Items outputs;
    for (int i = 0; i < count; ++i) {
      const Plan& plan = plans[static_cast<std::size_t>(i)];
      const auto handle = optimizer(static_cast<std::size_t>(i));
      if (plan.toggles) toggle_optimizer(handle.index());
      if (plan.zeroing == 0) handle.zero_grad();
      if (plan.zeroing == 1) handle->zero_grad();
      torch::Tensor loss;
      for (int pass = 0; pass < plan.passes; ++pass) {
        loss = loss_of(batch, i, plan) * (pass + 1);
        manual_backward(loss);
      }
      if (plan.clipping == 1) clip_gradients(*handle, 0.1);
      if (plan.clipping == 2) clip_gradients(*handle, 0.01, GradientClipAlgorithm::value);
      for (int step = 0; step < plan.steps; ++step) handle.step();
      if (plan.zeroing == 2) handle.zero_grad();
      if (plan.schedules) lr_schedulers()[handle.index()]->step();
      if (plan.toggles) untoggle_optimizer(handle.index());
      log("loss" + std::to_string(i), loss);
      outputs.emplace_back("loss" + std::to_string(i), loss);
    }
    return StepOutput(std::move(outputs));
  }
  Optimizers configure_optimizers() override {
    std::vector<OptimizerPtr> all;
    std::vector<LRSchedulerConfig> schedulers;
    for (std::size_t i = 0; i < plans.size(); ++i) {
      auto parameters = nets[i]->parameters();
      for (const auto& parameter : heads[i]->parameters()) parameters.push_back(parameter);
      std::shared_ptr<torch::optim::Optimizer> optimizer;
      if (plans[i].optimizer == 0) optimizer = optim::sgd(parameters, {.lr = 0.02, .momentum = 0.9});
      if (plans[i].optimizer == 1) optimizer = optim::adamw(parameters, {.lr = 0.01});
      if (plans[i].optimizer == 2) optimizer = std::make_shared<torch::optim::Adam>(parameters, 0.01);
      all.push_back(optimizer);
      schedulers.push_back({.scheduler = lr_schedulers::step(optimizer, {.step_size = 3})});
    }
    return {std::move(all), std::move(schedulers)};
  }

 private:
  struct Plan {
    int toggles = 0, schedules = 0, reads_others = 0, drops = 0, zeroing = 0, passes = 1, clipping = 0, steps = 1,
        optimizer = 0;
  };
  int below(unsigned end) { return static_cast<int>(draws() % end); }
  torch::Tensor loss_of(const Batch& batch, int i, const Plan& plan) {
    auto x = batch[0];
    if (plan.drops) x = torch::dropout(x, 0.2, is_training());
    auto scores = torch::zeros({x.size(0), 10});
    for (int j = 0; j < count; ++j) {
      if (j != i && !plan.reads_others) continue;
      const auto at = static_cast<std::size_t>(j);
      scores = scores + heads[at](torch::tanh(nets[at](x)));
    }
    return F::cross_entropy(scores, batch[1]);
  }

  std::mt19937 draws;
  int count = 1;
  std::vector<torch::nn::Linear> nets, heads;
  std::vector<Plan> plans;
};

TEST_F(ManualCapture, IsThatOfStepsThatAreDrawn) {
  for (unsigned seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    auto how = options();
    how.enable_progress_bar = false;
    if (seed % 5 == 1) how.precision = Precision::bfloat16_mixed;
    if (seed % 5 == 2) how.precision = Precision::float16_mixed;
    expect_captured(by_hand<Drawn>(seed), rows(70), how);
  }
}

}  // namespace
}  // namespace troupe
