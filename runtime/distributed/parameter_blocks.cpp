#include "troupe/runtime/distributed/parameter_blocks.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/capture/operators.hpp"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

// It was made for what is loaded from outside (torchdistx), and LibTorch has nothing at it. It stands above autograd,
// so that an operator comes here once, and not with all that it consists of.
constexpr auto use_key = c10::DispatchKey::DeferredInit;

TORCH_LIBRARY_IMPL(_, DeferredInit, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&ParameterBlocks::seen>());
}

thread_local ParameterBlocks* blocks_of_thread = nullptr;

// For autograd's own threads, which have the key of the thread that began the pass, and not its blocks.
struct AllBlocks {
  std::mutex mutex;
  std::vector<ParameterBlocks*> list;

  static AllBlocks& get() {
    static AllBlocks all;
    return all;
  }
};

// They look at a tensor's type and shape, and not at its elements.
bool needs_no_elements(const c10::OperatorHandle& op) {
  static const std::unordered_set<std::string_view> names = {
      "aten::detach",     "aten::alias",     "aten::view",      "aten::requires_grad_", "aten::retain_grad",
      "aten::empty_like", "aten::full_like", "aten::ones_like", "aten::zeros_like",     "aten::rand_like",
      "aten::randn_like", "aten::new_empty", "aten::new_full",  "aten::new_ones",       "aten::new_zeros",
      "aten::set_data",   "aten::is_leaf",   "aten::size",      "aten::stride",         "aten::is_same_size"};
  return names.contains(op.operator_name().name);
}

template <class Each>
void for_tensors_of(const c10::IValue& value, const Each& each) {
  if (value.isTensor()) return each(value.toTensor());
  if (value.isTensorList()) {
    for (const auto& tensor : value.toTensorVector()) each(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<torch::Tensor> tensor : value.toOptionalTensorList()) {
      if (tensor) each(*tensor);
    }
  }
}

void add_once(std::vector<std::size_t>& list, std::size_t value) {
  if (std::ranges::find(list, value) == list.end()) list.push_back(value);
}

// Memory moves from one to the other, so that the tensors which look at it stay what they are.
c10::StorageImpl& storage_of(const torch::Tensor& tensor) {
  return *tensor.storage().unsafeGetStorageImpl();
}

void give_memory(const torch::Tensor& to, const torch::Tensor& from, std::size_t bytes) {
  storage_of(to).set_data_ptr_noswap(storage_of(from).set_data_ptr(c10::DataPtr(nullptr, from.device())));
  storage_of(from).set_nbytes(0);
  storage_of(to).set_nbytes(bytes);
}

}  // namespace

ParameterBlocks::ParameterBlocks(Peers& peers) : peers_(peers) {
  blocks_of_thread = this;
  auto& all = AllBlocks::get();
  {
    const std::lock_guard lock(all.mutex);
    all.list.push_back(this);
  }
  c10::impl::tls_set_dispatch_key_included(use_key, true);
}

ParameterBlocks::~ParameterBlocks() {
  close();
  c10::impl::tls_set_dispatch_key_included(use_key, false);
  blocks_of_thread = nullptr;
  auto& all = AllBlocks::get();
  const std::lock_guard lock(all.mutex);
  std::erase(all.list, this);
}

std::size_t ParameterBlocks::add(torch::Tensor whole, torch::Tensor part) {
  {
    const std::lock_guard lock(AllBlocks::get().mutex);  // others may be looking for theirs
    known_.emplace(&storage_of(whole), blocks_.size());
  }
  Block block;
  block.bytes = whole.storage().nbytes();
  block.whole = std::move(whole);
  block.part = std::move(part);
  blocks_.push_back(std::move(block));
  if (!is_held_) free(blocks_.back());
  return blocks_.size() - 1;
}

// --- The memory of a block ---

void ParameterBlocks::begin_to_gather(Block& block) {
  if (block.is_whole || block.work) return;
  const torch::NoGradGuard no_gradients;
  block.coming = torch::empty({block.whole.numel()}, block.part.options());
  block.work = peers_.begin_all_gather(block.coming, block.part);
}

void ParameterBlocks::gather(Block& block) {
  if (block.is_whole) return;
  begin_to_gather(block);
  block.work->wait();
  block.work.reset();
  give_memory(block.whole, std::exchange(block.coming, {}), block.bytes);
  block.is_whole = true;
}

// It was gathered ahead, and is not used.
void ParameterBlocks::discard(Block& block) {
  if (!block.work) return;
  block.work->wait();
  block.work.reset();
  block.coming.reset();
}

void ParameterBlocks::free(Block& block) {
  if (!block.is_whole) return;
  storage_of(block.whole).set_data_ptr_noswap(c10::DataPtr(nullptr, block.whole.device()));
  storage_of(block.whole).set_nbytes(0);
  block.is_whole = false;
}

void ParameterBlocks::hold() {
  if (is_held_ || is_closed_) return;
  for (auto& block : blocks_) begin_to_gather(block);
  for (auto& block : blocks_) gather(block);
  is_held_ = true;
}

void ParameterBlocks::drop_all() {
  if (is_closed_) return;
  current_.reset();
  for (auto& block : blocks_) {
    discard(block);
    if (!is_held_) free(block);
  }
}

