// The guide's hooks, one snippet an entry, each in a run that shows what it is for.
#include "tests/guide/images.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Not;

namespace guide_hooks {
namespace {

class GuideHooks : public InAFolderOfItsOwn {};
using Optimizer = torch::optim::Optimizer;
using Clock = std::chrono::steady_clock;

class Base : public Module {
 public:
  Base() { net_ = register_module("net", torch::nn::Linear(784, 10)); }
  torch::Tensor forward(torch::Tensor x) override { return net_(x.flatten(1)); }
  torch::Tensor loss_of(const Batch& batch) { return F::cross_entropy(forward(batch[0]), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t) override { return loss_of(batch); }
  StepOutput validation_step(const Batch& batch, int64_t) override { return loss_of(batch); }
  StepOutput test_step(const Batch& batch, int64_t) override { return loss_of(batch); }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }

 protected:
  torch::nn::Linear net_{nullptr};
};

// --- Of the optimization ---

class Optimizes : public Base {
 public:
  // [guide:backward]
  void backward(const torch::Tensor& loss, Optimizer&, int64_t optimizer_idx) override {
    loss.backward();
    backwards[optimizer_idx] += 1;
  }
  // [guide:end]
  // [guide:on_before_backward]
  void on_before_backward(const torch::Tensor& loss) override { losses.push_back(loss.item<double>()); }
  // [guide:end]
  // [guide:on_after_backward]
  void on_after_backward() override {
    // gradients are there, not yet clipped
    if (global_step() % 2 == 0) logger().log_histogram("gradients", net_->weight.grad());
    gradients.push_back(net_->weight.grad().norm().item<double>());  // [guide:hide]
  }
  // [guide:end]
  // [guide:on_before_zero_grad]
  void on_before_zero_grad(Optimizer&) override {
    // the gradients of the step before are still there, except the first time
    had_gradients.push_back(net_->weight.grad().defined());
  }
  // [guide:end]
  // [guide:on_before_optimizer_step]
  void on_before_optimizer_step(Optimizer&, int64_t) override {
    if (!net_->weight.grad().isfinite().all().item<bool>()) trainer().request_stop("a gradient is not finite");
  }
  // [guide:end]
  // [guide:optimizer_zero_grad]
  void optimizer_zero_grad(int64_t, int64_t, Optimizer& optimizer, int64_t) override {
    optimizer.zero_grad(/*set_to_none=*/true);
  }
  // [guide:end]
  std::map<int64_t, int> backwards;
  std::vector<double> losses, gradients;
  std::vector<bool> had_gradients;
};

TEST_F(GuideHooks, OfABackwardPass) {
  Trainer trainer(brief());
  const auto module = trainer.fit(std::make_shared<Optimizes>(), images());
  EXPECT_EQ(module->backwards[0], 4);
  EXPECT_EQ(module->losses.size(), 4u);
  EXPECT_THAT(module->gradients, Each(Gt(0)));
  EXPECT_THAT(module->had_gradients, ElementsAre(false, true, true, true));
  EXPECT_EQ(trainer.stop_reason().find("finite"), std::string::npos);
}

class WarmsUp : public Base {
 public:
  // [guide:optimizer_step]
  void optimizer_step(int64_t, int64_t, Optimizer& optimizer, int64_t, const OptimizerClosure& closure) override {
    // warm up over the first two steps
    const double rate = 0.1 * std::min(1.0, static_cast<double>(global_step() + 1) / 2);
    for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
    rates.push_back(rate);    // [guide:hide]
    optimizer.step(closure);  // a step that does not call the closure does not count
  }
  // [guide:end]
  // [guide:configure_gradient_clipping]
  void configure_gradient_clipping(Optimizer& optimizer, int64_t optimizer_idx, std::optional<double> clip_val,
                                   GradientClipAlgorithm algorithm) override {
    if (optimizer_idx == 0) clip_gradients(optimizer, clip_val, algorithm);
    norm = net_->weight.grad().norm().item<double>();  // [guide:hide]
  }
  // [guide:end]
  // [guide:lr_scheduler_step]
  void lr_scheduler_step(LRScheduler& scheduler, int64_t, std::optional<double> metric) override {
    metric ? scheduler.step(*metric) : scheduler.step();
    ++scheduler_steps;  // [guide:hide]
  }
  // [guide:end]
  Optimizers configure_optimizers() override {
    auto optimizer = optim::sgd(parameters(), {.lr = 0.1});
    return {optimizer, lr_schedulers::exponential(optimizer, {.gamma = 1.0})};
  }
  std::vector<double> rates;
  double norm = 1;
  int scheduler_steps = 0;
};

TEST_F(GuideHooks, OfAStep) {
  auto options = brief();
  options.gradient_clip_val = 0.01;
  const auto module = Trainer(options).fit(std::make_shared<WarmsUp>(), images());
  EXPECT_THAT(module->rates, ElementsAre(0.05, 0.1, 0.1, 0.1));
  EXPECT_LT(module->norm, 0.0101);
  EXPECT_EQ(module->scheduler_steps, 1);
}

// --- Of the run ---

class Run : public Base {
 public:
  // [guide:on_fit_start]
  void on_fit_start() override { began_ = Clock::now(); }
  // [guide:end]
  // [guide:on_fit_end]
  void on_fit_end() override { print("took", std::chrono::duration<double>(Clock::now() - began_).count(), "s"); }
  // [guide:end]
  // [guide:on_pretrain_routine_start]
  void on_pretrain_routine_start() override {
    // optimizers are there, nothing has run yet
    optimizers_there = optimizers().size();
  }
  // [guide:end]
  // [guide:on_pretrain_routine_end]
  void on_pretrain_routine_end() override { resumed_at = global_step(); }
  // [guide:end]
  // [guide:on_train_start]
  void on_train_start() override { logger().log_text("data", "MNIST"); }
  // [guide:end]
  // [guide:on_train_end]
  void on_train_end() override { last_epoch = current_epoch(); }
  // [guide:end]
  // [guide:on_epoch_start]
  void on_epoch_start() override { ++epochs_begun; }  // of training, validation and test
  // [guide:end]
  // [guide:on_epoch_end]
  void on_epoch_end() override { ++epochs_ended; }
  // [guide:end]
  // [guide:on_train_epoch_start]
  void on_train_epoch_start() override { correct_ = 0; }
  // [guide:end]
  // [guide:on_train_epoch_end]
  void on_train_epoch_end() override { log("train_correct", static_cast<double>(correct_)); }
  // [guide:end]
  // [guide:on_train_batch_start]
  EpochControl on_train_batch_start(const Batch&, int64_t batch_idx) override {
    // skip_rest_of_epoch is what -1 is in Python
    return batch_idx < 3 ? EpochControl::proceed : EpochControl::skip_rest_of_epoch;
  }
  // [guide:end]
  // [guide:on_train_batch_end]
  void on_train_batch_end(const StepOutput& output, const Batch& batch, int64_t) override {
    correct_ += output["right"].item<int64_t>();
    seen += batch.size();
  }
  // [guide:end]
  StepOutput training_step(const Batch& batch, int64_t) override {
    return {{"loss", loss_of(batch)}, {"right", forward(batch[0]).argmax(1).eq(batch[1]).sum()}};
  }
  std::size_t optimizers_there = 0;
  int64_t resumed_at = -1, last_epoch = -1, seen = 0, epochs_begun = 0, epochs_ended = 0;

