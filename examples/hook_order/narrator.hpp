// A module that overrides every hook, prints its name and does what the default does.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

class Narrator : public troupe::Module {
 public:
  using Batch = troupe::Batch;
  using Output = troupe::StepOutput;
  using Optimizer = torch::optim::Optimizer;

  Narrator() { layer_ = register_module("layer", torch::nn::Linear(4, 1)); }

  torch::Tensor forward(torch::Tensor x) override { return layer_(x); }
  Output training_step(const Batch& batch, int64_t) override { return say("training_step"), loss(batch); }
  Output validation_step(const Batch& batch, int64_t) override { return say("validation_step"), loss(batch); }
  Output test_step(const Batch& batch, int64_t) override { return say("test_step"), loss(batch); }
  Output predict_step(const Batch& batch, int64_t) override { return say("predict_step"), forward(batch[0]); }

  troupe::Optimizers configure_optimizers() override {
    say("configure_optimizers");
    return troupe::optim::adam(parameters());
  }
  std::vector<std::shared_ptr<troupe::Callback>> configure_callbacks() override {
    say("configure_callbacks");
    return {};
  }

  void prepare_data() override { say("prepare_data"); }
  void setup(troupe::Stage) override { say("setup"); }
  void teardown(troupe::Stage) override { say("teardown"); }
  troupe::DataLoaders train_dataloader() override { return say("train_dataloader"), loader(); }
  troupe::DataLoaders val_dataloader() override { return say("val_dataloader"), loader(); }
  troupe::DataLoaders test_dataloader() override { return say("test_dataloader"), loader(); }
  troupe::DataLoaders predict_dataloader() override { return say("predict_dataloader"), loader(); }
  Batch on_before_batch_transfer(Batch batch, int64_t) override { return say("on_before_batch_transfer"), batch; }
  Batch transfer_batch_to_device(Batch batch, torch::Device device, int64_t i) override {
    say("transfer_batch_to_device");
    return Module::transfer_batch_to_device(std::move(batch), device, i);
  }
  Batch on_after_batch_transfer(Batch batch, int64_t) override { return say("on_after_batch_transfer"), batch; }

  void on_fit_start() override { say("on_fit_start"); }
  void on_fit_end() override { say("on_fit_end"); }
  void on_post_move_to_device() override { say("on_post_move_to_device"); }
  void on_pretrain_routine_start() override { say("on_pretrain_routine_start"); }
  void on_pretrain_routine_end() override { say("on_pretrain_routine_end"); }
  void on_train_start() override { say("on_train_start"); }
  void on_train_end() override { say("on_train_end"); }
  void on_epoch_start() override { say("on_epoch_start"); }
  void on_epoch_end() override { say("on_epoch_end"); }
  void on_train_epoch_start() override { say("on_train_epoch_start"); }
  void training_epoch_end(const troupe::EpochOutputs&) override { say("training_epoch_end"); }
  void on_train_epoch_end() override { say("on_train_epoch_end"); }
  troupe::EpochControl on_train_batch_start(const Batch&, int64_t) override {
    say("on_train_batch_start");
    return troupe::EpochControl::proceed;
  }
  void on_train_batch_end(const Output&, const Batch&, int64_t) override { say("on_train_batch_end"); }
  void on_before_zero_grad(Optimizer&) override { say("on_before_zero_grad"); }
  void optimizer_zero_grad(int64_t epoch, int64_t batch, Optimizer& optimizer, int64_t i) override {
    say("optimizer_zero_grad");
    Module::optimizer_zero_grad(epoch, batch, optimizer, i);
  }
  void on_before_backward(const torch::Tensor&) override { say("on_before_backward"); }
  void backward(const torch::Tensor& loss, Optimizer& optimizer, int64_t i) override {
    say("backward");
    Module::backward(loss, optimizer, i);
  }
  void on_after_backward() override { say("on_after_backward"); }
  void on_before_optimizer_step(Optimizer&, int64_t) override { say("on_before_optimizer_step"); }
  void configure_gradient_clipping(Optimizer& optimizer, int64_t i, std::optional<double> value,
                                   troupe::GradientClipAlgorithm algorithm) override {
    say("configure_gradient_clipping");
    Module::configure_gradient_clipping(optimizer, i, value, algorithm);
  }
  void optimizer_step(int64_t epoch, int64_t batch, Optimizer& optimizer, int64_t i,
                      const troupe::OptimizerClosure& closure) override {
    say("optimizer_step");
    Module::optimizer_step(epoch, batch, optimizer, i, closure);
  }

