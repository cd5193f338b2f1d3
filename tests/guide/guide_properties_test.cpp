// The guide's section "Properties", one snippet an entry.
#include "tests/guide/images.hpp"
#include "tests/support/file_content.hpp"

#include <ostream>
#include <sstream>

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace guide_properties {
namespace {

class GuideProperties : public InAFolderOfItsOwn {};

class Base : public Module {
 public:
  Base() { net_ = register_module("net", torch::nn::Linear(784, 10)); }
  torch::Tensor forward(torch::Tensor x) override { return net_(x.flatten(1)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    look();
    return F::cross_entropy(forward(batch[0]), batch[1]);
  }
  virtual void look() {}
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }

 protected:
  torch::nn::Linear net_{nullptr};
};

class Looks : public Base {
 public:
  void look() override {
    // [guide:current_epoch]
    if (current_epoch() == 0) first_epoch_steps += 1;
    // [guide:end]
    // [guide:device]
    auto z = torch::rand({2, 3}, device());
    // [guide:end]
    // [guide:global_rank]
    if (global_rank() == 0) on_rank_zero += 1;
    // [guide:end]
    // [guide:local_rank]
    auto device_of_this_host = local_rank();
    // [guide:end]
    // [guide:global_step]
    logger().log_histogram("weights", net_->weight);  // at global_step()
    auto step = global_step();
    // [guide:end]
    // [guide:precision]
    if (precision() == 16) half = true;
    // [guide:end]
    // [guide:use_amp]
    if (use_amp()) mixed = true;
    // [guide:end]
    // [guide:trainer]
    auto max_steps = trainer().options().max_steps;
    auto stage = trainer().stage();
    // [guide:end]
    // [guide:model_size]
    auto megabytes = model_size();
    // [guide:end]
    // [guide:all_gather]
    auto of_all_ranks = all_gather(torch::full({1}, static_cast<double>(global_rank())));
    // [guide:end]
    steps.push_back(step);
    EXPECT_EQ(z.device(), net_->weight.device());
    EXPECT_EQ(device_of_this_host, 0);
    EXPECT_EQ(max_steps, 4);
    EXPECT_EQ(stage, Stage::fit);
    EXPECT_DOUBLE_EQ(megabytes, (784 * 10 + 10) * 4 / 1e6);
    EXPECT_EQ(of_all_ranks.flatten()[0].item<double>(), 0);
  }
  int64_t first_epoch_steps = 0, on_rank_zero = 0;
  bool half = false, mixed = false;
  std::vector<int64_t> steps;
};

TEST_F(GuideProperties, AreThereInSteps) {
  auto options = brief();
  options.max_epochs = std::nullopt;
  options.max_steps = 4;
  options.precision = Precision::bfloat16_mixed;
  const auto module = std::make_shared<Looks>();
  Trainer(options).fit(module, images(32));  // two batches an epoch
  EXPECT_EQ(module->first_epoch_steps, 2);
  EXPECT_EQ(module->on_rank_zero, 4);
  EXPECT_TRUE(module->half);
  EXPECT_TRUE(module->mixed);
  EXPECT_THAT(module->steps, ElementsAre(0, 1, 2, 3));
}

struct HparamsOptions {
  double learning_rate = 1e-3;
};
TROUPE_OPTIONS(HparamsOptions, (learning_rate, "of SGD"))

class WithHparams : public ModuleWith<HparamsOptions> {
 public:
  explicit WithHparams(HparamsOptions options) : ModuleWith(options) {
    net_ = register_module("net", torch::nn::Linear(784, 10));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return F::cross_entropy(net_(batch[0].flatten(1)), batch[1]);
  }
  // [guide:hparams]
  Optimizers configure_optimizers() override {
    return optim::adam(parameters(), {.lr = options().learning_rate});  // by type
  }

  double learning_rate() const {
    return hparams()["learning_rate"].get<double>();
  }  // or by name
     // [guide:end]

 private:
  torch::nn::Linear net_{nullptr};
};

TEST_F(GuideProperties, HparamsAreWhatTheModuleWasMadeWith) {
  const auto module = Trainer(brief()).fit<WithHparams>({.learning_rate = 0.5}, images());
  EXPECT_EQ(module->learning_rate(), 0.5);
}

class UsesLogger : public Base {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (batch_idx == 0) {
      // [guide:logger]
      // for every sink
      logger().log_image("input", batch[0][0]);
      logger().log_text("note", "the first *batch*");

      // the sink's own interface, on the logger's thread
      logger().experiment<TensorBoardSink>(
          [files = files](TensorBoardSink& tensorboard) { files->push_back(tensorboard.path()); });
      // [guide:end]
    }
    return Base::training_step(batch, batch_idx);
  }
  std::shared_ptr<std::vector<std::filesystem::path>> files = std::make_shared<std::vector<std::filesystem::path>>();
};

// [guide:own_sink]
// Prints the metrics of each record.
class PrintingSink : public Sink {
 public:
  explicit PrintingSink(std::ostream& out) : out_(out) {}
  std::string name() const override { return "printing"; }
  void write(const Record& record) override {
    if (const auto* scalars = std::get_if<ScalarsRecord>(&record)) {
      for (const auto& [name, value] : scalars->values) out_ << scalars->step << ' ' << name << ' ' << value << '\n';
    } else if (const auto* ended = std::get_if<StageEndedRecord>(&record)) {
      out_ << to_string(ended->stage) << ' ' << name_of(ended->status) << '\n';
    }
  }
  void flush() override { out_.flush(); }

 private:
  std::ostream& out_;  // only the logger's thread uses it
};
// [guide:end]

class LogsItsLoss : public Base {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = F::cross_entropy(forward(batch[0]), batch[1]);
    log("train_loss", loss);
    return loss;
  }
};

