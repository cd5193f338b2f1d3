// Steps that are captured, against the same steps that are not: equal to the bit.
#include "tests/launch/capture/captured.hpp"
#include "tests/support/file_content.hpp"

#include <gmock/gmock.h>

#include <array>
#include <vector>

namespace troupe {
namespace {

namespace F = torch::nn::functional;

DataLoader images(int64_t samples, int64_t batch_size, torch::IntArrayRef shape) {
  torch::manual_seed(1);
  std::vector<int64_t> sizes = {samples};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  return {std::make_shared<TensorDataset>(torch::randn(sizes), torch::randint(10, {samples})),
          {.batch_size = batch_size, .shuffle = true}};
}

struct Mlp : Module {
  explicit Mlp(double dropout = 0) : dropout(dropout) {
    first = register_module("first", torch::nn::Linear(20, 16));
    second = register_module("second", torch::nn::Linear(16, 10));
  }
  torch::Tensor forward(torch::Tensor x) override {
    return second(torch::dropout(torch::relu(first(x)), dropout, is_training()));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = F::cross_entropy(forward(x), y);
    log("loss", loss, {.on_epoch = true});
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }

  double dropout;
  torch::nn::Linear first{nullptr}, second{nullptr};
};

template <class M, class... Arguments>
auto made(Arguments... arguments) {
  return [=] { return std::make_shared<M>(arguments...); };
}

TEST_F(CapturedStep, IsThatOfAPerceptron) {
  expect_captured(made<Mlp>(), images(70, 8, {20}), options());
}

// A part of a larger tensor may begin where LibTorch's products add up in another order.
struct AtOddPlaces : Mlp {
  AtOddPlaces(int64_t inputs, int64_t hidden) {
    first = replace_module("first", torch::nn::Linear(inputs, hidden));
    second = replace_module("second", torch::nn::Linear(hidden, 10));
  }
  Batch on_before_batch_transfer(Batch batch, int64_t) override {
    const auto larger = torch::empty({batch[0].numel() + 4});
    const auto part = larger.narrow(0, count_++ / 4 % 2, batch[0].numel()).view(batch[0].sizes());
    batch[0] = part.copy_(batch[0]);
    return batch;
  }
  int64_t count_ = 0;
};

TEST_F(CapturedStep, IsThatOfBatchesAtOddPlacesOfMemory) {
  for (const auto& [samples, inputs, hidden] :
       std::vector<std::array<int64_t, 3>>{{7, 33, 5}, {2, 150, 16}, {3, 1000, 33}, {64, 7, 5}}) {
    expect_captured(made<AtOddPlaces>(inputs, hidden), images(17 * samples, samples, {inputs}), options());
  }
}

TEST_F(CapturedStep, DrawsWhatThePlainStepDraws) {
  expect_captured(made<Mlp>(0.3), images(70, 8, {20}), options());
}

TEST_F(CapturedStep, AddsUpGradients) {
  auto windows = options();
  windows.accumulate_grad_batches = 3;
  windows.gradient_clip_val = 0.05;
  expect_captured(made<Mlp>(0.3), images(70, 8, {20}), windows);
  windows.accumulate_grad_weighting = GradWeighting::batches;
  windows.gradient_clip_algorithm = GradientClipAlgorithm::value;
  expect_captured(made<Mlp>(), images(70, 8, {20}), windows);
}

TEST_F(CapturedStep, HasThePrecisionOfTheRun) {
  for (const auto precision :
       {Precision::bfloat16_mixed, Precision::float16_mixed, Precision::bfloat16_true, Precision::float64}) {
    auto other = options();
    other.precision = precision;
    other.gradient_clip_val = 0.1;
    expect_captured(made<Mlp>(0.3), images(70, 8, {20}), other);
    other.accumulate_grad_batches = 2;
    expect_captured(made<Mlp>(0.3), images(70, 8, {20}), other);
  }
}

// Convolutions, running statistics, pooling.
struct Cnn : Mlp {
  Cnn() {
    convolution = register_module("convolution", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 4, 3).padding(1)));
    norm = register_module("norm", torch::nn::BatchNorm2d(4));
    last = register_module("last", torch::nn::Linear(4 * 4 * 4, 10));
  }
  torch::Tensor forward(torch::Tensor x) override {
    return last(torch::max_pool2d(torch::relu(norm(convolution(x))), 2).flatten(1));
  }
  Optimizers configure_optimizers() override {
    return optim::sgd(parameters(), {.lr = 0.01, .momentum = 0.9, .weight_decay = 0.01});
  }

