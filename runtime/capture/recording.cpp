#include "troupe/runtime/capture/recording.hpp"

#include "troupe/runtime/capture/operators.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/StringUtil.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <utility>

namespace troupe::capture {

namespace {

// Nothing in LibTorch's C++ uses this key, which stands below autograd and autocast and above the devices: operators
// arrive here as the device would get them.
constexpr auto key = c10::DispatchKey::Fake;
// Larger content is not compared: what is so large is kept, not made in each step.
constexpr std::size_t most_content = std::size_t{1} << 20;

thread_local Recorder* listening = nullptr;

TORCH_LIBRARY_IMPL(_, Fake, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&Recorder::seen>());
}

Memory memory_of(Memory::Kind kind, const c10::Storage& storage) {
  return {kind, "", storage.nbytes(), {}, storage.getWeakStorageImpl(), false, false, std::nullopt};
}

void keep_content(Memory& memory, const c10::Storage& storage) {
  if (memory.bytes > most_content) return;
  memory.content.emplace(static_cast<const char*>(storage.data()), memory.bytes);
}

bool is_tensor_list(const c10::IValue& value) {
  return value.isTensorList() || value.isOptionalTensorList();
}

// Calls `each` for the tensors of a value, in order.
template <class Each>
void for_tensors(const c10::IValue& value, const Each& each) {
  if (value.isTensor()) return each(value.toTensor());
  if (value.isTensorList()) {
    for (const auto& tensor : value.toTensorVector()) each(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<torch::Tensor> tensor : value.toOptionalTensorList()) {
      each(tensor.value_or(torch::Tensor()));
    }
  }
}

uint64_t seed_of_generator() {
  return at::globalContext().defaultGenerator(at::kCPU).current_seed();
}

}  // namespace

std::string to_text(const View& view) {
  return c10::str(view.type, " ", torch::IntArrayRef(view.sizes));
}

bool is_contiguous(const View& view) {
  int64_t expected = 1;
  for (std::size_t i = view.sizes.size(); i-- > 0;) {
    if (view.sizes[i] != 1 && view.strides[i] != expected) return false;
    expected *= view.sizes[i];
  }
  return true;
}

ThreadModes ThreadModes::now() {
  const bool has_autocast = at::autocast::is_autocast_enabled(at::kCPU) &&
                            !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU);
  return {torch::GradMode::is_enabled(), has_autocast, at::autocast::get_autocast_dtype(at::kCPU)};
}

void ThreadModes::apply() const {
  torch::GradMode::set_enabled(has_gradients);
  at::autocast::set_autocast_enabled(at::kCPU, has_autocast);
  at::autocast::set_autocast_dtype(at::kCPU, autocast_type);
}

Recorder::~Recorder() {
  if (is_resumed_) pause();
}

void Recorder::resume() {
  is_resumed_ = true;
  seed_ = seed_of_generator();
  listening = this;
  outer_ = set_current(this);
  c10::impl::tls_set_dispatch_key_included(key, true);
}

void Recorder::pause() {
  c10::impl::tls_set_dispatch_key_included(key, false);
  set_current(outer_);
  listening = nullptr;
  is_resumed_ = false;
  if (seed_of_generator() != seed_) refuse("it seeds the random generator, which a replay does not");
}

void Recorder::refuse(std::string reason) {
  if (recording_.refusal.empty()) recording_.refusal = std::move(reason);
}

// --- Operators ---

void Recorder::seen(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard once(key);
  Recorder* recorder = listening;
  const bool is_recorded = recorder && recorder->recording_.refusal.empty();
  if (is_recorded) recorder->before(op, *stack);
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key), stack);
  if (is_recorded && recorder->recording_.refusal.empty()) recorder->after(op, *stack);
}

void Recorder::before(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& schema = op.schema();
  if (auto reason = reason_against(op); !reason.empty()) return refuse(std::move(reason));
  pending_ = {};
  pending_.op = op;
  pending_.name = name_of(op);
  pending_.is_random = draws(op);
  pending_.modes = ThreadModes::now();
  const bool overwriting = overwrites(op);
  const std::size_t first = stack.size() - schema.arguments().size();
  const auto take = [&](const torch::Tensor& tensor, bool is_read) -> std::optional<View> {
    if (!tensor.defined()) return std::nullopt;
    if (schema.name() == "aten::index" &&
        (tensor.scalar_type() == torch::kBool || tensor.scalar_type() == torch::kByte)) {
      refuse("the shape of " + pending_.name + "'s result depends on values (a mask)");
    }
    return is_read ? read(tensor) : view_of(tensor);
  };
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::IValue& value = stack[first + i];
    const bool is_read = !views(op, i) && !(writes(op, i) && overwriting);
    if (value.isTensor()) {
      auto view = take(value.toTensor(), is_read);
      if (view) {
        pending_.arguments.emplace_back(std::move(*view));
      } else {
        pending_.arguments.emplace_back(c10::IValue(torch::Tensor()));
      }
    } else if (is_tensor_list(value)) {
      ViewList list;
      list.are_optional = value.isOptionalTensorList();
      for_tensors(value, [&](const torch::Tensor& tensor) { list.views.push_back(take(tensor, is_read)); });
      pending_.arguments.emplace_back(std::move(list));
    } else if (value.isStorage()) {
      return refuse(pending_.name + " takes memory by itself");
    } else {
      pending_.arguments.emplace_back(value);
    }
  }
}