TEST_F(GuideProperties, ASinkOfOnesOwnGetsTheRecords) {
  std::ostringstream out;
  auto options = brief();
  options.log_every_n_steps = 1;
  // [guide:own_sink_use]
  options.sinks = {std::make_shared<PrintingSink>(out)};  // besides those that options.loggers names
  // [guide:end]
  Trainer(options).fit(std::make_shared<LogsItsLoss>(), images());
  EXPECT_THAT(out.str(), HasSubstr("0 train_loss "));
}

TEST_F(GuideProperties, TheLoggerTakesMoreThanMetrics) {
  const auto module = std::make_shared<UsesLogger>();
  Trainer(brief()).fit(module, images());
  ASSERT_EQ(module->files->size(), 1u);
  EXPECT_THAT(content_of(module->files->front()), HasSubstr("the first *batch*"));
}

class ByHand : public Base {
 public:
  // [guide:automatic_optimization]
  ByHand() { automatic_optimization = false; }

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto opt = optimizer();
    opt.zero_grad();
    manual_backward(F::cross_entropy(forward(batch[0]), batch[1]));
    opt.step();
    return {};
  }
  // [guide:end]
};

class TwoByHand : public Base {
 public:
  TwoByHand() { automatic_optimization = false; }
  torch::Tensor loss(const Batch& batch) { return F::cross_entropy(forward(batch[0]), batch[1]); }
  // [guide:automatic_optimization_two]
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto [opt_a, opt_b] = optimizers<2>();
    {
      auto toggled = opt_a.toggle_model();  // the parameters of opt_b alone need no gradient until the brace
      opt_a.zero_grad();
      manual_backward(loss(batch));
      clip_gradients(*opt_a, 0.5);
      opt_a.step();
    }
    if (batch_idx % 2 == 0) {
      opt_b.zero_grad();
      manual_backward(loss(batch));
      opt_b.step();
    }
    if (batch_idx == 3) lr_schedulers()[0]->step();
    return {};
  }
  // [guide:end]
  Optimizers configure_optimizers() override {
    auto a = optim::sgd({net_->weight}, {.lr = 0.1});
    return {{a, optim::sgd({net_->bias}, {.lr = 0.1})}, {{.scheduler = lr_schedulers::exponential(a, {.gamma = 0.5})}}};
  }
  void on_train_end() override { rate = lr_schedulers()[0]->last_lr()[0]; }
  double rate = 0;
};