 private:
  Clock::time_point began_;
  int64_t correct_ = 0;
};

TEST_F(GuideHooks, OfATraining) {
  auto options = brief(2);
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  testing::internal::CaptureStdout();
  const auto module = trainer.fit(std::make_shared<guide_hooks::Run>(), images(), images());
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("took "));
  EXPECT_EQ(module->optimizers_there, 1u);
  EXPECT_EQ(module->resumed_at, 0);
  EXPECT_EQ(module->last_epoch, 2);
  EXPECT_EQ(module->epochs_begun, 4);
  EXPECT_EQ(module->epochs_ended, 4);
  EXPECT_EQ(module->seen, 2 * 3 * 16);
  EXPECT_GT(trainer.callback_metrics().at("train_correct"), 0);
}

class Bar : public Base {
 public:
  // [guide:get_progress_bar_dict]
  MetricMap get_progress_bar_dict(MetricMap metrics) override {
    metrics.erase("internal");
    metrics["lr"] = lr_of_first_group();
    return metrics;
  }
  // [guide:end]
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = loss_of(batch);
    log("internal", loss, {.prog_bar = true});
    log("shown", loss, {.prog_bar = true});
    return loss;
  }

 private:
  double lr_of_first_group() const { return optimizer()->param_groups()[0].options().get_lr(); }
};