  torch::nn::Conv2d convolution{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Linear last{nullptr};
};

TEST_F(CapturedStep, IsThatOfAConvolutionalNet) {
  expect_captured(made<Cnn>(), images(70, 8, {1, 8, 8}), options());
}

// Attention, layer norm, embeddings, tied weights, positions that are made anew in each step.
struct Transformer : Module {
  Transformer() {
    tokens = register_module("tokens", torch::nn::Embedding(11, 16));
    places = register_module("places", torch::nn::Embedding(6, 16));
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({16})));
    attention = register_module("attention", torch::nn::Linear(16, 48));
    head = register_module("head", torch::nn::Linear(torch::nn::LinearOptions(16, 11).bias(false)));
    head->weight = tokens->weight;
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto x = batch[0].slice(1, 0, 6), y = batch[0].slice(1, 1, 7);
    auto h = tokens(x) + places(torch::arange(6));
    const auto qkv = attention(norm(h)).view({-1, 6, 3, 2, 8}).permute({2, 0, 3, 1, 4});
    const auto mixed = torch::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, 0, /*is_causal=*/true);
    h = h + torch::gelu(mixed.transpose(1, 2).reshape({-1, 6, 16}));
    const auto loss = F::cross_entropy(head(h).view({-1, 11}), y.reshape({-1}));
    log("loss", loss, {.on_epoch = true});
    return {{"loss", loss}, {"h", h}};
  }
  Optimizers configure_optimizers() override { return optim::adamw(parameters(), {.lr = 0.01}); }

  torch::nn::Embedding tokens{nullptr}, places{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear attention{nullptr}, head{nullptr};
};

DataLoader sequences(int64_t samples, int64_t batch_size) {
  torch::manual_seed(1);
  return {std::make_shared<TensorDataset>(torch::randint(11, {samples, 7})),
          {.batch_size = batch_size, .shuffle = true}};
}

TEST_F(CapturedStep, IsThatOfATransformer) {
  auto mixed = options();
  expect_captured(made<Transformer>(), sequences(64, 8), mixed);
  mixed.precision = Precision::bfloat16_mixed;
  expect_captured(made<Transformer>(), sequences(64, 8), mixed);
}

