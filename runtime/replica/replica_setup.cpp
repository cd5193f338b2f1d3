// What a replica does before the first epoch.
#include "troupe/modules/callbacks/gradient_accumulation_scheduler.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/precision/cpu_autocast.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <c10/util/StringUtil.h>
#include <torch/torch.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <typeindex>
#include <typeinfo>
#include <unordered_set>

namespace troupe {

namespace {

bool is_core(Hook hook) {
  switch (hook) {
    case Hook::training_step:
    case Hook::optimizer_zero_grad:
    case Hook::backward:
    case Hook::optimizer_step:
    case Hook::validation_step:
    case Hook::test_step:
    case Hook::predict_step: return true;
    default: return false;
  }
}

bool is_transfer(Hook hook) {
  return std::ranges::find(hook_order::transfer, hook) != hook_order::transfer.end();
}

const char* loader_hook(Stage stage) {
  switch (stage) {
    case Stage::fit:
    case Stage::validate: return "val_dataloader";
    case Stage::test: return "test_dataloader";
    case Stage::predict: return "predict_dataloader";
  }
  return "";
}

}  // namespace

DataFacts Replica::prepare() {
  set_up_process();
  module_ = setup_.make_module();
  if (!module_) throw UsageError("the Trainer was given a null module");
  module_->attach(this);
  // A module is given to be trained, also right after it has predicted; layers that are in eval mode alone stay in it.
  if (setup_.stage == Stage::fit) {
    if (!module_->is_training()) module_->train();
    name_layers_in_eval_mode();
  }
  reset_metrics();
  if (setup_.datamodule && is_first_of_process()) setup_.datamodule->attach(this, module_.get());
  callbacks_ = setup_.options.callbacks;
  if (setup_.stage != Stage::fit) progress_ = curves_.fitted();
  if (setup_.checkpoint) restore_progress();
  if (setup_.stage == Stage::fit) curves_.begin_fit(progress_);
  run(hook_order::before_devices);
  teardown_done_ = false;
  DataFacts facts;
  const bool fits = setup_.stage == Stage::fit;
  for (const Hook hook :
       fits ? std::span<const Hook>(hook_order::fit_start) : std::span<const Hook>(hook_order::setup)) {
    run(hook);
    if (hook != Hook::setup) continue;
    // What setup made is there: the data's length, which configure_optimizers may ask for, and all layers.
    module_->attach(this);
    move_to_device();
    facts = collect_loaders();
    restore_model();
    join_peers();
    make_parts();
  }
  if (fits) {
    facts.has_optimizer = !optimizers_.empty();
    restore_rest();
    refresh_averagers();
    if (global_rank() == 0) introduce();
  }
  compile_train_program();
  return facts;
}

void Replica::set_up_process() {
  const auto& options = setup_.options;
  if (!options.seed) throw std::logic_error("a replica needs a seed");
  seed_thread(*options.seed);
  if (setup_.device.is_cuda()) torch::cuda::manual_seed(*options.seed);
  if (options.num_threads > 0 && options.num_threads != at::get_num_threads()) {
    torch::set_num_threads(static_cast<int>(options.num_threads));  // which builds pools anew
  }
  if (is_first_of_process()) process_settings_.emplace(options);
  keep_freed_memory();
  if (!setup_.peers) return;
  current_name_ = "waiting for the other workers";
  setup_.peers->wait_for_all();
  current_name_ = "";
}

// Hyper-parameters for the sinks; those of the data module below "data", as on the command line.
void Replica::introduce() {
  auto hparams = module_->logged_hparams();
  if (setup_.datamodule && !setup_.datamodule->logged_hparams().is_null()) {
    hparams["data"] = setup_.datamodule->logged_hparams();
  }
  if (!hparams.is_null()) outputs_.record(HparamsRecord{std::move(hparams)});
}

void Replica::configure_callbacks() {
  const auto own =
      is_used(Hook::configure_callbacks) ? module_->configure_callbacks() : std::vector<std::shared_ptr<Callback>>{};
  // The module's take the places of the Trainer's, not of each other.
  for (const auto& callback : own) {
    if (!callback) throw UsageError("configure_callbacks returned a null callback");
    const auto& type = typeid(*callback);
    std::erase_if(callbacks_, [&](const auto& other) { return typeid(*other) == type; });
  }
  callbacks_.insert(callbacks_.end(), own.begin(), own.end());
  check_state_keys(callbacks_);
  for (const auto& callback : callbacks_) {
    if (callback->has_batch_hooks()) batch_callbacks_.push_back(callback.get());
  }
}

void Replica::move_to_device() {
  module_->to(setup_.device);
  separate_elements(*module_);
  move_metrics(setup_.device);
  precision_ = setup_.options.precision;
  const auto type = parameter_type(precision_);
  converts_batches_ = type != torch::kFloat32;
  if (setup_.device.is_cpu() && is_mixed(precision_)) mend_cpu_autocast();
  if (converts_batches_) set_floating_type(*module_, type);
  current_name_ = "on_post_move_to_device";
  module_->on_post_move_to_device();
  current_name_ = "";
  refuse_unstorable();
}

DataFacts Replica::collect_loaders() {
  DataFacts facts;
  const auto& options = setup_.options;
  DataModule* data = setup_.datamodule.get();
  const Stage stage = setup_.stage;
  // Given to the Trainer, else the data module's, else the module's.
  const auto fill = [&](DataLoaders& loaders, const char* name, auto of_data, auto of_module) {
    current_name_ = name;
    if (loaders.empty() && data) {
      const auto lock = lock_data();
      loaders = of_data();
    }
    if (loaders.empty()) loaders = of_module();
    current_name_ = "";
  };
  if (stage == Stage::fit) {
    fill(
        setup_.train_loaders, "train_dataloader", [&] { return data->train_dataloader(); },
        [&] { return module_->train_dataloader(); });
    if (setup_.train_loaders.empty()) {
      throw UsageError("there is nothing to train on: give fit a train loader, or override train_dataloader");
    }
    current_name_ = "train_dataloader";  // whose datasets are asked for their sizes
    std::vector<std::optional<int64_t>> lengths;
    for (const auto& loader : setup_.train_loaders) {
      lengths.push_back(loader.batch_count(options.use_distributed_sampler ? world_size() : 1));
      if (lengths.back() == 0 && loader.batch_count() == 0) refuse_empty("train", loader);
    }
    current_name_ = "";
    const auto mode = options.multiple_trainloader_mode;
    facts.train_batches =
        options.limit_train_batches.of(CombinedEpoch(mode, lengths).length(), "trainer.limit_train_batches");
    agree_on_length(facts);
    combined_epoch_ = CombinedEpoch(mode, std::move(lengths), facts.train_batches.value_or(-1));
    facts.has_training = !options.limit_train_batches.is_none();
  }
  fill(
      setup_.eval_loaders, loader_hook(stage),
      [&] {
        if (stage == Stage::test) return data->test_dataloader();
        return stage == Stage::predict ? data->predict_dataloader() : data->val_dataloader();
      },
      [&] {
        if (stage == Stage::test) return module_->test_dataloader();
        return stage == Stage::predict ? module_->predict_dataloader() : module_->val_dataloader();
      });
  current_name_ = loader_hook(stage);
  add_evaluation_facts(facts);
  current_name_ = "";
  add_transfer_warnings(facts);
  count_windows(facts);
  return facts;
}

void Replica::refuse_empty(const std::string& kind, const DataLoader& loader) const {
  const int64_t size = loader.dataset() ? loader.dataset()->size() : 0;
  const auto& sampler = loader.options().sampler;
  const int64_t samples = sampler ? sampler->count(size) : size;
  std::string why = "its dataset is empty";
  if (samples > 0) {
    why = "its " + std::to_string(samples) +
          " samples are fewer than batch_size = " + std::to_string(loader.options().batch_size) +
          ", and drop_last leaves such a batch out";
  } else if (size > 0) {
    why = "its sampler gives none of the " + std::to_string(size) + " samples";
  }
  throw UsageError("the " + kind + " loader has no batch: " + why);
}

void Replica::add_evaluation_facts(DataFacts& facts) {
  const Stage stage = setup_.stage;
  const auto& options = setup_.options;
  const Amount& limit = stage == Stage::test      ? options.limit_test_batches
                        : stage == Stage::predict ? options.limit_predict_batches
                                                  : options.limit_val_batches;
  const bool has_loaders = !setup_.eval_loaders.empty();
  const bool has_step =
      stage == Stage::predict || is_used(stage == Stage::test ? Hook::test_step : Hook::validation_step);
  if (stage == Stage::fit) {
    if (has_loaders && !has_step)
      facts.warnings.push_back(
          "there is a validation loader but validation_step is not overridden: nothing is validated");
    if (!has_loaders && has_step)
      facts.warnings.push_back("validation_step is overridden but there is no validation loader: nothing is validated");
    if (!has_loaders || !has_step) {
      setup_.eval_loaders = DataLoaders();
      return;
    }
  } else if (!has_loaders) {
    throw UsageError("there is nothing to " + std::string(to_string(stage)) +
                     " on: give the Trainer a loader, or override " + loader_hook(stage));
  } else if (!has_step) {
    throw UsageError(std::string(stage == Stage::test ? "test_step" : "validation_step") + " is not overridden");
  }
  const std::string option = "trainer.limit_" +
                             std::string(stage == Stage::test      ? "test"
                                         : stage == Stage::predict ? "predict"
                                                                   : "val") +
                             "_batches";
  for (const auto& loader : setup_.eval_loaders) {
    const auto count = loader.batch_count();
    if (count == 0)
      refuse_empty(stage == Stage::fit || stage == Stage::validate ? "validation" : std::string(to_string(stage)),
                   loader);
    facts.eval_batches.push_back(limit.of(count, option));
  }
  facts.has_evaluation = !limit.is_none();
}

void Replica::add_transfer_warnings(DataFacts& facts) const {
  if (!setup_.datamodule.type_is_known()) return;
  for (const Hook hook : hook_order::transfer) {
    if (!is_used(hook) || !setup_.datamodule.overrides(hook)) continue;
    facts.warnings.push_back(std::string(to_string(hook)) +
                             " is overridden in the module and in the data module: the data module's is used");
  }
}

void Replica::count_windows(const DataFacts& facts) {
  const int64_t epochs = setup_.options.max_epochs.value_or(1000);
  windows_of_run_.reset();
  if (!facts.train_batches || epochs < 0) return;
  std::map<int64_t, int64_t> lengths = {{0, setup_.options.accumulate_grad_batches}};  // from each epoch on
  for (const auto& callback : callbacks_) {
    const auto* scheduler = dynamic_cast<const GradientAccumulationScheduler*>(callback.get());
    for (const auto& [epoch, length] : scheduler ? scheduler->scheduling() : decltype(lengths)()) {
      lengths[epoch] = length;
    }
  }
  windows_of_run_ = 0;
  for (auto from = lengths.begin(); from != lengths.end() && from->first < epochs; ++from) {
    const int64_t until = std::next(from) == lengths.end() ? epochs : std::min(epochs, std::next(from)->first);
    *windows_of_run_ += (*facts.train_batches + from->second - 1) / from->second * (until - from->first);
  }
}

std::optional<int64_t> Replica::estimated_stepping_batches(int64_t optimizers) const {
  const auto windows = module_->truncated_bptt_steps > 0 ? std::nullopt : windows_of_run_;
  if (setup_.options.max_steps < 0) return windows;
  const auto& frequencies = optimizers_.frequencies();
  const bool take_turns = !frequencies.empty() && frequencies.front() > 0;
  if (optimizers <= 0) optimizers = take_turns ? 1 : std::max<int64_t>(1, static_cast<int64_t>(optimizers_.size()));
  const int64_t most = (setup_.options.max_steps + optimizers - 1) / optimizers;
  return windows ? std::min(*windows, most) : most;
}

// An optimizer must not train what a checkpoint lacks, ranks do not average and a device does not get. Looks again
// where the optimizer has got further parameters.
void Replica::refuse_foreign_parameters(std::size_t optimizer) {
  const auto& groups = optimizers_[optimizer].param_groups();
  std::size_t count = 0;
  for (const auto& group : groups) count += group.params().size();
  if (count == checked_parameters_[optimizer]) return;
  std::unordered_set<const void*> own;
  for (const auto& parameter : module_->parameters()) own.insert(parameter.unsafeGetTensorImpl());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t i = 0; i < groups[g].params().size(); ++i) {
      const auto& parameter = groups[g].params()[i];
      const bool is_part = optimizer < sharded_.size() && sharded_[optimizer]->holds(parameter);
      if (is_part || own.contains(parameter.unsafeGetTensorImpl())) continue;
      throw UsageError("optimizer " + std::to_string(optimizer) + ": parameter " + std::to_string(i) + " of group " +
                       std::to_string(g) + ", of shape " + c10::str(parameter.sizes()) +
                       ", is not one of the module's, so that no checkpoint would have it and no device would get it:"
                       " register it with register_parameter, or its layer with register_module");
    }
  }
  checked_parameters_[optimizer] = count;
}