TEST_F(GuideHooks, TheProgressBarShowsWhatTheModuleWants) {
  auto options = brief();
  options.enable_progress_bar = true;
  testing::internal::CaptureStderr();
  Trainer(options).fit(std::make_shared<Bar>(), images());
  const auto said = testing::internal::GetCapturedStderr();
  const auto shown = said.substr(0, said.find("fit finished"));
  EXPECT_THAT(shown, HasSubstr("lr"));
  EXPECT_THAT(shown, HasSubstr("shown"));
  EXPECT_THAT(shown, Not(HasSubstr("internal")));
}

// --- Of checkpoints ---

class Remembers : public Base {
 public:
  // [guide:on_save_checkpoint]
  void on_save_checkpoint(nlohmann::json& checkpoint) override { checkpoint["vocabulary"] = vocabulary; }
  // [guide:end]
  // [guide:on_load_checkpoint]
  void on_load_checkpoint(const nlohmann::json& checkpoint) override {
    vocabulary = checkpoint.at("vocabulary").get<std::vector<std::string>>();
  }
  // [guide:end]
  std::vector<std::string> vocabulary;
};

TEST_F(GuideHooks, OfACheckpoint) {
  Trainer trainer(brief());
  const auto module = std::make_shared<Remembers>();
  module->vocabulary = {"a", "b"};
  trainer.fit(module, images());
  const auto loaded = load_from_checkpoint<Remembers>(trainer.run_dir() / "checkpoints/last.safetensors");
  EXPECT_THAT(loaded->vocabulary, ElementsAre("a", "b"));
}

// --- Of validation and test ---

class Evaluates : public Base {
 public:
  Evaluates() { frozen_norm = register_module("frozen_norm", torch::nn::BatchNorm1d(10)), frozen_norm->eval(); }
  // [guide:on_validation_model_eval]
  void on_validation_model_eval() override {
    Module::on_validation_model_eval();  // eval(), with the modes to go back to remembered
    modes.push_back(is_training());      // [guide:hide]
  }
  // [guide:end]
  // [guide:on_validation_model_train]
  void on_validation_model_train() override {
    Module::on_validation_model_train();  // what was in eval mode before stays in it
    modes.push_back(is_training());       // [guide:hide]
  }
  // [guide:end]
  // [guide:on_validation_start]
  void on_validation_start() override { ++validations; }
  // [guide:end]
  // [guide:on_validation_end]
  void on_validation_end() override { print("validated", validations, "times"); }
  // [guide:end]
  // [guide:on_validation_epoch_start]
  void on_validation_epoch_start() override { losses_.clear(); }
  // [guide:end]
  // [guide:on_validation_epoch_end]
  void on_validation_epoch_end() override { log("val_median", torch::stack(losses_).median()); }
  // [guide:end]
  // [guide:on_validation_batch_start]
  void on_validation_batch_start(const Batch& batch, int64_t, int64_t dataloader_idx) override {
    samples_of_loader[dataloader_idx] += batch.size();
  }
  // [guide:end]
  // [guide:on_validation_batch_end]
  void on_validation_batch_end(const StepOutput& output, const Batch&, int64_t, int64_t) override {
    losses_.push_back(output.loss());
  }
  // [guide:end]
  std::vector<bool> modes;
  std::map<int64_t, int64_t> samples_of_loader;
  int validations = 0;
  torch::nn::BatchNorm1d frozen_norm{nullptr};

 private:
  std::vector<torch::Tensor> losses_;
};