// But for two hundredths: results take multiples of 64 bytes, and gradients too small to lend their memory lie beside
// them.
TEST_F(CapturedStep, TakesNoMoreMemoryThanThePlainStep) {
  const auto expect_no_more = [&](const Make& make, const DataLoader& loader) {
    run(make, loader, options(), CaptureStep::require);
    ASSERT_FALSE(captured.programs.empty());
    for (const auto& program : captured.programs) {
      EXPECT_LE(program.bytes, program.plain_bytes + program.plain_bytes / 50) << program.step << program.inputs;
    }
  };
  expect_no_more(made<Mlp>(), images(2'000, 500, {20}));
  expect_no_more(made<Mlp>(0.3), images(2'000, 500, {20}));
  expect_no_more(made<Cnn>(), images(800, 200, {1, 8, 8}));
  expect_no_more(made<Transformer>(), sequences(800, 200));
}

// A recurrent net over parts of sequences.
template <class Net>
struct Recurrent : Module {
  Recurrent() {
    net = register_module("net", Net(5, 7));
    last = register_module("last", torch::nn::Linear(7, 1));
    truncated_bptt_steps = 4;
  }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    const auto x = part[0].transpose(0, 1);
    torch::Tensor out, hidden, cell;
    if constexpr (std::is_same_v<Net, torch::nn::LSTM>) {
      std::optional<std::tuple<torch::Tensor, torch::Tensor>> before;
      if (!hiddens.empty()) before.emplace(hiddens["hidden"], hiddens["hidden_cell"]);
      std::tuple<torch::Tensor, torch::Tensor> after;
      std::tie(out, after) = net(x, before);
      std::tie(hidden, cell) = after;
    } else {
      std::tie(out, hidden) = net(x, hiddens.empty() ? torch::Tensor() : hiddens["hidden"]);
      cell = hidden;
    }
    const auto loss = torch::mse_loss(last(out).squeeze(2), x.sum(2));
    log("loss", loss, {.on_epoch = true});
    return {{"loss", loss}, {"hidden", hidden}, {"hidden_cell", cell}};
  }
  Optimizers configure_optimizers() override { return optim::rmsprop(parameters(), {.lr = 0.01}); }

  Net net{nullptr};
  torch::nn::Linear last{nullptr};
};

TEST_F(CapturedStep, IsThatOfRecurrentNets) {
  torch::manual_seed(1);
  const DataLoader loader{std::make_shared<TensorDataset>(torch::randn({32, 12, 5})), {.batch_size = 8}};
  expect_captured(made<Recurrent<torch::nn::LSTM>>(), loader, options());
  expect_captured(made<Recurrent<torch::nn::GRU>>(), loader, options());
  expect_captured(made<Recurrent<torch::nn::RNN>>(), loader, options());
}

// Two optimizers with losses of their own.
struct Gan : Module {
  Gan() {
    generator = register_module("generator", torch::nn::Linear(4, 20));
    discriminator = register_module("discriminator", torch::nn::Linear(20, 1));
  }
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    const auto fake = torch::tanh(generator(torch::randn({batch[0].size(0), 4})));
    const auto judge = [&](const torch::Tensor& x, double is_real) {
      const auto score = discriminator(x);
      return F::binary_cross_entropy_with_logits(score, torch::full_like(score, is_real));
    };
    if (optimizer_idx == 0) return judge(fake, 1);
    return judge(batch[0], 1) + judge(fake.detach(), 0);
  }
  Optimizers configure_optimizers() override {
    return {optim::adam(generator->parameters(), {.lr = 0.01}), optim::adam(discriminator->parameters(), {.lr = 0.02})};
  }

  torch::nn::Linear generator{nullptr}, discriminator{nullptr};
};

TEST_F(CapturedStep, IsThatOfEachOptimizer) {
  expect_captured(made<Gan>(), images(70, 8, {20}), options());
  auto windows = options();
  windows.accumulate_grad_batches = 2;
  expect_captured(made<Gan>(), images(70, 8, {20}), windows);
}

// Computed again in the backward pass, with the draws of the first time.
struct Checkpointed : Mlp {
  Checkpointed() : Mlp(0.5) {}
  torch::Tensor forward(torch::Tensor x) override {
    return second(activation_checkpoint(
        [this](torch::Tensor in) { return torch::dropout(torch::relu(first(in)), 0.5, true); }, x));
  }
};

TEST_F(CapturedStep, ComputesCheckpointedLayersAgain) {
  expect_captured(made<Checkpointed>(), images(70, 8, {20}), options());
}

// Keeps what it is given, which the next replay writes over.
class KeptScores : public TargetMetric {
 public:
  KeptScores() { rows_ = add_list("rows", torch::kFloat32); }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor&) override { append(rows_, preds); }
  torch::Tensor result() const override { return at(rows_).to(torch::kFloat64).square().sum(); }

 private:
  State rows_;
};

// Metrics that count and metrics that keep what they are given.
struct Measured : Mlp {
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    const auto scores = forward(x);
    const auto loss = F::cross_entropy(scores, y);
    accuracy.update(scores, y);
    log("accuracy", accuracy, {.on_step = false, .on_epoch = true});
    log("right", each(scores, y));
    curve.update(scores.softmax(1), y);
    kept.update(scores, y);
    log("kept_scores", kept, {.on_step = false, .on_epoch = true});
    log("curve", curve, {.on_step = false, .on_epoch = true});
    mean.update(loss, static_cast<double>(x.size(0)));
    log("mean", mean, {.on_step = false, .on_epoch = true});
    log("highest", highest(scores));
    return loss;
  }
  MetricHolder<metrics::Accuracy> accuracy =
      register_metric("accuracy", metrics::Accuracy({.task = metrics::Task::multiclass, .num_classes = 10}));
  MetricHolder<metrics::Accuracy> each =
      register_metric("each", metrics::Accuracy({.task = metrics::Task::multiclass, .num_classes = 10}));
  MetricHolder<metrics::AUROC> curve =
      register_metric("curve", metrics::AUROC({.task = metrics::Task::multiclass, .num_classes = 10}));
  MetricHolder<KeptScores> kept = register_metric("kept", KeptScores());
  MetricHolder<metrics::MeanMetric> mean = register_metric("mean", metrics::MeanMetric());
  MetricHolder<metrics::MaxMetric> highest = register_metric("highest", metrics::MaxMetric());
};

