#include "troupe/runtime/replica/gradient_sync.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"
#include "troupe/runtime/replica/evaluation_weights.hpp"

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace troupe {

namespace {

// Layers one after the other, each of which is used by itself.
bool is_list_of_layers(const torch::nn::Module& module) {
  return dynamic_cast<const torch::nn::SequentialImpl*>(&module) ||
         dynamic_cast<const torch::nn::ModuleListImpl*>(&module);
}

void add_children(const torch::nn::Module& module, std::vector<std::shared_ptr<torch::nn::Module>>& layers) {
  for (const auto& child : module.children()) {
    if (is_list_of_layers(*child)) {
      add_children(*child, layers);
    } else {
      layers.push_back(child);
    }
  }
}

// Which parameters are whole together, each by its address. The layers that the module names come first; what is in
// none of them belongs to the top-level layer that it is in, and what the module has itself is a block too.
std::unordered_map<const void*, std::size_t> sharding_blocks_of(const Module& module) {
  const auto all = module.modules(/*include_self=*/false);
  auto layers = module.sharding_blocks();
  for (const auto& layer : layers) {
    if (!layer) throw UsageError("sharding_blocks returned a null layer; name layers that the module has registered");
    if (std::ranges::find(all, layer) != all.end()) continue;
    throw UsageError("sharding_blocks returned a layer, " + layer->name() +
                     ", that the module has not registered; name layers that are its submodules");
  }
  // Of two that lie within each other the inner one is the block of what both have.
  const auto size = [](const auto& layer) { return distinct_parameters(*layer).size(); };
  std::ranges::stable_sort(layers, {}, size);
  add_children(module, layers);
  std::unordered_map<const void*, std::size_t> blocks;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const auto& each : distinct_parameters(*layers[i])) blocks.emplace(each.tensor.unsafeGetTensorImpl(), i);
  }
  for (const auto& each : distinct_parameters(module)) blocks.emplace(each.tensor.unsafeGetTensorImpl(), layers.size());
  return blocks;
}

}  // namespace

void GradientSync::refresh() {
  if (!core_.peers() || core_.optimizers.empty()) return;
  if (core_.divides_optimizers()) {
    refresh_shards();
  } else if (core_.trains_locally()) {
    refresh_local();
  } else {
    refresh_reducers();
  }
}

void GradientSync::clear() {
  sharded_.clear();
  reducers_.clear();
  power_sgd_.clear();
  local_gradients_.clear();
  local_.reset();
}

// All parameters that are trained take part, whichever optimizer they have.
void GradientSync::refresh_local() {
  const auto& options = core_.options();
  if (has_evaluation_weights(core_)) {
    throw UsageError(
        "strategy = " + name_of(options.strategy) +
        " evaluates with the mean of the ranks' weights, and a schedule-free optimizer with an average of its"
        " own; use AdamW, or strategy = ddp");
  }
  if (!local_) {
    LocalTrainingOptions local;
    local.steps = options.local_steps;
    if (options.strategy == Strategy::diloco) local.lr = options.outer_lr, local.momentum = options.outer_momentum;
    local.bucket_bytes = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
    local.compression = options.gradient_compression;
    local_ = std::make_unique<LocalTraining>(*core_.peers(), local);
  }
  LocalTraining::Tensors trained;
  for (const auto& each : distinct_parameters(*core_.module)) {
    if (each.tensor.requires_grad()) trained.emplace_back(each.name(), each.tensor);
  }
  local_->add(trained);
  std::vector<torch::Tensor> buffers;
  if (options.broadcast_buffers) {
    for (const auto& each : distinct_buffers(*core_.module)) buffers.push_back(each.tensor);
  }
  local_->set_buffers(std::move(buffers));
  local_gradients_.clear();
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    local_gradients_.push_back(std::make_unique<LocalGradients>(parameters_of(i)));
  }
}

void GradientSync::end_window() const {
  if (!local_) return;
  const PhaseScope phase(Phase::reduction);
  local_->count_step();
}

// With manual optimization nobody knows which optimizer a loss is for.
std::size_t GradientSync::reducer_count() const {
  return core_.module->automatic_optimization ? core_.optimizers.size() : 1;
}

