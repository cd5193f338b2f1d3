// A checkpoint's metadata as bytes, behind checksums that fit, and all that reads them: a stranger's checksums fit, and
// without them no mutation would get past the first look.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"
#include "troupe/runtime/checkpoint/checksum.hpp"
#include "troupe/runtime/checkpoint/metric_state.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/optimizer_state.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "troupe/runtime/loops/run_state.hpp"
#include "troupe/runtime/precision/grad_scaler.hpp"
#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::fuzz {

struct Hparams {
  double lr = 0.1;
  int64_t hidden = 3;
  std::string name = "net";
  std::vector<double> betas = {0.9, 0.999};
  std::optional<bool> bias = true;
};
TROUPE_OPTIONS(Hparams, (lr, ""), (hidden, ""), (name, ""), (betas, ""), (bias, ""))

/// What a resumed run and load_from_checkpoint read, without the run.
class Metadata {
 public:
  explicit Metadata(std::filesystem::path path) : path_(std::move(path)) {
    early_stopping_.start({});
    model_checkpoint_.start({.run_dir = path_.parent_path()});
    mean_->update(1.0);
    net_->forward(torch::ones({1, 3})).sum().backward();
    adam_->step();
    Checkpoint saved;
    append_model_state(saved, *net_);
    append_optimizer_state(saved, 0, *adam_, named_);
    append_metric_state(saved, "mean", mean_->states());
    append_epoch_reductions(saved, {{.name = "loss", .options = {}, .total = 1, .weight = 1}});
    // Numbers that no kernel rounds: the corpus has their checksums.
    for (auto& [name, tensor] : saved.tensors) tensor = torch::ones_like(tensor, torch::MemoryFormat::Contiguous);
    auto& metadata = saved.metadata;
    metadata["saved_at"] = 1.5;
    metadata["run"] = {{"name", "net"}, {"model", {{"lr", 0.1}}}, {"launch", ""}};
    metadata["progress"] = to_json(Progress{.epoch = 1, .batch_idx = 2, .global_step = 3});
    metadata["hparams"] = to_json_object(Hparams());
    metadata["grad_scaler"] = scaler_.state_dict();
    metadata["lr_schedulers"] = {step_->state_dict(), plateau_->state_dict()};
    metadata["callbacks"] = {early_stopping_.state_dict(), model_checkpoint_.state_dict(), timer_.state_dict()};
    metadata["callbacks"][1]["dirpath"] = "/";
    metadata["loop"] = {
        {"validated_batches", 4},
        {"seconds_since_validation", 1.5},
        {"seconds_since_log", 0.5},
        {"stops", {{{"monitor", monitor_->state_key()}, {"reason", "no better"}}, {{"reason", "asked"}}}},
        {"validations",
         {{{"progress", to_json(Progress{.batch_idx = 4})},
           {"metrics", {{"loss", 1.0}}},
           {"epoch_end", {{"progress", to_json(Progress{})}, {"metrics", {{"loss", 0.5}}}}}}}}};
    metadata["validations"] = {1};
    write_checkpoint(saved, path_);
    tensors_ = std::move(saved.tensors);
    seed_ = SafetensorsFile(path_).metadata().at("troupe");
  }

  const std::string& seed() const { return seed_; }

  void read(const std::string& text) {
    std::filesystem::remove(path_);
    write_safetensors(*real_file_system().create(path_), tensors_,
                      {{"troupe", text}, {"troupe_xxh3_64", Checksum().add(text).hex()}});
    const auto checkpoint = read_checkpoint(path_);
    (void)find_last(path_.parent_path(), {.name = "net"});
    try {
      (void)find_best(path_.parent_path(), {.name = "net"});
    } catch (const CheckpointError&) {  // it need not name one
    }
    const auto at = [&](const char* key) { return checkpoint.metadata.value(key, nlohmann::json()); };
    const auto nth = [&](const char* key, std::size_t i) {
      const auto list = at(key);
      return list.is_array() && i < list.size() ? list[i] : nlohmann::json();
    };
    load_model_state(checkpoint, *net_, true);
    load_optimizer_state(checkpoint, 0, *adam_, named_);
    load_metric_states(checkpoint, {{"mean", mean_}});
    load_epoch_reductions(checkpoint);
    auto progress = progress_from_json(at("progress"));
    options_from_json<Hparams>(at("hparams"), "hparams");
    scaler_.load_state_dict(at("grad_scaler"));
    step_->load_state_dict(nth("lr_schedulers", 0));
    plateau_->load_state_dict(nth("lr_schedulers", 1));
    early_stopping_.load_state_dict(nth("callbacks", 0));
    model_checkpoint_.load_state_dict(nth("callbacks", 1));
    timer_.load_state_dict(nth("callbacks", 2));
    count_on(progress);
    read_loop(checkpoint);
  }

 private:
  /// As the script of fit does.
  void read_loop(const Checkpoint& checkpoint) {
    RunState state;
    TrainerOptions options;
    options.val_check_interval = std::chrono::seconds(5);
    options.log_every = "7s";
    state.options = std::make_shared<const TrainerOptions>(resolved(std::move(options)));
    state.facts.has_evaluation = true;
    state.monitors = {monitor_};
    state.checkpoint = std::make_shared<const Checkpoint>(checkpoint);
    state.load_loop(checkpoint.metadata);
    state.load_stops(checkpoint.metadata);
    state.start_times();
    state.load_validations(checkpoint.metadata);
    (void)state.loop_to_json();
  }
  /// What a run does next with the counts: one that nothing can be added to must have been refused.
  void count_on(Progress& progress) {
    (void)model_checkpoint_.next_step(progress);
    for (int64_t* count :
         {&progress.epoch, &progress.batch_idx, &progress.global_step, &progress.total_batches, &progress.log_step}) {
      *count += 1;
    }
    (void)early_stopping_.decide(Moment::train_epoch_end, progress, {{"loss", 1.0}});
    mean_->update(1.0);
    step_->step();
    plateau_->step(1.0);
  }

  std::filesystem::path path_;
  std::shared_ptr<torch::nn::LinearImpl> net_ = std::make_shared<torch::nn::LinearImpl>(3, 2);
  std::vector<std::pair<std::string, torch::Tensor>> named_ = {{"weight", net_->weight}, {"bias", net_->bias}};
  lr_schedulers::Optimizer adam_ = std::make_shared<torch::optim::Adam>(net_->parameters());
  std::shared_ptr<metrics::MeanMetric> mean_ = std::make_shared<metrics::MeanMetric>();
  GradScaler scaler_{torch::kCPU};
  std::shared_ptr<LRScheduler> step_ = lr_schedulers::step(adam_, {.step_size = 2});
  std::shared_ptr<LRScheduler> plateau_ = lr_schedulers::reduce_on_plateau(adam_);
  std::shared_ptr<EarlyStopping> monitor_ =
      std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "loss"});  // whose stop is read
  EarlyStopping early_stopping_{{.monitor = "loss"}};
  ModelCheckpoint model_checkpoint_{{.monitor = "loss", .every_n_train_steps = 2}};
  Timer timer_;
  NamedTensors tensors_;
  std::string seed_;
};

}  // namespace troupe::fuzz
