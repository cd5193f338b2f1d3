// What a replica does with the others of its run.
#include "troupe/base/failure.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/distributed/step_votes.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <sstream>
#include <unordered_set>

namespace troupe {

namespace {

// A line for each parameter and buffer, to compare replicas by.
std::string description_of(const Module& module) {
  std::ostringstream text;
  const auto add = [&](const std::string& kind, const auto& named) {
    for (const auto& item : named) {
      text << kind << ' ' << item.key() << ' ' << item.value().sizes() << ' ' << item.value().scalar_type() << '\n';
    }
  };
  add("parameter", module.named_parameters());
  add("buffer", module.named_buffers());
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Lines that one of the two has and the other has not, at most `most` of them.
std::string difference(const std::string& a, const std::string& b, std::size_t rank, std::size_t most) {
  const auto first = lines_of(a), other = lines_of(b);
  std::string out;
  std::size_t shown = 0;
  const auto add = [&](const auto& have, const auto& lack, const std::string& who) {
    for (const auto& line : have) {
      if (std::ranges::find(lack, line) != lack.end() || shown++ >= most) continue;
      out += "\n  only rank " + who + ": " + line;
    }
  };
  add(first, other, "0");
  add(other, first, std::to_string(rank));
  if (shown > most) out += "\n  and " + std::to_string(shown - most) + " more";
  return out;
}

void check_equal(const std::vector<std::string>& descriptions) {
  constexpr std::size_t most_lines = 8;
  for (std::size_t rank = 1; rank < descriptions.size(); ++rank) {
    if (descriptions[rank] == descriptions[0]) continue;
    throw UsageError("the ranks have different models:" +
                     difference(descriptions[0], descriptions[rank], rank, most_lines));
  }
}

}  // namespace

// The models must be equal: in their shapes, which is checked, and in their numbers, which are rank zero's.
void Replica::join_peers() {
  Peers* peers = setup_.peers.get();
  if (!peers) return;
  current_name_ = "comparing the ranks' models";
  check_equal(peers->all_gather_bytes(description_of(*module_)));
  std::vector<torch::Tensor> state;
  for (const auto& parameter : module_->parameters()) state.push_back(parameter.detach());
  for (const auto& buffer : module_->buffers()) state.push_back(buffer);
  peers->broadcast(state);
  // Each rank draws its own numbers from now on: dropout must not leave out the same units everywhere.
  if (const auto rank = peers->place().global_rank; rank > 0) {
    const uint64_t seed = mix(*setup_.options.seed, rank);
    seed_thread(seed);
    if (setup_.device.is_cuda()) torch::cuda::manual_seed(seed);
  }
  current_name_ = "";
}

void Replica::refresh_averagers() {
  if (setup_.peers && !optimizers_.empty()) shards() ? refresh_shards() : refresh_reducers();
  find_unowned_parameters();  // which are those that a shard has taken is known only now
}

// Parameters that an optimizer has got since are divided too.
void Replica::refresh_shards() {
  const auto& options = setup_.options;
  ShardingOptions sharding;
  sharding.first_bucket_bytes = static_cast<int64_t>(options.first_bucket_mb * (1 << 20));
  sharding.bucket_bytes = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
  sharding.compression = options.gradient_compression;
  for (auto& sharded : sharded_) sharded->refresh();
  while (sharded_.size() < optimizers_.size()) {
    const auto index = sharded_.size();
    sharded_.push_back(std::make_unique<ShardedOptimizer>(index, optimizers_[index], *setup_.peers, sharding));
  }
}

// One for each optimizer, of its parameters: what the others' gradients are while it trains is of no interest. With
// manual optimization nobody knows which one a loss is for, so there is one for all, which looks. What is trained may
// change between epochs.
void Replica::refresh_reducers() {
  Peers* peers = setup_.peers.get();
  const auto& options = setup_.options;
  const bool is_manual = !module_->automatic_optimization;
  ReducerOptions reducing;
  reducing.first_bucket_bytes = static_cast<int64_t>(options.first_bucket_mb * (1 << 20));
  reducing.bucket_bytes = static_cast<int64_t>(options.bucket_cap_mb * (1 << 20));
  reducing.find_unused_parameters = options.find_unused_parameters || (is_manual && optimizers_.size() > 1);
  reducing.compression = options.gradient_compression;
  const auto all = distinct_parameters(*module_);
  reducers_.resize(is_manual ? 1 : optimizers_.size());
  const auto is_same = [](const torch::Tensor& tensor, const auto& named) { return tensor.is_same(named.second); };
  const auto refresh = [&](std::unique_ptr<GradientReducer>& reducer, const auto& wanted) {
    GradientReducer::Parameters parameters;
    for (const auto& each : all) {
      if (each.tensor.requires_grad() && wanted(each.tensor.unsafeGetTensorImpl())) {
        parameters.emplace_back(each.name(), each.tensor);
      }
    }
    if (reducer && std::ranges::equal(reducer->parameters(), parameters, is_same)) return;
    reducer = nullptr;  // its hooks on the parameters go first
    if (!parameters.empty()) reducer = std::make_unique<GradientReducer>(parameters, *peers, reducing);
  };
  if (is_manual) return refresh(reducers_.front(), [](const void*) { return true; });
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    std::unordered_set<const void*> own;
    for (const auto& group : optimizers_[i].param_groups()) {
      for (const auto& parameter : group.params()) own.insert(parameter.unsafeGetTensorImpl());
    }
    refresh(reducers_[i], [&](const void* impl) { return own.contains(impl); });
  }
}

// The epoch's batches are a number that all ranks know, where each knows its own.
void Replica::agree_on_length(DataFacts& facts) {
  Peers* peers = setup_.peers.get();
  if (!peers || setup_.stage != Stage::fit) return;
  const auto policy = uneven_data(setup_.options.uneven_data);
  if (policy == UnevenData::join && (!module_->automatic_optimization || module_->truncated_bptt_steps > 0)) {
    throw UsageError(std::string("trainer.uneven_data = join cannot take the part of a rank without a batch with ") +
                     (module_->automatic_optimization ? "truncated_bptt_steps" : "automatic_optimization = false") +
                     ", since nobody knows how many steps the others make of theirs; use stop or cycle");
  }
  std::optional<int64_t> agreed;
  bool is_known = true;
  for (const auto& said : peers->all_gather_bytes(std::to_string(facts.train_batches.value_or(-1)))) {
    const int64_t length = std::stoll(said);
    is_known &= length >= 0;
    if (!agreed) agreed = length;
    agreed = policy == UnevenData::stop ? std::min(*agreed, length) : std::max(*agreed, length);
  }
  facts.train_batches = is_known ? agreed : std::nullopt;
}

void Replica::broadcast_buffers() {
  if (!setup_.options.broadcast_buffers) return;
  const auto buffers = module_->buffers();
  if (!buffers.empty()) setup_.peers->broadcast(buffers);
}

// The one that averages the gradients of this pass. Those of a window are averaged with its last batch and stay where
// they are before; manual_backward sees to its own.
GradientAverager* Replica::averager_of(const TrainStep& step) const {
  if (!setup_.peers || !step.closes_window || !module_->automatic_optimization) return nullptr;
  if (step.optimizer < sharded_.size()) return sharded_[step.optimizer].get();
  return step.optimizer < reducers_.size() ? reducers_[step.optimizer].get() : nullptr;
}

std::vector<GradientAverager*> Replica::averagers() const {
  std::vector<GradientAverager*> all;
  for (const auto& sharded : sharded_) all.push_back(sharded.get());
  for (const auto& reducer : reducers_) {
    if (reducer) all.push_back(reducer.get());
  }
  return all;
}

// The parameters of an optimizer as the module has them.
std::vector<torch::Tensor> Replica::parameters_of(std::size_t optimizer) const {
  if (optimizer < sharded_.size()) return sharded_[optimizer]->parameters();
  std::vector<torch::Tensor> all;
  for (const auto& group : optimizers_[optimizer].param_groups()) {
    all.insert(all.end(), group.params().begin(), group.params().end());
  }
  return all;
}

void Replica::gather_parameters(std::size_t optimizer) {
  if (optimizer < sharded_.size()) sharded_[optimizer]->gather_parameters();
}

// The norm of all gradients where ranks hold parts of them.
torch::Tensor Replica::whole_gradient_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) {
  for (std::size_t i = 0; i < sharded_.size(); ++i) {
    if (&optimizers_[i] == &optimizer) return sharded_[i]->whole_norm(norm);
  }
  return norm;
}

bool Replica::contributes_nothing(const TrainStep& step) const {
  return !step.loss.defined() && averager_of(step) != nullptr;
}

void Replica::contribute_nothing(TrainStep& step) {
  begin_pass(step);
  averager_of(step)->contribute_nothing();
  end_pass(step);
}

}  // namespace troupe