PowerSgd& GradientSync::power_sgd(std::size_t reducer) {
  const auto& options = core_.options();
  while (power_sgd_.size() <= reducer) {
    PowerSgdOptions compressing;
    compressing.rank = options.powersgd_rank;
    compressing.start_step = options.powersgd_start_step;
    compressing.error_feedback = options.powersgd_error_feedback;
    compressing.warm_start = options.powersgd_warm_start;
    compressing.seed = mix(*options.seed, power_sgd_.size());
    power_sgd_.push_back(std::make_unique<PowerSgd>(compressing));
  }
  return *power_sgd_[reducer];
}

// Parameters that an optimizer has got since are divided too.
void GradientSync::refresh_shards() {
  const auto& options = core_.options();
  ShardingOptions sharding;
  sharding.strategy = options.strategy;
  sharding.first_bucket_bytes = static_cast<int64_t>(options.first_bucket_mb * (1 << 20));
  sharding.bucket_bytes = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
  sharding.compression = options.gradient_compression;
  for (auto& sharded : sharded_) sharded->refresh();
  if (sharded_.size() == core_.optimizers.size()) return;
  std::shared_ptr<ParameterBlocks> blocks;
  if (core_.divides_parameters()) {
    refuse_shared_parameters();
    sharding.block_of = sharding_blocks_of(*core_.module);
    blocks = std::make_shared<ParameterBlocks>(*core_.setup.peers);
  }
  while (sharded_.size() < core_.optimizers.size()) {
    const auto index = sharded_.size();
    sharded_.push_back(
        std::make_unique<ShardedOptimizer>(index, core_.optimizers[index], *core_.setup.peers, sharding, blocks));
  }
}

// A parameter that two optimizers step would have to be in two blocks.
void GradientSync::refuse_shared_parameters() const {
  std::unordered_map<const void*, std::size_t> owners;
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    for (const auto& parameter : parameters_of(i)) {
      const auto [owner, is_new] = owners.emplace(parameter.unsafeGetTensorImpl(), i);
      if (is_new || owner->second == i) continue;
      throw UsageError("optimizers " + std::to_string(owner->second) + " and " + std::to_string(i) +
                       " have a parameter in common, which strategy = fsdp cannot divide; use strategy = ddp");
    }
  }
}

// One for each optimizer, of its parameters: what the others' gradients are while it trains is of no interest. With
// manual optimization nobody knows which one a loss is for, so there is one for all, which looks. What is trained may
// change between epochs.
void GradientSync::refresh_reducers() {
  Peers* peers = core_.peers();
  const auto& options = core_.options();
  const bool is_manual = !core_.module->automatic_optimization;
  ReducerOptions reducing;
  reducing.first_bucket_bytes = static_cast<int64_t>(options.first_bucket_mb * (1 << 20));
  reducing.bucket_bytes = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
  reducing.find_unused_parameters = options.find_unused_parameters || (is_manual && core_.optimizers.size() > 1);
  reducing.compression = options.gradient_compression;
  const auto all = distinct_parameters(*core_.module);
  reducers_.resize(reducer_count());
  const auto is_same = [](const torch::Tensor& tensor, const auto& named) { return tensor.is_same(named.second); };
  const auto refresh = [&](std::size_t index, const auto& wanted) {
    auto& reducer = reducers_[index];
    GradientReducer::Parameters parameters;
    for (const auto& each : all) {
      if (each.tensor.requires_grad() && wanted(each.tensor.unsafeGetTensorImpl())) {
        parameters.emplace_back(each.name(), each.tensor);
      }
    }
    if (reducer && std::ranges::equal(reducer->parameters(), parameters, is_same)) return;
    reducer = nullptr;  // its hooks on the parameters go first
    if (reducing.compression == GradientCompression::powersgd) reducing.power_sgd = &power_sgd(index);
    if (!parameters.empty()) reducer = std::make_unique<GradientReducer>(parameters, *peers, reducing);
  };
  if (is_manual) return refresh(0, [](const void*) { return true; });
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    std::unordered_set<const void*> own;
    for (const auto& parameter : parameters_of(i)) own.insert(parameter.unsafeGetTensorImpl());
    refresh(i, [&](const void* impl) { return own.contains(impl); });
  }
}

