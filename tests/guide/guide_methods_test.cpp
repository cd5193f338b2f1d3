// The guide's section "Methods", one snippet an entry.
#include "tests/guide/images.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <set>

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;
using ::testing::ElementsAre;

namespace guide_methods {
namespace {

class GuideMethods : public InAFolderOfItsOwn {};

/// A classifier that leaves what a test is about to its derived classes.
class Classifier : public Module {
 public:
  Classifier() { net_ = register_module("net", torch::nn::Linear(784, 10)); }
  // [guide:forward]
  torch::Tensor forward(torch::Tensor x) override { return net_(x.flatten(1)); }
  // [guide:end]
  torch::Tensor loss_of(const Batch& batch) { return F::cross_entropy(forward(batch[0]), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t) override { return loss_of(batch); }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    return log("val_loss", loss_of(batch)), StepOutput();
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.02}); }

 protected:
  torch::nn::Linear net_{nullptr};
};

TEST_F(GuideMethods, ForwardIsTheCallOperatorsToo) {
  Classifier model;
  const auto x = torch::ones({2, 1, 28, 28});
  EXPECT_TRUE(torch::equal(model(x), model.forward(x)));
}

// --- configure_callbacks ---

class WithCallbacks : public Classifier {
 public:
  // [guide:configure_callbacks]
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override {
    return {std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_loss", .stopping_threshold = 100}),
            std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.monitor = "val_loss"})};
  }
  // [guide:end]
};

TEST_F(GuideMethods, AModuleBringsCallbacks) {
  Trainer trainer(brief(5));
  trainer.fit(std::make_shared<WithCallbacks>(), images(), images());
  EXPECT_EQ(trainer.current_epoch(), 1);
}

// --- configure_optimizers ---

class One : public Classifier {
 public:
  // [guide:configure_optimizers]
  Optimizers configure_optimizers() override { return optim::adamw(parameters(), {.lr = 1e-3}); }
  // [guide:end]
};

class Scheduled : public Classifier {
 public:
  // [guide:configure_optimizers_scheduler]
  Optimizers configure_optimizers() override {
    auto optimizer = optim::sgd(parameters(), {.lr = 0.1, .momentum = 0.9});
    auto scheduler = lr_schedulers::reduce_on_plateau(optimizer, {.patience = 0});
    return {optimizer, {.scheduler = scheduler, .interval = LRSchedulerConfig::Interval::epoch, .monitor = "val_loss"}};
  }
  // [guide:end]
};

class Two : public Classifier {
 public:
  Two() { critic_ = register_module("critic", torch::nn::Linear(784, 1)); }
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    turns.push_back(optimizer_idx);
    return optimizer_idx == 0 ? loss_of(batch) : critic_(batch[0].flatten(1)).square().mean();
  }
  // [guide:configure_optimizers_several]
  Optimizers configure_optimizers() override {
    auto generator = optim::adam(net_->parameters(), {.lr = 0.01});
    auto critic = optim::adam(critic_->parameters(), {.lr = 0.02});
    // the critic has three batches to each of the generator's; without frequency both have every batch
    return {{.optimizer = generator, .frequency = 1},
            {.optimizer = critic,
             .lr_scheduler = LRSchedulerConfig{.scheduler = lr_schedulers::exponential(critic, {.gamma = 0.99})},
             .frequency = 3}};
  }
  // [guide:end]
  std::vector<int64_t> turns;

 private:
  torch::nn::Linear critic_{nullptr};
};

class LibTorchs : public Classifier {
 public:
  // [guide:configure_optimizers_libtorch]
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }
  // [guide:end]
};

TEST_F(GuideMethods, OptimizersOfEachForm) {
  for (const std::shared_ptr<Classifier>& module :
       {std::static_pointer_cast<Classifier>(std::make_shared<One>()),
        std::static_pointer_cast<Classifier>(std::make_shared<LibTorchs>())}) {
    const auto before = module->parameters()[0].clone();
    Trainer(brief()).fit(module, images());
    EXPECT_FALSE(torch::equal(module->parameters()[0], before));
  }
  Trainer scheduled(brief(2));
  scheduled.fit(std::make_shared<Scheduled>(), images(), images());
  EXPECT_EQ(read_checkpoint(scheduled.run_dir() / "checkpoints/last.safetensors").metadata["lr_schedulers"].size(), 1u);
  const auto two = std::make_shared<Two>();
  Trainer(brief()).fit(two, images());
  EXPECT_THAT(two->turns, ElementsAre(0, 1, 1, 1));
}