TEST_F(CapturedStep, UpdatesMetrics) {
  expect_captured(made<Measured>(), images(70, 8, {20}), options());
}

// Hooks that keep what they see, a rate that changes in each step, steps that are left out.
struct WatchedAndCaptured : Mlp {
  Optimizers configure_optimizers() override {
    auto optimizer = optim::adam(parameters(), {.lr = 0.01});
    return {optimizer,
            {.scheduler = lr_schedulers::one_cycle(optimizer, {.max_lr = {0.1}, .total_steps = 120}),
             .interval = LRSchedulerConfig::Interval::step}};
  }
  void on_before_backward(const torch::Tensor& loss) override { losses.push_back(loss.detach()); }
  void on_after_backward() override { norms.push_back(first->weight.grad().norm()); }
  void on_train_batch_end(const StepOutput& output, const Batch&, int64_t) override {
    outputs.push_back(output["loss"]);
  }
  void training_epoch_end(const EpochOutputs& all) override {
    torch::Tensor sum = torch::zeros({});
    for (const auto& each : all) sum = sum + each["loss"];
    log("sum", sum);
    log("kept", (torch::stack(losses) * torch::stack(outputs) * torch::stack(norms)).sum());
  }
  std::vector<torch::Tensor> losses, norms, outputs;
};

TEST_F(CapturedStep, HasItsHooksAroundIt) {
  expect_captured(made<WatchedAndCaptured>(), images(70, 8, {20}), options());
  auto skipping = options();
  skipping.nonfinite = NonFinite::skip;
  skipping.loss_spike_zscore = 1;
  skipping.max_skipped_steps = 100;
  expect_captured(made<WatchedAndCaptured>(), images(400, 8, {20}), skipping);
}

// Trained with every optimizer.
struct WithOptimizer : Mlp {
  explicit WithOptimizer(int which_in) : Mlp(0), which(which_in) {}
  Optimizers configure_optimizers() override {
    switch (which) {
      case 0: return optim::sgd(parameters(), {.lr = 0.1, .momentum = 0.9, .nesterov = true});
      case 1: return optim::adamw(parameters(), {.lr = 0.01, .amsgrad = true});
      case 2: return optim::rmsprop(parameters(), {.lr = 0.01, .momentum = 0.5, .centered = true});
      case 3: return optim::adagrad(parameters(), {.lr = 0.01});
      case 4: return torch::optim::Adam(parameters(), 0.01);
      case 5: return optim::muon(*this, {}, {.lr = 0.01});
      case 6: return optim::adafactor(*this);
      case 7: return optim::schedule_free_adamw(*this);
      case 8: return optim::nadam(*this);
      case 9: return optim::radam(*this);
      case 10: return optim::adamax(*this);
      case 11: return optim::adadelta(*this);
      case 12: return optim::asgd(*this, {}, {.t0 = 3});
      case 13: return optim::rprop(*this);
      case 14: return optim::lion(*this);
      default: return optim::lbfgs(parameters(), {.lr = 0.5, .max_iter = 3});
    }
  }
  int which;
};