void Replica::configure_optimizers() {
  optimizers_ = is_used(Hook::configure_optimizers) ? module_->configure_optimizers() : Optimizers();
  for (const auto& optimizer : optimizers_) {
    if (!optimizer) throw UsageError("configure_optimizers returned a null optimizer");
  }
  refuse_repeated_parameters();
  const auto& frequencies = optimizers_.frequencies();
  const auto takes_turns = [](int64_t frequency) { return frequency > 0; };
  const bool some_take_turns = std::ranges::any_of(frequencies, takes_turns);
  for (std::size_t i = 0; some_take_turns && i < frequencies.size(); ++i) {
    if (frequencies[i] > 0) continue;
    throw UsageError("optimizer " + std::to_string(i) + " has frequency = " + std::to_string(frequencies[i]) +
                     ", others have one: give each at least 1, or none");
  }
  if (std::ranges::any_of(frequencies, [](int64_t frequency) { return frequency < 0; })) {
    throw UsageError("an optimizer has a negative frequency; use at least 1, or 0 for none");
  }
  sequences_.assign(std::max<std::size_t>(1, optimizers_.size()), {});
  checked_for_unused_.assign(setup_.options.detect_unused_parameters ? optimizers_.size() : 0, false);
  check_schedulers();
  if (!module_->automatic_optimization) check_manual_optimization();
  checked_parameters_.assign(optimizers_.size(), 0);
  for (std::size_t i = 0; i < optimizers_.size(); ++i) refuse_foreign_parameters(i);
  if (precision_ != Precision::float16_mixed) return;
  for (const auto& optimizer : optimizers_) {
    if (dynamic_cast<const torch::optim::LBFGS*>(optimizer.get())) {
      throw UsageError(
          "LBFGS evaluates the loss several times a step, which precision = '16-mixed' cannot; use bf16-mixed");
    }
  }
  scaler_.emplace(setup_.device);
}