  void on_validation_model_eval() override { say("on_validation_model_eval"), Module::on_validation_model_eval(); }
  void on_validation_model_train() override { say("on_validation_model_train"), Module::on_validation_model_train(); }
  void on_validation_start() override { say("on_validation_start"); }
  void on_validation_end() override { say("on_validation_end"); }
  void on_validation_epoch_start() override { say("on_validation_epoch_start"); }
  void validation_epoch_end(const troupe::EpochOutputs&) override { say("validation_epoch_end"); }
  void on_validation_epoch_end() override { say("on_validation_epoch_end"); }
  void on_validation_batch_start(const Batch&, int64_t, int64_t) override { say("on_validation_batch_start"); }
  void on_validation_batch_end(const Output&, const Batch&, int64_t, int64_t) override {
    say("on_validation_batch_end");
  }

  void on_test_model_eval() override { say("on_test_model_eval"), Module::on_test_model_eval(); }
  void on_test_model_train() override { say("on_test_model_train"), Module::on_test_model_train(); }
  void on_test_start() override { say("on_test_start"); }
  void on_test_end() override { say("on_test_end"); }
  void on_test_epoch_start() override { say("on_test_epoch_start"); }
  void test_epoch_end(const troupe::EpochOutputs&) override { say("test_epoch_end"); }
  void on_test_epoch_end() override { say("on_test_epoch_end"); }
  void on_test_batch_start(const Batch&, int64_t, int64_t) override { say("on_test_batch_start"); }
  void on_test_batch_end(const Output&, const Batch&, int64_t, int64_t) override { say("on_test_batch_end"); }

  void on_predict_model_eval() override { say("on_predict_model_eval"), Module::on_predict_model_eval(); }
  void on_predict_start() override { say("on_predict_start"); }
  void on_predict_end() override { say("on_predict_end"); }
  void on_predict_epoch_start() override { say("on_predict_epoch_start"); }
  void on_predict_epoch_end() override { say("on_predict_epoch_end"); }
  void on_predict_batch_start(const Batch&, int64_t, int64_t) override { say("on_predict_batch_start"); }
  void on_predict_batch_end(const Output&, const Batch&, int64_t, int64_t) override { say("on_predict_batch_end"); }

  void on_save_checkpoint(nlohmann::json&) override { say("on_save_checkpoint"); }
  void on_load_checkpoint(const nlohmann::json&) override { say("on_load_checkpoint"); }
  troupe::StepOutput training_step_end(const std::vector<troupe::StepOutput>& parts) override {
    return say("training_step_end"), Module::training_step_end(parts);
  }
  troupe::StepOutput validation_step_end(const std::vector<troupe::StepOutput>& parts) override {
    return say("validation_step_end"), Module::validation_step_end(parts);
  }
  troupe::StepOutput test_step_end(const std::vector<troupe::StepOutput>& parts) override {
    return say("test_step_end"), Module::test_step_end(parts);
  }
  void lr_scheduler_step(troupe::LRScheduler& scheduler, int64_t index, std::optional<double> metric) override {
    say("lr_scheduler_step"), Module::lr_scheduler_step(scheduler, index, metric);
  }
  std::vector<Batch> tbptt_split_batch(const Batch& batch, int64_t size) override {
    return say("tbptt_split_batch"), Module::tbptt_split_batch(batch, size);
  }
  troupe::MetricMap get_progress_bar_dict(troupe::MetricMap metrics) override {
    return say("get_progress_bar_dict"), metrics;
  }
  void add_to_queue(troupe::ResultQueue&) override { say("add_to_queue"); }
  void get_from_queue(troupe::ResultQueue&) override { say("get_from_queue"); }

 private:
  static void say(const char* hook) { std::cout << hook << std::endl; }

  torch::Tensor loss(const Batch& batch) { return forward(batch[0]).square().mean(); }

  // Numbers that need no file: four features of eight samples.
  static troupe::DataLoader loader() {
    return {std::make_shared<troupe::TensorDataset>(torch::linspace(-1, 1, 32).reshape({8, 4})), {.batch_size = 2}};
  }

  torch::nn::Linear layer_{nullptr};
};