TEST_F(CapturedStep, LeadsToTheStepsOfEveryOptimizer) {
  for (int which = 0; which < 16; ++which) expect_captured(made<WithOptimizer>(which), images(70, 8, {20}), options());
}

// Validation, too, in another mode than training.
struct ValidatedAndCaptured : Cnn {
  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    const auto scores = forward(x);
    log("val_loss", F::cross_entropy(scores, y));
    accuracy.update(scores, y);
    log("val_accuracy", accuracy);
    return {{"scores", scores}};
  }
  void validation_epoch_end(const EpochOutputs& outputs) override {
    torch::Tensor sum = torch::zeros({});
    for (const auto& each : outputs) sum = sum + each["scores"].sum();
    log("sum", sum);
  }
  MetricHolder<metrics::Accuracy> accuracy =
      register_metric("accuracy", metrics::Accuracy({.task = metrics::Task::multiclass, .num_classes = 10}));
};

TEST_F(CapturedStep, IsWrittenAsText) {
  auto dumping = options();
  dumping.capture_step_dump = dir_.path() / "steps/dump.txt";
  run(made<Mlp>(), images(64, 8, {20}), dumping, CaptureStep::require);
  const std::string text = content_of(dumping.capture_step_dump);
  EXPECT_THAT(text, ::testing::HasSubstr(
                        "# training_step, optimizer 0, first batch of a window, Float [8, 20], Long [8], 14 replays"));
  EXPECT_THAT(text, ::testing::HasSubstr("us  %"));
  EXPECT_THAT(text, ::testing::HasSubstr("aten::addmm(%"));
  ASSERT_EQ(captured.programs.size(), 1u);
  const auto& program = captured.programs.front();
  EXPECT_EQ(program.operators + program.views + program.constants + program.unused, program.recorded);
  EXPECT_EQ(program.replays, 14);
  // What cannot be written costs no run.
  dumping.capture_step_dump = "/proc/no/dump.txt";
  expect_same(run(made<Mlp>(), images(64, 8, {20}), options(), CaptureStep::off),
              run(made<Mlp>(), images(64, 8, {20}), dumping, CaptureStep::require));
}

// The other evaluations, by themselves.
struct Tested : ValidatedAndCaptured {
  StepOutput test_step(const Batch& batch, int64_t) override {
    log("test_loss", F::cross_entropy(forward(batch[0]), batch[1]));
    return {};
  }
  StepOutput predict_step(const Batch& batch, int64_t) override { return {{"scores", forward(batch[0])}}; }
};

TEST_F(CapturedStep, OfATestAndAPredictionIsCapturedToo) {
  const auto loader = images(70, 8, {1, 8, 8});
  torch::manual_seed(5);
  const auto module = std::make_shared<Tested>();
  std::vector<MetricMap> tests;
  std::vector<torch::Tensor> predictions;
  for (const auto capture : {CaptureStep::off, CaptureStep::automatic}) {
    auto evaluating = options();
    evaluating.capture_step = capture;
    Trainer trainer(evaluating);
    tests.push_back(trainer.test(module, loader).front());
    EXPECT_EQ(trainer.captured().replays("test_step") > 0, capture == CaptureStep::automatic);
    std::vector<torch::Tensor> scores;
    for (const auto& each : trainer.predict(module, loader)) scores.push_back(each["scores"]);
    EXPECT_EQ(trainer.captured().replays("predict_step") > 0, capture == CaptureStep::automatic);
    predictions.push_back(torch::cat(scores));
  }
  EXPECT_EQ(tests[0], tests[1]);
  EXPECT_TRUE(torch::equal(predictions[0].sum(0), predictions[1].sum(0)));
}

TEST_F(CapturedStep, OfAnEvaluationIsCapturedToo) {
  has_validation = true;
  expect_captured(made<ValidatedAndCaptured>(), images(70, 8, {1, 8, 8}), options());
  EXPECT_GT(captured.replays("validation_step"), 0);
}

}  // namespace
}  // namespace troupe