// --- freeze, unfreeze ---

TEST_F(GuideMethods, FreezeAndUnfreeze) {
  Classifier model;
  // [guide:freeze]
  model.freeze();  // no gradients, eval mode
  // [guide:end]
  EXPECT_FALSE(model.is_training());
  EXPECT_FALSE(model(torch::ones({1, 784})).requires_grad());
  // [guide:unfreeze]
  model.unfreeze();  // gradients, train mode
  // [guide:end]
  EXPECT_TRUE(model.is_training());
  EXPECT_TRUE(model(torch::ones({1, 784})).requires_grad());
}

// --- log, log_dict ---

class Logs : public Classifier {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto loss = loss_of(batch);
    auto acc = forward(batch[0]).argmax(1).eq(batch[1]).to(torch::kFloat).mean();
    // [guide:log]
    log("train_loss", loss);                                           // the value of each step
    log("train_acc", acc, {.on_step = false, .on_epoch = true});       // the mean over the epoch
    log("worst", loss, {.on_epoch = true, .reduce_fx = Reduce::max});  // both, the largest of the epoch
    // [guide:end]
    // [guide:log_dict]
    log_dict({{"loss", loss}, {"acc", acc}}, {.prog_bar = true});
    // [guide:end]
    return loss;
  }
};

TEST_F(GuideMethods, LogAndLogDict) {
  Trainer trainer(brief());
  trainer.fit(std::make_shared<Logs>(), images());
  const auto& metrics = trainer.callback_metrics();
  for (const char* name : {"train_loss", "train_acc", "worst_step", "worst_epoch", "loss", "acc"}) {
    EXPECT_TRUE(metrics.contains(name)) << name;
  }
  EXPECT_GE(metrics.at("worst_epoch"), metrics.at("worst_step"));
  EXPECT_EQ(metrics.at("loss"), metrics.at("train_loss"));
}

// --- manual_backward ---

class ByHand : public Classifier {
 public:
  // [guide:manual_backward]
  ByHand() { automatic_optimization = false; }

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto opt = optimizer();
    opt.zero_grad();
    manual_backward(loss_of(batch));  // in place of loss.backward(): what the precision needs, and the hooks
    opt.step();
    return {};
  }
  // [guide:end]
};

TEST_F(GuideMethods, ManualBackwardTrains) {
  const auto by_hand = std::make_shared<ByHand>();
  const auto plain = std::make_shared<Classifier>();
  {
    torch::NoGradGuard no_gradients;
    for (std::size_t i = 0; i < 2; ++i) plain->parameters()[i].copy_(by_hand->parameters()[i]);
  }
  Trainer(brief()).fit(by_hand, images());
  Trainer(brief()).fit(plain, images());
  EXPECT_TRUE(torch::equal(by_hand->parameters()[0], plain->parameters()[0]));
}

// --- print ---

class Prints : public Classifier {
 public:
  // [guide:print]
  void on_train_start() override { print("training", parameters().size(), "tensors"); }
  // [guide:end]
};

TEST_F(GuideMethods, PrintGoesToStdout) {
  testing::internal::CaptureStdout();
  Trainer(brief()).fit(std::make_shared<Prints>(), images());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "training 2 tensors\n");
}

// --- predict_step, write_prediction ---

class Predicts : public Classifier {
 public:
  // [guide:predict_step]
  StepOutput predict_step(const Batch& batch, int64_t) override { return {{"digit", forward(batch[0]).argmax(1)}}; }
  // [guide:end]
};

TEST_F(GuideMethods, PredictReturnsWhatTheStepReturned) {
  Trainer trainer(brief());
  const auto outputs = trainer.predict(std::make_shared<Predicts>(), images());
  EXPECT_EQ(outputs.size(), 4u);
  EXPECT_EQ(outputs[0]["digit"].sizes(), (std::vector<int64_t>{16}));
}

class Writes : public Classifier {
 public:
  StepOutput test_step(const Batch& batch, int64_t) override {
    auto digits = forward(batch[0]).argmax(1);
    // [guide:write_prediction]
    write_prediction("digit", digits, "digits.safetensors");
    // [guide:end]
    // [guide:write_prediction_dict]
    write_prediction_dict({{"digit", digits}, {"label", batch[1]}}, "digits_and_labels.safetensors");
    // [guide:end]
    return {};
  }
};