TEST_F(GuideProperties, OptimizationByHand) {
  Trainer trainer(brief());
  const auto one = std::make_shared<ByHand>();
  const auto before = one->parameters()[0].clone();
  trainer.fit(one, images());
  EXPECT_FALSE(torch::equal(one->parameters()[0], before));
  EXPECT_EQ(trainer.global_step(), 4);
  const auto two = std::make_shared<TwoByHand>();
  Trainer second(brief());
  second.fit(two, images());
  EXPECT_EQ(second.global_step(), 6);
  EXPECT_DOUBLE_EQ(two->rate, 0.05);
}

class Generates : public Base {
 public:
  // [guide:example_input_array]
  Generates() { example_input_array = torch::zeros({1, 1, 28, 28}); }

  void on_train_epoch_end() override {
    generated = forward(example_input_array.to(device()));  // look at what it makes of the same input
  }
  // [guide:end]
  torch::Tensor generated;
};

TEST_F(GuideProperties, TheExampleShowsShapesInTheSummary) {
  auto options = brief();
  options.enable_model_summary = true;
  const auto module = std::make_shared<Generates>();
  testing::internal::CaptureStderr();
  Trainer(options).fit(module, images());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("[1, 784] | [1, 10]"));
  EXPECT_EQ(module->generated.size(1), 10);
}

class ImageData : public DataModule {
 public:
  DataLoaders train_dataloader() override { return images(8); }
};

class KnowsItsData : public Base {
 public:
  // [guide:datamodule]
  Optimizers configure_optimizers() override {
    auto batches = datamodule()->train_dataloader()[0].batch_count();  // nothing for a stream
    auto optimizer = optim::sgd(parameters(), {.lr = 0.1});
    return {optimizer, lr_schedulers::linear(optimizer, {.total_iters = batches.value_or(100)})};
  }
  // [guide:end]
};

TEST_F(GuideProperties, TheDataModuleIsThere) {
  Trainer trainer(brief());
  trainer.fit(std::make_shared<KnowsItsData>(), {}, {}, {.datamodule = std::make_shared<ImageData>()});
  EXPECT_EQ(trainer.global_step(), 8);
}

// --- truncated back-propagation through time ---

// [guide:truncated_bptt_steps]
class MyModel : public Module {
 public:
  MyModel(int64_t input_size, int64_t hidden_size) {
    // time is the second dimension of a batch
    lstm_ = register_module("lstm", torch::nn::LSTM(torch::nn::LSTMOptions(input_size, hidden_size).batch_first(true)));
    truncated_bptt_steps = 2;  // parts of two steps in time
  }

  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    // what the part before returned, detached; empty for the first
    std::optional<std::tuple<torch::Tensor, torch::Tensor>> state;
    if (!hiddens.empty()) state = {hiddens["hidden_h"], hiddens["hidden_c"]};
    lengths.push_back(part[0].size(1));  // [guide:hide]
    auto [out, next] = lstm_(part[0], state);
    // names that begin with "hidden" go on to the next part
    return {{"loss", out.square().mean()}, {"hidden_h", std::get<0>(next)}, {"hidden_c", std::get<1>(next)}};
  }
  std::vector<int64_t> lengths;  // [guide:hide]

  Optimizers configure_optimizers() override { return optim::adam(parameters()); }

 private:
  torch::nn::LSTM lstm_{nullptr};
};
// [guide:end]

class OwnSplit : public MyModel {
 public:
  OwnSplit() : MyModel(1, 3) {}
  // [guide:tbptt_split_batch]
  std::vector<Batch> tbptt_split_batch(const Batch& batch, int64_t split_size) override {
    std::vector<Batch> splits;
    for (auto& x : batch[0].split(split_size, /*dim=*/1)) {
      if (x.size(1) == split_size) splits.push_back({x});  // leave out a short rest
    }
    return splits;
  }
  // [guide:end]
};

TEST_F(GuideProperties, SequencesAreCut) {
  const DataLoader sequences(std::make_shared<TensorDataset>(torch::rand({4, 5, 1})), {.batch_size = 4});
  const auto model = std::make_shared<MyModel>(1, 3);
  Trainer(brief()).fit(model, sequences);
  EXPECT_THAT(model->lengths, ElementsAre(2, 2, 1));
  const auto own = std::make_shared<OwnSplit>();
  Trainer(brief()).fit(own, sequences);
  EXPECT_THAT(own->lengths, ElementsAre(2, 2));
}

}  // namespace
}  // namespace guide_properties