void Replica::check_manual_optimization() const {
  const auto& options = setup_.options;
  if (options.gradient_clip_val.value_or(0) != 0) {
    throw UsageError(
        "trainer.gradient_clip_val does nothing with automatic_optimization = false: call clip_gradients in"
        " training_step");
  }
  if (options.accumulate_grad_batches > 1) {
    throw UsageError(
        "trainer.accumulate_grad_batches does nothing with automatic_optimization = false: step the optimizer in every"
        " n-th training_step");
  }
}

void Replica::compile_train_program() {
  train_program_ = {};
  const auto all = compile(hook_order::train_batch);
  const auto first = std::ranges::find(all, Hook::training_step);
  const auto end = std::ranges::find(all, Hook::on_train_batch_end);
  train_program_.before.assign(all.begin(), first);
  train_program_.has_end = end != all.end();
  // With manual optimization training_step does the rest itself.
  train_program_.step.assign(first, module_->automatic_optimization ? end : first + 1);
  train_program_.has_before_step = std::ranges::count(all, Hook::on_before_optimizer_step) > 0;
}

bool Replica::overrides_transfer() const {
  return std::ranges::any_of(hook_order::transfer, [&](Hook hook) { return is_used_transfer(hook); });
}

Replica::Program Replica::compile(std::span<const Hook> table) const {
  Program program;
  for (const Hook hook : table) {
    // Batches of a CPU run are where they belong; for a GPU the worker copies them ahead, unless a transfer hook is
    // overridden.
    const bool moves = hook == Hook::transfer_batch_to_device && !setup_.device.is_cpu() && overrides_transfer();
    const bool called = !batch_callbacks_.empty() && !is_transfer(hook);
    const bool own = is_transfer(hook) ? is_used_transfer(hook) : is_used(hook);
    if (is_core(hook) || own || moves || called) program.push_back(hook);
  }
  return program;
}

}  // namespace troupe