TEST_F(GuideMethods, PredictionsAreWrittenToTheRunsFolder) {
  Trainer trainer(brief());
  const auto module = std::make_shared<Writes>();
  trainer.test(module, images());
  const auto one = read_weights(trainer.run_dir() / "digits.safetensors");
  ASSERT_EQ(one.tensors.size(), 1u);
  EXPECT_EQ(one.tensors[0].second.size(0), 64);
  const auto both = read_weights(trainer.run_dir() / "digits_and_labels.safetensors");
  ASSERT_EQ(both.tensors.size(), 2u);
  EXPECT_TRUE(torch::equal(both.tensors[1].second, mnist()->tensors()[1]));
}

// --- save_hyperparameters ---

// [guide:save_hyperparameters]
struct NetOptions {
  double learning_rate = 1e-3;
  int64_t hidden = 32;
};
TROUPE_OPTIONS(NetOptions, (learning_rate, "of Adam"), (hidden, "units of the hidden layer"))

// ModuleWith saves its options; the same names are on the command line and in config files
class Net : public ModuleWith<NetOptions> {
 public:
  explicit Net(NetOptions options) : ModuleWith(options) {
    save_hyperparameters({{"architecture", "linear"}}, {.logger = false});  // whatever else is to be remembered
    net_ = register_module("net", torch::nn::Linear(784, options.hidden));
  }
  // [guide:end]
  StepOutput training_step(const Batch& batch, int64_t) override { return net_(batch[0].flatten(1)).square().mean(); }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = options().learning_rate}); }

 private:
  torch::nn::Linear net_{nullptr};
};

TEST_F(GuideMethods, HyperParametersAreInTheCheckpoint) {
  Trainer trainer(brief());
  trainer.fit<Net>({.learning_rate = 0.01, .hidden = 8}, images());
  const auto saved = read_checkpoint(trainer.run_dir() / "checkpoints/last.safetensors").metadata["hparams"];
  EXPECT_EQ(saved, (nlohmann::json{{"learning_rate", 0.01}, {"hidden", 8}, {"architecture", "linear"}}));
}

// --- test_step, test_step_end, test_epoch_end ---

class Tested : public Classifier {
 public:
  // [guide:test_step]
  StepOutput test_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto right = forward(x).argmax(1).eq(y);
    log("test_acc", right.to(torch::kFloat).mean());
    return {{"right", right}};
  }
  // [guide:end]
  // [guide:test_step_end]
  StepOutput test_step_end(const std::vector<StepOutput>& batch_parts) override {
    std::vector<torch::Tensor> right;
    for (const StepOutput& part : batch_parts) right.push_back(part["right"]);
    return {{"right", torch::cat(right)}};
  }
  // [guide:end]
  // [guide:test_epoch_end]
  void test_epoch_end(const EpochOutputs& outputs) override {
    for (const StepOutput& output : outputs) total_right += output["right"].sum().item<int64_t>();
  }
  // [guide:end]
  int64_t total_right = 0;
};

TEST_F(GuideMethods, ATestsStepsAndEnds) {
  const auto module = std::make_shared<Tested>();
  Trainer trainer(brief(3));
  trainer.fit(module, images());
  const auto results = trainer.test(module, images());
  EXPECT_EQ(results[0].at("test_acc"), 1);
  EXPECT_EQ(module->total_right, 64);
}

class TestedOnSeveral : public Classifier {
 public:
  // [guide:test_step_several_loaders]
  StepOutput test_step(const Batch& batch, int64_t, int64_t dataloader_idx) override {
    log("test_loss", loss_of(batch));  // as test_loss/dataloader_idx_0 and so on
    loaders.insert(dataloader_idx);
    return {};
  }
  // [guide:end]
  std::set<int64_t> loaders;
};

TEST_F(GuideMethods, ATestOnSeveralLoaders) {
  const auto module = std::make_shared<TestedOnSeveral>();
  const auto results = Trainer(brief()).test(module, {images(), images(32)});
  EXPECT_EQ(results.size(), 2u);
  EXPECT_THAT(module->loaders, ElementsAre(0, 1));
  EXPECT_TRUE(results[1].contains("test_loss/dataloader_idx_1"));
}

// --- training_step, training_step_end, training_epoch_end ---

class Trained : public Classifier {
 public:
  // [guide:training_step]
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto [x, y] = batch.get<2>();
    if (batch_idx == 2) return {};  // skip this batch
    auto logits = forward(x);
    return {{"loss", F::cross_entropy(logits, y)}, {"logits", logits}};
  }
  // [guide:end]
  // [guide:training_step_end]
  StepOutput training_step_end(const std::vector<StepOutput>& batch_parts) override {
    ++step_ends;
    return batch_parts.front();  // the only one, unless a strategy has cut the batch in parts
  }
  // [guide:end]
  // [guide:training_epoch_end]
  void training_epoch_end(const EpochOutputs& outputs) override {
    for (const StepOutput& output : outputs) {
      if (const torch::Tensor* logits = output.find("logits")) rows += logits->size(0);
    }
  }
  // [guide:end]
  int64_t rows = 0, step_ends = 0;
};