TEST_F(GuideHooks, OfAValidation) {
  auto options = brief();
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  testing::internal::CaptureStdout();
  const auto module = trainer.fit(std::make_shared<Evaluates>(), images(), {images(), images(32)});
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "validated 1 times\n");
  EXPECT_THAT(module->modes, ElementsAre(false, true));
  EXPECT_FALSE(module->frozen_norm->is_training());
  EXPECT_EQ(module->samples_of_loader[0], 64);
  EXPECT_EQ(module->samples_of_loader[1], 64);
  EXPECT_GT(trainer.callback_metrics().at("val_median"), 0);
}

class Tests : public Base {
 public:
  // [guide:on_test_model_eval]
  void on_test_model_eval() override { Module::on_test_model_eval(); }
  // [guide:end]
  // [guide:on_test_model_train]
  void on_test_model_train() override { Module::on_test_model_train(); }
  // [guide:end]
  // [guide:on_test_start]
  void on_test_start() override { errors_.assign(10, 0); }  // of each digit
  // [guide:end]
  // [guide:on_test_end]
  void on_test_end() override { worst_digit = std::distance(errors_.begin(), std::ranges::max_element(errors_)); }
  // [guide:end]
  // [guide:on_test_epoch_start]
  void on_test_epoch_start() override { count_ = 0; }
  // [guide:end]
  // [guide:on_test_epoch_end]
  void on_test_epoch_end() override { log("tested", static_cast<double>(count_)); }
  // [guide:end]
  // [guide:on_test_batch_start]
  void on_test_batch_start(const Batch& batch, int64_t, int64_t) override { count_ += batch.size(); }
  // [guide:end]
  // [guide:on_test_batch_end]
  void on_test_batch_end(const StepOutput& output, const Batch& batch, int64_t, int64_t) override {
    const auto wrong = output["digit"].ne(batch[1]);
    for (int64_t i = 0; i < batch.size(); ++i) errors_[batch[1][i].item<int64_t>()] += wrong[i].item<int64_t>();
  }
  // [guide:end]
  StepOutput test_step(const Batch& batch, int64_t) override {
    EXPECT_FALSE(is_training());
    return {{"digit", torch::zeros_like(batch[1])}};  // right for 0 alone
  }
  int64_t worst_digit = -1;

 private:
  std::vector<int64_t> errors_;
  int64_t count_ = 0;
};

TEST_F(GuideHooks, OfATest) {
  const auto module = std::make_shared<Tests>();
  const auto results = Trainer(brief()).test(module, images());
  EXPECT_EQ(results[0].at("tested"), 64);
  EXPECT_EQ(module->worst_digit, 1);
  EXPECT_TRUE(module->is_training());
}

// --- Of weights and devices ---

class LanguageModel : public Module {
 public:
  LanguageModel() {
    embedding_ = register_module("embedding", torch::nn::Embedding(12, 8));
    decoder_ = register_module("decoder", torch::nn::Linear(torch::nn::LinearOptions(8, 12).bias(false)));
  }
  // [guide:on_post_move_to_device]
  void on_post_move_to_device() override {
    // layers are on their device, no optimizer exists yet; ties made in a constructor hold too
    tie_weights(*decoder_, decoder_->weight, embedding_->weight);
  }
  // [guide:end]
  StepOutput training_step(const Batch& batch, int64_t) override {
    return F::cross_entropy(decoder_(embedding_(batch[0])), batch[0]);
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1}); }
  bool is_tied() const { return decoder_->weight.is_same(embedding_->weight); }

 private:
  torch::nn::Embedding embedding_{nullptr};
  torch::nn::Linear decoder_{nullptr};
};

TEST_F(GuideHooks, OfTheDevice) {
  const auto module = std::make_shared<LanguageModel>();
  Trainer(brief()).fit(module, DataLoader(std::make_shared<TensorDataset>(torch::arange(12)), {.batch_size = 12}));
  EXPECT_TRUE(module->is_tied());
  EXPECT_EQ(module->parameters().size(), 1u);
}

// --- Of data ---

