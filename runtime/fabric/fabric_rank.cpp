#include "troupe/runtime/fabric/fabric_rank.hpp"

#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/data/own_reader.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/fabric/fabric_recording.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/precision/cpu_autocast.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/model_agreement.hpp"
#include "troupe/runtime/replica/training_problems.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>
#include <torch/optim/lbfgs.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <iostream>
#include <stdexcept>

namespace troupe {

namespace {

ReplicaSetup replica_setup(FabricRankSetup& setup) {
  ReplicaSetup replica;
  replica.options = std::move(setup.options);
  replica.device = setup.device;
  replica.peers = std::move(setup.peers);
  replica.pulse = std::move(setup.pulse);
  replica.run_dir = std::move(setup.run_dir);
  return replica;
}

[[noreturn]] void refuse_what_trainers_do(const std::string& what, const std::string& instead) {
  throw UsageError(what + " needs a Trainer; in a Fabric " + instead);
}

}  // namespace

// --- The rank ---

FabricRank::FabricRank(FabricRankSetup setup)
    : core_(replica_setup(setup), *this, *this),
      sync_(core_),
      scaling_(core_, sync_),
      toggle_(core_, sync_),
      threads_before_(at::get_num_threads()),
      sinks_(std::move(setup.sinks)) {
  const auto& options = core_.options();
  if (!options.seed) throw std::logic_error("a rank needs a seed");
  seed_everything(*options.seed);
  if (options.num_threads > 0 && options.num_threads != threads_before_) {
    torch::set_num_threads(static_cast<int>(options.num_threads));
  }
  if (core_.is_first_of_process()) process_settings_.emplace(options);
  keep_freed_memory();
  core_.precision = options.precision;
  core_.converts_batches = parameter_type(core_.precision) != torch::kFloat32;
  if (device().is_cpu() && is_mixed(core_.precision)) mend_cpu_autocast();
  if (device().is_cuda()) copier_ = std::make_unique<CopyAhead>(device());
  core_.module = std::make_shared<Module>();  // what is set up is registered in it
  if (core_.precision == Precision::float16_mixed) scaling_.switch_on();
  barrier();
}

FabricRank::~FabricRank() {
  toggle_.untoggle();
  core_.module->attach(nullptr);
  sync_.clear();
  core_.optimizers = Optimizers();
  if (threads_before_ != at::get_num_threads()) torch::set_num_threads(threads_before_);
}

void FabricRank::seed_everything(uint64_t seed) {
  seed_ = seed;
  seed_thread_and_device(seed, device());
  if (core_.peers() && !modules_.empty()) draw_own_numbers(seed, *core_.peers(), device());
}

const Progress& FabricRank::progress() const {
  refuse_capture("it asks how far the run is (current_epoch, global_step), which a replay does not");
  return core_.progress;
}

// --- What is set up ---

void FabricRank::refuse_module(const std::shared_ptr<torch::nn::Module>& module, const std::string& name) const {
  if (!module) throw UsageError("setup was given a null module");
  for (const auto& [known_name, known] : modules_) {
    if (known == module) {
      throw UsageError("setup was given this " + type_name(typeid(*module)) +
                       " before; a module is set up once, and setup_optimizers takes further optimizers of it");
    }
    if (known_name == name && !name.empty()) {
      throw UsageError("setup: there is a module called " + shown(name) + " already; give this one another name");
    }
  }
  if (name.find('.') != std::string::npos) {
    throw UsageError("setup: a module cannot be called " + shown(name) + ", since names of tensors are joined by dots");
  }
  const bool has_nameless = std::ranges::any_of(modules_, [](const auto& known) { return known.first.empty(); });
  if (!modules_.empty() && (name.empty() || has_nameless)) {
    throw UsageError(
        "setup: of several modules each needs a name, by which files know its tensors, as in setup(critic, optimizer, "
        "\"critic\")");
  }
}

void FabricRank::setup_module(std::shared_ptr<torch::nn::Module> module, std::string name) {
  refuse_module(module, name);
  refuse_meta(*module);
  module->to(device());
  separate_elements(*module);
  if (auto* own = dynamic_cast<Module*>(module.get())) move_metrics(*own, device());
  if (core_.converts_batches) set_floating_type(*module, parameter_type(core_.precision));
  if (core_.peers()) {
    agree_on_weights(*module, *core_.peers());
    if (modules_.empty()) draw_own_numbers(seed(), *core_.peers(), device());
  }
  core_.module->register_module(name.empty() ? "model" : name, module);
  core_.module->attach(this);
  modules_.emplace_back(std::move(name), std::move(module));
  ++changes_;
}

std::size_t FabricRank::setup_optimizer(OptimizerPtr optimizer) {
  if (!optimizer) throw UsageError("setup was given a null optimizer");
  const std::size_t index = core_.optimizers.size();
  if (std::ranges::find(core_.optimizers, optimizer) != core_.optimizers.end()) {
    throw UsageError("setup was given this optimizer before; an optimizer is set up once");
  }
  if (core_.precision == Precision::float16_mixed && dynamic_cast<const torch::optim::LBFGS*>(optimizer.get())) {
    throw UsageError(
        "LBFGS evaluates the loss several times a step, which precision = '16-mixed' cannot; use bf16-mixed");
  }
  std::vector<OptimizerPtr> all(core_.optimizers.begin(), core_.optimizers.end());
  all.push_back(std::move(optimizer));
  const Optimizers before = std::exchange(core_.optimizers, Optimizers(std::move(all), {}));
  try {
    refuse_repeated_parameters(core_);
    std::size_t checked = 0;
    refuse_foreign_parameters(core_, sync_, index, checked);
    sync_.refresh();
  } catch (...) {
    core_.optimizers = before;
    throw;
  }
  scaling_.refresh();
  ++changes_;
  return index;
}

// As the Trainer does it: workers of one process must not read one stream together, and the seed of a loader comes from
// the stage and its place.
FabricLoader FabricRank::setup_loader(DataLoader loader, Division division) {
  if (core_.place().world_size > core_.place().processes) loader = own_reader(loader, "fabric.devices");
  const bool trains = division == Division::padded_samples;
  FabricLoaderPlace where;
  where.seed = mix(seed(), static_cast<uint64_t>(trains ? Stage::fit : Stage::validate),
                   trains ? training_loaders_++ : evaluation_loaders_++);
  where.shard = place().global_rank;
  where.shards = place().world_size;
  where.division = division;
  where.device = device();
  where.floating_type = parameter_type(core_.precision);
  where.copier = copier_.get();
  return {std::move(loader), where};
}

// --- What ranks tell each other ---

void FabricRank::check_like(const char* what, const torch::Tensor& tensor) {
  if (!tensor.defined()) throw UsageError(std::string(what) + " was given an undefined tensor");
  if (!core_.peers()) return;
  const auto said = core_.peers()->all_gather_bytes(c10::str(tensor.scalar_type(), " ", tensor.sizes()));
  for (std::size_t rank = 1; rank < said.size(); ++rank) {
    if (said[rank] == said[0]) continue;
    throw UsageError(std::string(what) + ": rank " + std::to_string(rank) + " gave " + said[rank] + " and rank 0 " +
                     said[0] + "; all ranks have to give tensors of one type and shape");
  }
}

torch::Tensor FabricRank::all_reduce(const torch::Tensor& tensor, Reduce reduce) {
  refuse_capture("it calls all_reduce, which a replay does not");
  check_like("all_reduce", tensor);
  const bool is_mean = reduce == Reduce::mean;
  if (!core_.peers()) return is_mean ? tensor.detach().div(1) : tensor.detach().clone();
  const torch::NoGradGuard no_gradients;
  auto result = tensor.detach().to(device(), tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true).contiguous();
  const auto op = reduce == Reduce::min   ? c10d::ReduceOp::MIN
                  : reduce == Reduce::max ? c10d::ReduceOp::MAX
                                          : c10d::ReduceOp::SUM;
  core_.peers()->all_reduce(result, op);
  if (is_mean) result = result.div(world_size());
  return result.to(tensor.device());
}

torch::Tensor FabricRank::all_gather(const torch::Tensor& tensor) {
  refuse_capture("it calls all_gather, which a replay does not");
  check_like("all_gather", tensor);
  if (!core_.peers()) return tensor.detach().clone().unsqueeze(0);
  return core_.peers()->all_gather(tensor.detach().to(device())).to(tensor.device());
}

namespace {

void check_source(int64_t source, int64_t ranks) {
  if (source >= 0 && source < ranks) return;
  throw UsageError("broadcast: there is no rank " + std::to_string(source) + "; ranks are 0 to " +
                   std::to_string(ranks - 1));
}

}  // namespace

torch::Tensor FabricRank::broadcast(const torch::Tensor& tensor, int64_t source) {
  refuse_capture("it calls broadcast, which a replay does not");
  check_source(source, world_size());
  check_like("broadcast", tensor);
  if (!core_.peers()) return tensor.detach().clone();
  return core_.peers()->all_gather(tensor.detach().to(device()))[source].to(tensor.device(), tensor.scalar_type(),
                                                                            false,
                                                                            /*copy=*/true);
}

std::string FabricRank::broadcast(const std::string& text, int64_t source) {
  check_source(source, world_size());
  return core_.peers() ? core_.peers()->all_gather_bytes(text)[static_cast<std::size_t>(source)] : text;
}

void FabricRank::barrier() {
  refuse_capture("it calls barrier, which a replay does not");
  if (core_.peers()) core_.peers()->wait_for_all();
}

// --- What it says ---

void FabricRank::log_value(std::string_view name, const torch::Tensor& value, std::optional<int64_t> step) {
  if (!value.defined() || value.numel() != 1) {
    throw UsageError("log(" + shown(name) + ") is given a tensor " +
                     (value.defined() ? c10::str("of shape ", value.sizes()) : "that is undefined") +
                     "; give it one number");
  }
  if (!recording_) return write_value(name, value.item<double>(), step);
  auto& recorder = *recording_->capture.recorder();
  if (step)
    recorder.refuse("log(" + std::string(name) + ") is given a step by its number, which a replay does not count");
  recorder.call_without_result("log " + std::string(name), {value.detach()},
                               [this, name = std::string(name)](const std::vector<torch::Tensor>& inputs) {
                                 write_value(name, inputs.front().item<double>(), std::nullopt);
                               });
}

void FabricRank::log_value(std::string_view name, double value, std::optional<int64_t> step) {
  if (recording_) {
    recording_->capture.recorder()->refuse(
        "log(" + std::string(name) +
        ") is given a number of the host, which a replay has no new one of: give it a tensor");
  }
  write_value(name, value, step);
}

void FabricRank::write_value(std::string_view name, double value, std::optional<int64_t> step) {
  latest_.insert_or_assign(std::string(name), value);
  emit(ScalarsRecord{step.value_or(core_.progress.global_step), -1, {{std::string(name), value}}});
}

void FabricRank::emit(Record record) {
  for (const auto& sink : sinks_) {
    if (const auto* call = std::get_if<SinkCall>(&record)) {
      call->call(*sink);
    } else {
      sink->write(record);
    }
  }
}

void FabricRank::flush_sinks() {
  for (const auto& sink : sinks_) sink->flush();
}

void FabricRank::log(std::string_view name, Metric&, const LogOptions&) {
  refuse_what_trainers_do("log(" + shown(name) + ", metric)", "log what its compute() returns");
}

void FabricRank::write_prediction(std::string_view name, const torch::Tensor&, const std::string&) {
  refuse_what_trainers_do("write_prediction(" + shown(name) + ")", "gather with all_gather and write on rank zero");
}

void FabricRank::set_accumulate_grad_batches(int64_t) {
  refuse_what_trainers_do("accumulate_grad_batches", "step when it is time, with no_backward_sync before");
}

void FabricRank::request_stop(std::string) {
  refuse_capture("it asks the run to stop, which a replay does not");
  should_stop_ = true;
}

void FabricRank::print(std::string line) {
  refuse_capture("it prints, which a replay does not");
  if (global_rank() == 0) std::cout << line << std::endl;
}

void FabricRank::note(std::string line) {
  if (global_rank() != 0 || (options().quiet && !line.starts_with("warning: "))) return;
  std::cerr << "troupe: " + line + '\n';
}

}  // namespace troupe
