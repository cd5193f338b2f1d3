#include "troupe/runtime/capture/program.hpp"

#include "troupe/runtime/profile/thread_lane.hpp"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/types.h>

#include <chrono>
#include <cstdio>

namespace troupe::capture {

namespace {

constexpr c10::DispatchKeySet cpu_keys(c10::DispatchKey::CPU);

// What the thread had before comes back.
struct KeptModes {
  ThreadModes modes = ThreadModes::now();
  ~KeptModes() { modes.apply(); }
};

// The memory of `result` becomes that of `place`, whose tensors all see it then.
void adopt(const torch::Tensor& place, torch::Tensor result) {
  const bool is_alike = result.sizes() == place.sizes() && result.strides() == place.strides() &&
                        result.storage_offset() == place.storage_offset() && result.storage().use_count() == 1 &&
                        result.storage().nbytes() >= place.storage().nbytes();
  if (!is_alike) throw std::runtime_error("an operator lays a constant out in another way each time");
  place.storage().set_data_ptr_noswap(result.storage().set_data_ptr(c10::DataPtr(nullptr, c10::kCPU)));
}

// Whether the operator has put the result where its place is, and as it is there.
bool lies_in(const torch::Tensor& place, const torch::Tensor& result) {
  return result.data_ptr() == place.data_ptr() && result.sizes() == place.sizes() &&
         result.strides() == place.strides() && result.scalar_type() == place.scalar_type();
}

// What the operator needed in between may have come first.
void look_elsewhere(Room& room) {
  constexpr std::size_t most_passed = 3;
  if (room.passed == most_passed) room.bytes = 0;  // no allocation has that size
  ++room.passed;
}

}  // namespace

Program::~Program() = default;

void Program::run(std::size_t stretch) {
  outside_ = c10::impl::tls_local_dispatch_key_set();
  const KeptModes kept;
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  ThreadModes modes = kept.modes;
  const bool is_profiled = Profiling::is_recording();
  for (std::size_t i = stretch == 0 ? 0 : ends_[stretch - 1]; i < ends_[stretch]; ++i) {
    Instruction& instruction = instructions_[i];
    if (instruction.modes != modes) {
      modes = instruction.modes;
      modes.apply();
    }
    if (is_profiled) [[unlikely]] {
      const ReplayedOperator profiled(instruction.name);
      execute(instruction);
    } else if (!is_timed_) [[likely]] {
      execute(instruction);
    } else {
      const auto start = std::chrono::steady_clock::now();
      execute(instruction);
      instruction.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      ++instruction.times;
    }
  }
}

void Program::execute(Instruction& instruction) {
  if (!instruction.op) {
    call(instruction);
  } else if (instruction.kernel) {
    instruction.kernel();
    if (watch_) [[unlikely]]
      (*watch_)(instruction.action, instruction.name, instruction.outputs);
  } else {
    stack_.assign(instruction.arguments.begin(), instruction.arguments.end());
    if (instruction.rooms.empty()) {
      instruction.op->redispatchBoxed(cpu_keys, &stack_);
    } else {
      const OfferedMemory offered(instruction.rooms);
      instruction.op->redispatchBoxed(cpu_keys, &stack_);
    }
    if (!instruction.targets.empty()) take_results(instruction);
    if (watch_) [[unlikely]]
      tell_watch(instruction);
    stack_.clear();
  }
}

void Program::call(Instruction& instruction) {
  if (watch_ && !instruction.is_inner) return;
  const c10::impl::ForceDispatchKeyGuard as_outside(outside_);
  instruction.modes.apply();  // autocast is a key, too
  const auto results = instruction.again(instruction.inputs);
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (instruction.targets[i].tensor.defined()) instruction.targets[i].tensor.copy_(results[i]);
  }
}

void Program::run_watched(std::size_t stretch, const Watch& watch) {
  watch_ = &watch;
  try {
    run(stretch);
  } catch (...) {
    watch_ = nullptr;
    throw;
  }
  watch_ = nullptr;
}

// Results lie where they were put, or where the operator has written them.
void Program::tell_watch(const Instruction& instruction) {
  std::vector<torch::Tensor> results;
  for (const auto& target : instruction.targets) results.push_back(target.tensor);
  for (std::size_t i = 0; instruction.targets.empty() && i < stack_.size(); ++i) {
    if (stack_[i].isTensor()) results.push_back(stack_[i].toTensor());
  }
  (*watch_)(instruction.action, instruction.name, results);
}

void Program::collect_results() {
  fresh_.clear();
  for (auto& value : stack_) {
    if (value.isTensor()) {
      fresh_.push_back(std::move(value).toTensor());
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      value = c10::IValue();
      fresh_.insert(fresh_.end(), list.begin(), list.end());
    }
  }
}

void Program::take_results(Instruction& instruction) {
  collect_results();
  for (std::size_t i = 0; i < fresh_.size(); ++i) {
    const Target& target = instruction.targets[i];
    if (!target.room || !fresh_[i].defined() || lies_in(target.tensor, fresh_[i])) continue;
    look_elsewhere(instruction.rooms[*target.room]);
    // It may lie in another result's room, which is written below.
    const bool has_room = std::ranges::any_of(
        instruction.rooms, [&](const Room& room) { return fresh_[i].storage().data() == room.data; });
    if (has_room) fresh_[i] = fresh_[i].clone();
  }
  for (std::size_t i = 0; i < fresh_.size(); ++i) {
    const Target& target = instruction.targets[i];
    if (!target.tensor.defined()) continue;
    if (target.is_adopted) {
      adopt(target.tensor, std::move(fresh_[i]));
    } else if (!lies_in(target.tensor, fresh_[i])) {
      target.tensor.copy_(fresh_[i]);
    }
  }
  fresh_.clear();
  // Nobody does: it would be memory that other operators write to.
  if (!instruction.rooms.empty() && is_held(instruction.rooms)) {
    throw std::runtime_error(instruction.name + " keeps memory that the next replay writes to" +
                             (way_out_.empty() ? "" : ": set " + way_out_));
  }
}

bool Program::is_current() const {
  for (const auto& each : found_) {
    const auto storage = each.storage.lock();
    if (!storage || storage->data() != each.data) return false;
  }
  return true;
}

std::string Program::to_text() const {
  std::string text;
  std::size_t stretch = 0;
  for (std::size_t i = 0; i < instructions_.size(); ++i) {
    while (stretch < ends_.size() && ends_[stretch] == i) {
      text += "--\n";
      ++stretch;
    }
    const Instruction& each = instructions_[i];
    if (each.times > 0) {
      char time[32];
      std::snprintf(time, sizeof time, "%10.2f us  ", 1e6 * each.seconds / static_cast<double>(each.times));
      text += time;
    }
    text += each.text + "\n";
  }
  return text;
}

}  // namespace troupe::capture