void ParameterBlocks::close() {
  if (std::exchange(is_closed_, true)) return;
  const torch::NoGradGuard no_gradients;
  const auto rank = peers_.place().global_rank;
  for (auto& block : blocks_) {
    if (block.is_whole) continue;
    const auto fresh =
        torch::full({block.whole.numel()}, std::numeric_limits<double>::quiet_NaN(), block.part.options());
    fresh.narrow(0, rank * block.part.numel(), block.part.numel()).copy_(block.part);
    give_memory(block.whole, fresh, block.bytes);
    block.is_whole = true;
  }
}

// --- Use ---

std::optional<std::size_t> ParameterBlocks::block_of(const torch::Tensor& tensor) const {
  if (!tensor.defined() || !tensor.has_storage()) return std::nullopt;
  const auto found = known_.find(&storage_of(tensor));
  return found == known_.end() ? std::nullopt : std::optional(found->second);
}

void ParameterBlocks::enter(const std::vector<std::size_t>& used) {
  if (used.size() == 1 && current_ == used[0] && blocks_[used[0]].is_whole) return;
  for (const std::size_t i : used) {
    if (current_ == i) continue;
    current_ = i;
    if (is_in_batch_) order_.push_back({i, false});
  }
  if (is_held_) return;
  const auto next = expected_next();
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (next == i || std::ranges::find(used, i) != used.end()) continue;
    discard(blocks_[i]);
    free(blocks_[i]);
  }
  for (const std::size_t i : used) begin_to_gather(blocks_[i]);
  if (next) begin_to_gather(blocks_[*next]);
  for (const std::size_t i : used) gather(blocks_[i]);
}

void ParameterBlocks::enter_block_of(const torch::Tensor& tensor) {
  if (const auto block = block_of(tensor); block && !is_closed_) enter({*block});
}

void ParameterBlocks::leave(std::size_t block) {
  if (is_in_batch_) order_.push_back({block, true});
  if (current_ == block) current_.reset();
  if (!is_held_) free(blocks_[block]);
}

// The block after the current one, as the pass before had it at this place.
std::optional<std::size_t> ParameterBlocks::expected_next() const {
  if (!is_in_batch_) return std::nullopt;
  const auto known = orders_.find(pass_);
  if (known == orders_.end()) return std::nullopt;
  for (std::size_t i = order_.size(); i < known->second.size(); ++i) {
    const auto& event = known->second[i];
    if (!event.is_leaving) return event.block;
  }
  return std::nullopt;
}

void ParameterBlocks::begin_batch() {
  is_held_ = false;
  drop_all();
  is_in_batch_ = true;
  begin_pass(0);
}

void ParameterBlocks::begin_pass(std::size_t number) {
  pass_ = number;
  order_.clear();
  current_.reset();
}

void ParameterBlocks::end_batch() {
  is_in_batch_ = false;
  drop_all();
}

void ParameterBlocks::end_pass() {
  drop_all();
  if (!order_.empty()) orders_[pass_++] = std::move(order_);
  order_.clear();
}

void ParameterBlocks::repeat_pass(const std::function<void(std::size_t block)>& left) {
  const auto known = orders_.find(pass_);
  if (known == orders_.end()) {
    throw UsageError(
        "strategy = fsdp: a rank without a loss takes part in the others' passes as in its own pass before, and this "
        "one has had none: give each rank a batch with a loss to begin with, or use strategy = zero2");
  }
  const Order before = known->second;
  for (std::size_t i = order_.size(); i < before.size(); ++i) {
    const auto& event = before[i];
    if (event.is_leaving) {
      left(event.block);
    } else {
      enter({event.block});
    }
  }
}

// --- Operators ---

ParameterBlocks* ParameterBlocks::of_arguments(const torch::jit::Stack& stack, std::size_t count) {
  auto& all = AllBlocks::get();
  const std::lock_guard lock(all.mutex);
  ParameterBlocks* found = nullptr;
  for (std::size_t i = stack.size() - count; i < stack.size() && !found; ++i) {
    for_tensors_of(stack[i], [&](const torch::Tensor& tensor) {
      for (ParameterBlocks* each : all.list) {
        if (each->block_of(tensor)) found = each;
      }
    });
  }
  return found;
}

void ParameterBlocks::seen(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard once(use_key);
  ParameterBlocks* blocks = blocks_of_thread ? blocks_of_thread : of_arguments(*stack, op.schema().arguments().size());
  std::vector<std::size_t> written;
  if (blocks && !blocks->is_closed_) written = blocks->before(op, *stack);
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, use_key), stack);
  for (const std::size_t block : written) blocks->after_write(block);
}

std::vector<std::size_t> ParameterBlocks::before(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const std::size_t count = op.schema().arguments().size();
  std::vector<std::size_t> used, written;
  for (std::size_t i = 0; i < count; ++i) {
    for_tensors_of(stack[stack.size() - count + i], [&](const torch::Tensor& tensor) {
      const auto block = block_of(tensor);
      if (!block) return;
      add_once(used, *block);
      if (capture::writes(op, i)) add_once(written, *block);
    });
  }
  if (used.empty() || needs_no_elements(op)) return {};
  enter(used);
  return written;
}

void ParameterBlocks::after_write(std::size_t i) {
  const torch::NoGradGuard no_gradients;
  auto& block = blocks_[i];
  block.part.copy_(block.whole.narrow(0, peers_.place().global_rank * block.part.numel(), block.part.numel()));
}

}  // namespace troupe