GradientAverager* GradientSync::averager(std::size_t optimizer) const {
  if (!core_.peers()) return nullptr;
  if (optimizer < sharded_.size()) return sharded_[optimizer].get();
  if (optimizer < local_gradients_.size()) return local_gradients_[optimizer].get();
  return optimizer < reducers_.size() ? reducers_[optimizer].get() : nullptr;
}

void GradientSync::begin(const torch::Tensor& loss) const {
  for (GradientAverager* averager : averagers()) {
    if (sharded_.empty()) averager->begin();  // divided parameters have been used already
    averager->prepare(loss);
  }
}

void GradientSync::finish() const {
  for (GradientAverager* averager : averagers()) averager->finish();
}

void GradientSync::begin_batch() const {
  if (ParameterBlocks* all = blocks()) all->begin_batch();
}

void GradientSync::end_batch() const {
  if (ParameterBlocks* all = blocks()) all->end_batch();
}

void GradientSync::hold_parameters() const {
  if (ParameterBlocks* all = blocks()) all->hold();
}

void GradientSync::enter_block_of(const torch::Tensor& tensor) const {
  if (ParameterBlocks* all = blocks()) all->enter_block_of(tensor);
}

void GradientSync::leave_blocks() const {
  if (ParameterBlocks* all = blocks()) all->drop_all();
}

std::vector<GradientAverager*> GradientSync::averagers() const {
  std::vector<GradientAverager*> all;
  for (const auto& sharded : sharded_) all.push_back(sharded.get());
  for (const auto& reducer : reducers_) {
    if (reducer) all.push_back(reducer.get());
  }
  return all;
}

std::vector<torch::Tensor> GradientSync::parameters_of(std::size_t optimizer) const {
  if (optimizer < sharded_.size()) return sharded_[optimizer]->parameters();
  std::vector<torch::Tensor> all;
  for (const auto& group : core_.optimizers[optimizer].param_groups()) {
    all.insert(all.end(), group.params().begin(), group.params().end());
  }
  return all;
}

void GradientSync::gather_parameters(std::size_t optimizer) const {
  if (optimizer < sharded_.size()) sharded_[optimizer]->gather_parameters();
}

torch::Tensor GradientSync::whole_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) const {
  for (std::size_t i = 0; i < sharded_.size(); ++i) {
    if (&core_.optimizers[i] == &optimizer) return sharded_[i]->whole_norm(norm);
  }
  return norm;
}

ShardedOptimizer* GradientSync::holder_of(const torch::Tensor& parameter) const {
  const auto holder = std::ranges::find_if(sharded_, [&](const auto& each) { return each->holds(parameter); });
  return holder == sharded_.end() ? nullptr : holder->get();
}

std::vector<std::pair<torch::Tensor, torch::Tensor>> GradientSync::waiting_parts() const {
  std::vector<std::pair<torch::Tensor, torch::Tensor>> all;
  for (const auto& sharded : sharded_) std::ranges::move(sharded->waiting_parts(), std::back_inserter(all));
  return all;
}

// --- State ---

void GradientSync::append_shared(Checkpoint& checkpoint) const {
  if (local_) local_->append_shared(checkpoint);
  for (std::size_t i = 0; i < power_sgd_.size(); ++i) power_sgd_[i]->append_shared(checkpoint, i);
}

void GradientSync::append_own(Checkpoint& state) const {
  if (local_) local_->append_own(state);
  for (std::size_t i = 0; i < power_sgd_.size(); ++i) power_sgd_[i]->append_own(state, i);
}

void GradientSync::load(const Checkpoint& checkpoint, const Checkpoint* own, const std::vector<Checkpoint>& all) {
  if (local_) local_->load(checkpoint, own);
  if (!core_.peers() || core_.options().gradient_compression != GradientCompression::powersgd) return;
  for (std::size_t i = 0; i < reducer_count(); ++i) {
    PowerSgd& kept = power_sgd(i);
    kept.load_shared(checkpoint, i);
    own ? kept.load_own(*own, i) : kept.load_mean(all, i);
  }
}

}  // namespace troupe
