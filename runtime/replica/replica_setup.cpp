// What a replica does before the first epoch.
#include "troupe/base/type_name.hpp"
#include "troupe/modules/callbacks/backbone_finetuning.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/parts/named_optimizer.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/precision/cpu_autocast.hpp"
#include "troupe/runtime/replica/data_setup.hpp"
#include "troupe/runtime/replica/device_shards.hpp"
#include "troupe/runtime/replica/model_agreement.hpp"
#include "troupe/runtime/replica/replica.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <typeinfo>
#include <utility>

namespace troupe {

// For the watchdog it is a part of prepare_data, which may take as long as it likes; a failure is to say where it was.
void Replica::make_module() try { core_.module = core_.setup.make_module(); } catch (...) {
  core_.pulse.name = "the module's constructor";
  throw;
}

DataFacts Replica::prepare() {
  set_up_process();
  make_module();
  if (!core_.module) throw UsageError("the Trainer was given a null module");
  core_.module->attach(this);
  // A module is given to be trained, also right after it has predicted; layers that are in eval mode alone stay in it.
  if (core_.setup.stage == Stage::fit) {
    if (!core_.module->is_training()) core_.module->train();
    note_layers_in_eval_mode(core_);
  }
  reset_metrics(*core_.module);
  if (core_.setup.datamodule && core_.is_first_of_process()) core_.setup.datamodule->attach(this, core_.module.get());
  core_.callbacks = core_.setup.callbacks;
  if (core_.setup.stage != Stage::fit) core_.progress = board_.curves().fitted();
  if (core_.setup.checkpoint) record_.restore_progress();
  if (core_.setup.stage == Stage::fit) board_.curves().begin_fit(core_.progress);
  run(hook_order::before_devices);
  teardown_.expect();
  DataFacts facts;
  const bool fits = core_.setup.stage == Stage::fit;
  for (const Hook hook :
       fits ? std::span<const Hook>(hook_order::fit_start) : std::span<const Hook>(hook_order::setup)) {
    run(hook);
    if (hook != Hook::setup) continue;
    // What setup made is there: the data's length, which configure_optimizers may ask for, and all layers.
    core_.module->attach(this);
    move_to_device();
    facts = collect_loaders(core_, combined_epoch_);
    windows_of_run_ = windows_of_run(core_, facts);
    record_.restore_model();
    agree_on_model(core_);
    make_shards();
  }
  if (fits) {
    check_communication(core_);
    facts.has_optimizer = !core_.optimizers.empty();
    record_.restore_rest();
    refresh_averagers();
    if (global_rank() == 0) log_hyperparameters();
  }
  stepper_.compile();
  return facts;
}

void Replica::set_up_process() {
  const auto& options = core_.options();
  if (!options.seed) throw std::logic_error("a replica needs a seed");
  seed_thread_and_device(*options.seed, core_.setup.device);
  if (options.num_threads > 0 && options.num_threads != at::get_num_threads()) {
    torch::set_num_threads(static_cast<int>(options.num_threads));  // which builds pools anew
  }
  if (core_.is_first_of_process()) process_settings_.emplace(options);
  keep_freed_memory();
  if (!core_.setup.peers) return;
  const During during(core_.pulse, "waiting for the other workers");
  core_.peers()->wait_for_all();
}

// Hyper-parameters for the sinks; those of the data module below "data", as on the command line.
void Replica::log_hyperparameters() {
  auto hparams = core_.module->logged_hparams();
  if (core_.setup.datamodule && !core_.setup.datamodule->logged_hparams().is_null()) {
    hparams["data"] = core_.setup.datamodule->logged_hparams();
  }
  if (!hparams.is_null()) core_.outputs.record(HparamsRecord{std::move(hparams)});
}

void Replica::configure_callbacks() {
  const auto own = core_.is_used(Hook::configure_callbacks) ? core_.module->configure_callbacks()
                                                            : std::vector<std::shared_ptr<Callback>>{};
  // The module's take the places of the Trainer's, not of each other.
  for (const auto& callback : own) {
    if (!callback) throw UsageError("configure_callbacks returned a null callback");
    const auto& type = typeid(*callback);
    std::erase_if(core_.callbacks, [&](const auto& other) { return typeid(*other) == type; });
  }
  core_.callbacks.insert(core_.callbacks.end(), own.begin(), own.end());
  check_state_keys(core_.callbacks);
  std::vector<std::string> names = {"", "the data module"};
  if (const auto* data = core_.setup.datamodule.get()) names[data_owner] = type_name(typeid(*data));
  for (const auto& callback : core_.callbacks) {
    const auto owner = first_callback_owner + static_cast<HookOwner>(names.size() - 2);
    names.push_back(type_name(typeid(*callback)));
    if (callback->has_batch_hooks()) core_.batch_callbacks.push_back({callback.get(), owner});
  }
  if (PhaseClock* clock = PhaseClock::of_thread()) clock->set_owners(std::move(names));
}

void Replica::configure_optimizers() {
  BackboneFinetuning::check_apart(core_.callbacks);
  auto own = core_.is_used(Hook::configure_optimizers) ? core_.module->configure_optimizers() : Optimizers();
  const NamedOptimizer* named = nullptr;
  for (const auto& callback : core_.callbacks) {
    if (const auto* one = dynamic_cast<const NamedOptimizer*>(callback.get())) named = one;
  }
  core_.optimizers = named ? named->configure(*this, *core_.module, own) : std::move(own);
  stepper_.configure();
}

void Replica::move_to_device() {
  refuse_meta(*core_.module);
  core_.module->to(core_.setup.device);
  separate_elements(*core_.module);
  move_metrics(*core_.module, core_.setup.device);
  core_.precision = core_.options().precision;
  const auto type = parameter_type(core_.precision);
  core_.converts_batches = type != torch::kFloat32;
  if (core_.setup.device.is_cpu() && is_mixed(core_.precision)) mend_cpu_autocast();
  if (core_.converts_batches) set_floating_type(*core_.module, type);
  {
    const During during(core_.pulse, "on_post_move_to_device");
    core_.module->on_post_move_to_device();
  }
  refuse_unstorable(core_);
}

// After the module has its weights: the copies must be like it.
void Replica::make_shards() {
  if (core_.setup.part_devices.empty()) return;
  if (core_.setup.stage == Stage::fit && !core_.module->automatic_optimization) {
    throw UsageError("strategy = " + name_of(core_.options().strategy) +
                     " computes a batch on several devices at once, which manual optimization cannot: use ddp, or"
                     " automatic optimization");
  }
  if (core_.module->truncated_bptt_steps > 0) {
    throw UsageError("strategy = " + name_of(core_.options().strategy) +
                     " cuts a batch along its samples, so that hiddens of one part would not fit the next one:"
                     " truncated_bptt_steps needs strategy = ddp");
  }
  const During during(core_.pulse, "making copies of the module");
  DeviceShards::Setup shards;
  shards.devices = core_.setup.part_devices;
  shards.make_module = core_.setup.make_part;
  shards.seed = *core_.options().seed;
  shards.num_threads = core_.options().num_threads;
  shards.prepare = [this](Module& module, torch::Device device) {
    if (core_.is_used(Hook::setup)) module.setup(core_.setup.stage);
    module.to(device);
    move_metrics(module, device);
    if (core_.converts_batches) set_floating_type(module, parameter_type(core_.precision));
    module.on_post_move_to_device();
  };
  core_.shards = std::make_unique<DeviceShards>(*this, *core_.module, std::move(shards));
}

std::optional<int64_t> Replica::estimated_stepping_batches(int64_t optimizers) const {
  const auto windows = core_.module->truncated_bptt_steps > 0 ? std::nullopt : windows_of_run_;
  if (core_.options().max_steps < 0) return windows;
  const auto& frequencies = core_.optimizers.frequencies();
  const bool take_turns = !frequencies.empty() && frequencies.front() > 0;
  if (optimizers <= 0)
    optimizers = take_turns ? 1 : std::max<int64_t>(1, static_cast<int64_t>(core_.optimizers.size()));
  const int64_t most = (core_.options().max_steps + optimizers - 1) / optimizers;
  return windows ? std::min(*windows, most) : most;
}

}  // namespace troupe