class TrainedTwice : public Two {
 public:
  // [guide:training_step_several_optimizers]
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    turns.push_back(optimizer_idx);
    return loss_of(batch);
  }
  // [guide:end]
  Optimizers configure_optimizers() override {
    return {optim::sgd({net_->weight}, {.lr = 0.1}), optim::sgd({net_->bias}, {.lr = 0.1})};
  }
};

TEST_F(GuideMethods, ATrainingsStepsAndEnds) {
  const auto module = std::make_shared<Trained>();
  Trainer trainer(brief());
  trainer.fit(module, images());
  EXPECT_EQ(module->rows, 48);
  EXPECT_EQ(module->step_ends, 4);
  EXPECT_EQ(trainer.global_step(), 3);
  const auto twice = std::make_shared<TrainedTwice>();
  Trainer(brief()).fit(twice, images(32));
  EXPECT_THAT(twice->turns, ElementsAre(0, 1, 0, 1));
}

// --- validation_step, validation_step_end, validation_epoch_end ---

class Validated : public Classifier {
 public:
  // [guide:validation_step]
  StepOutput validation_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto logits = forward(x);
    log("val_loss", F::cross_entropy(logits, y), {.prog_bar = true});
    return {{"logits", logits}};
  }
  // [guide:end]
  // [guide:validation_step_end]
  StepOutput validation_step_end(const std::vector<StepOutput>& batch_parts) override {
    return {{"digits", batch_parts.front()["logits"].argmax(1)}};
  }
  // [guide:end]
  // [guide:validation_epoch_end]
  void validation_epoch_end(const EpochOutputs& outputs) override {
    for (const auto& loader : outputs.by_loader()) {  // one, unless there are several validation loaders
      for (const StepOutput& output : loader) digits += output["digits"].size(0);
    }
  }
  // [guide:end]
  int64_t digits = 0;
};

TEST_F(GuideMethods, AValidationsStepsAndEnds) {
  const auto module = std::make_shared<Validated>();
  Trainer trainer(brief());
  trainer.validate(module, images());
  EXPECT_EQ(module->digits, 64);
  EXPECT_TRUE(trainer.callback_metrics().contains("val_loss"));
}

// --- to_onnx, to_torchscript ---

TEST_F(GuideMethods, ExportsOfAModule) {
  Classifier model;
  model.example_input_array = torch::rand({1, 1, 28, 28});
  const auto input_sample = torch::rand({2, 1, 28, 28});
  // [guide:to_onnx]
  model.to_onnx("model.onnx", input_sample);
  model.to_onnx("model.onnx");  // with example_input_array
  // [guide:end]
  EXPECT_GT(std::filesystem::file_size("model.onnx"), 784u * 10 * 4);
  // [guide:to_torchscript]
  torch::jit::Module script = model.to_torchscript();
  model.to_torchscript("model.pt");  // also to a file, which Python's torch.jit.load reads
  // [guide:end]
  const auto x = torch::rand({3, 1, 28, 28});
  EXPECT_TRUE(torch::allclose(script.forward({x}).toTensor(), model.forward(x)));
  EXPECT_TRUE(std::filesystem::exists("model.pt"));
}

// --- load_from_checkpoint and the checkpoint hooks' counterpart on the Trainer ---

TEST_F(GuideMethods, LoadFromCheckpoint) {
  Trainer trainer(brief());
  const auto trained = trainer.fit(std::make_shared<Classifier>(), images());
  const auto path = trainer.run_dir() / "checkpoints/last.safetensors";
  // [guide:load_from_checkpoint]
  auto model = load_from_checkpoint<Classifier>(path);

  // hyper-parameters that win over those in the file; weights that fit, and the names of those that do not
  IncompatibleKeys keys;
  auto other = load_from_checkpoint<Classifier>(
      path, {.hparams = {{"note", "mine"}}, .strict = false, .incompatible_keys = &keys});
  // [guide:end]
  EXPECT_TRUE(torch::equal(model->parameters()[0], trained->parameters()[0]));
  EXPECT_TRUE(keys.missing_keys.empty());
  EXPECT_EQ(other->parameters().size(), 2u);
}

}  // namespace
}  // namespace guide_methods