void Recorder::after(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& schema = op.schema();
  const bool is_allocation = only_allocates(op);
  const bool changes = writes_any(op);
  bool makes_memory = false;
  if (changes) mark_written(op);
  for (std::size_t i = stack.size() - schema.returns().size(); i < stack.size(); ++i) {
    for_tensors(stack[i], [&](const torch::Tensor& tensor) {
      if (!tensor.defined()) {
        pending_.results.emplace_back(std::nullopt);
        return;
      }
      if (!tensor.has_storage() || tensor.layout() != torch::kStrided)
        return refuse(pending_.name + "'s result is not dense");
      const bool is_new = !known_.contains(tensor.storage().unsafeGetStorageImpl());
      makes_memory |= is_new;
      pending_.results.emplace_back(result_of(tensor, !is_allocation));
    });
  }
  if (makes_memory) count_bytes();
  const bool has_results = !pending_.results.empty();  // without any it is a check
  pending_.is_view = !changes && !pending_.is_random && has_results && (!makes_memory || is_allocation);
  const bool is_watched = watch_ && !pending_.is_view;
  recording_.actions.push_back(std::move(pending_));
  pending_ = {};
  if (!is_watched) return;
  std::vector<torch::Tensor> results;
  for (std::size_t i = stack.size() - schema.returns().size(); i < stack.size(); ++i) {
    for_tensors(stack[i], [&](const torch::Tensor& tensor) { results.push_back(tensor); });
  }
  watch_(recording_.actions.size() - 1, recording_.actions.back().name, results);
}

void Recorder::count_bytes() {
  std::erase_if(alive_, [&](std::size_t i) { return recording_.memories[i].identity.expired(); });
  std::size_t bytes = bytes_beside_;
  for (const std::size_t i : alive_) bytes += recording_.memories[i].bytes;
  recording_.peak_bytes = std::max(recording_.peak_bytes, bytes);
}

void Recorder::mark_written(const c10::OperatorHandle& op) {
  for (std::size_t i = 0; i < pending_.arguments.size(); ++i) {
    if (!writes(op, i)) continue;
    for_views(pending_.arguments[i], [&](const View& view) { recording_.memories[view.memory].is_written = true; });
  }
}

// --- Memory ---

std::size_t Recorder::give(std::string name, const torch::Tensor& tensor) {
  const auto& storage = tensor.storage();
  const auto [entry, is_new] = known_.emplace(storage.unsafeGetStorageImpl(), recording_.memories.size());
  if (is_new) {
    recording_.memories.push_back(memory_of(Memory::Kind::given, storage));
    recording_.memories.back().name = std::move(name);
    recording_.memories.back().storage = storage;
  }
  return entry->second;
}

View Recorder::view_at(std::size_t memory, const torch::Tensor& tensor) const {
  return {memory,
          tensor.scalar_type(),
          tensor.storage_offset(),
          tensor.sizes().vec(),
          tensor.strides().vec(),
          tensor.unsafeGetTensorImpl()->is_wrapped_number()};
}

// Without reading it.
std::optional<View> Recorder::view_of(const torch::Tensor& tensor) {
  if (tensor.layout() != torch::kStrided || !tensor.has_storage() || !tensor.device().is_cpu()) {
    refuse(tensor.device().is_cpu() ? "a tensor is not dense (sparse, or of another layout)"
                                    : "a tensor is on " + tensor.device().str());
    return std::nullopt;
  }
  if (tensor.is_conj() || tensor.is_neg()) {
    refuse("a tensor is conjugated or negated lazily");
    return std::nullopt;
  }
  const auto& storage = tensor.storage();
  const auto [entry, is_new] = known_.emplace(storage.unsafeGetStorageImpl(), recording_.memories.size());
  if (is_new) {
    recording_.memories.push_back(memory_of(Memory::Kind::found, storage));
    keep_content(recording_.memories.back(), storage);
  }
  return view_at(entry->second, tensor);
}

// What was allocated and no operator has written, the host has: a tensor that was made of numbers.
std::optional<View> Recorder::read(const torch::Tensor& tensor) {
  auto view = view_of(tensor);
  if (!view) return view;
  Memory& memory = recording_.memories[view->memory];
  if (memory.kind == Memory::Kind::computed && !memory.is_written && tensor.numel() > 0) {
    memory.kind = Memory::Kind::found;
    keep_content(memory, tensor.storage());
  }
  return view;
}

View Recorder::result_of(const torch::Tensor& tensor, bool is_written) {
  const auto& storage = tensor.storage();
  const auto [entry, is_new] = known_.emplace(storage.unsafeGetStorageImpl(), recording_.memories.size());
  if (!is_new && storage.nbytes() != recording_.memories[entry->second].bytes) {
    refuse(pending_.name + " makes the memory of a tensor larger");
  }
  if (is_new) {
    recording_.memories.push_back(memory_of(Memory::Kind::computed, storage));
    recording_.memories.back().is_written = is_written;
    alive_.push_back(entry->second);
  }
  return view_at(entry->second, tensor);
}

// --- Calls ---

std::vector<torch::Tensor> Recorder::call(std::string name, const std::vector<torch::Tensor>& inputs, Again again,
                                          bool is_inner) {
  Action action;
  action.is_inner = is_inner;
  action.name = std::move(name);
  action.modes = ThreadModes::now();
  for (const auto& input : inputs) {
    auto view = input.defined() ? read(input) : std::nullopt;
    action.arguments.emplace_back(view ? Argument(std::move(*view)) : Argument(c10::IValue(torch::Tensor())));
  }
  pause();
  std::vector<torch::Tensor> results;
  try {
    results = again(inputs);
  } catch (...) {
    resume();
    throw;
  }
  resume();
  for (const auto& result : results) {
    action.results.push_back(result.defined() ? std::optional(result_of(result, true)) : std::nullopt);
  }
  action.again = std::move(again);
  recording_.actions.push_back(std::move(action));
  return results;
}

}  // namespace troupe::capture