class OwnData : public Base {
 public:
  // [guide:prepare_data]
  void prepare_data() override {
    // download or convert: once, on global rank zero; keep no state here
    std::ofstream("labels.txt") << "0 1 2 3 4 5 6 7 8 9";
  }
  // [guide:end]
  // [guide:setup]
  void setup(Stage stage) override {
    // on every rank: read and split; layers that depend on the data may be made here too
    std::ifstream labels("labels.txt");
    for (int64_t label; labels >> label;) labels_.push_back(label);
    if (stage == Stage::fit) train_ = mnist(48);
    held_out_ = mnist(16);
  }
  // [guide:end]
  // [guide:teardown]
  void teardown(Stage stage) override {
    if (stage == Stage::fit) train_ = nullptr;
  }
  // [guide:end]
  // [guide:train_dataloader]
  DataLoaders train_dataloader() override { return DataLoader(train_, {.batch_size = 16, .shuffle = true}); }
  // [guide:end]
  // [guide:val_dataloader]
  DataLoaders val_dataloader() override {
    return {DataLoader(held_out_, {.batch_size = 16}),
            DataLoader(held_out_, {.batch_size = 4})};  // dataloader_idx 0, 1
  }
  // [guide:end]
  // [guide:test_dataloader]
  DataLoaders test_dataloader() override { return DataLoader(held_out_, {.batch_size = 16, .num_workers = 2}); }
  // [guide:end]
  // [guide:predict_dataloader]
  DataLoaders predict_dataloader() override { return DataLoader(held_out_, {.batch_size = 16}); }
  // [guide:end]
  // [guide:on_before_batch_transfer]
  Batch on_before_batch_transfer(Batch batch, int64_t) override {
    batch[0] = batch[0].clamp(0, 1);  // on the host
    return batch;
  }
  // [guide:end]
  // [guide:transfer_batch_to_device]
  Batch transfer_batch_to_device(Batch batch, torch::Device device, int64_t) override {
    batch = batch.to(device, /*non_blocking=*/true);  // all tensors; move what else `extra` carries here
    return batch;
  }
  // [guide:end]
  // [guide:on_after_batch_transfer]
  Batch on_after_batch_transfer(Batch batch, int64_t) override {
    if (trainer().stage() == Stage::fit) batch[0] = batch[0] + 0.1 * torch::randn_like(batch[0]);  // on the device
    return batch;
  }
  // [guide:end]
  StepOutput training_step(const Batch& batch, int64_t) override {
    noisy = batch[0].max().item<double>() > 1;
    return loss_of(batch);
  }
  StepOutput validation_step(const Batch& batch, int64_t, int64_t dataloader_idx) override {
    validated[dataloader_idx] += batch.size();
    return {};
  }
  bool noisy = false;
  std::map<int64_t, int64_t> validated;
  std::size_t label_count() const { return labels_.size(); }
  bool has_training_data() const { return train_ != nullptr; }

 private:
  std::vector<int64_t> labels_;
  std::shared_ptr<Dataset> train_, held_out_;
};

TEST_F(GuideHooks, OfData) {
  auto options = brief();
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  const auto module = std::make_shared<OwnData>();
  trainer.fit(module);
  EXPECT_EQ(module->label_count(), 10u);
  EXPECT_EQ(trainer.global_step(), 3);
  EXPECT_EQ(module->validated[0], 16);
  EXPECT_EQ(module->validated[1], 16);
  EXPECT_TRUE(module->noisy);
  EXPECT_FALSE(module->has_training_data());
  EXPECT_EQ(trainer.predict(module).size(), 1u);
  EXPECT_EQ(trainer.test(module).size(), 1u);
}

// --- Of results ---

class HandsBack : public Base {
 public:
  // [guide:add_to_queue]
  void add_to_queue(ResultQueue& queue) override { queue.put(std::string("from the worker")); }
  // [guide:end]
  // [guide:get_from_queue]
  void get_from_queue(ResultQueue& queue) override { result = queue.get<std::string>(); }
  // [guide:end]
  std::string result;
};

TEST_F(GuideHooks, OfResults) {
  EXPECT_EQ(Trainer(brief()).fit(std::make_shared<HandsBack>(), images())->result, "from the worker");
}

}  // namespace
}  // namespace guide_hooks
