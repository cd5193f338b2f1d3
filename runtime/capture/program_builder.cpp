// How a recording becomes a program.
#include "troupe/runtime/capture/memory_plan.hpp"
#include "troupe/runtime/capture/operators.hpp"
#include "troupe/runtime/capture/program.hpp"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace troupe::capture {

namespace {

// Larger results of operators without inputs are computed in each replay: their memory is better used by others.
constexpr std::size_t most_constant = std::size_t{1} << 20;

torch::Tensor tensor_on(c10::Storage storage, const View& view) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                         c10::scalarTypeToTypeMeta(view.type));
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(view.sizes, view.strides, view.offset);
  if (view.is_wrapped_number) impl->set_wrapped_number(true);
  return tensor;
}

// Memory of `owner`, which it keeps alive.
c10::DataPtr memory_of(const c10::Storage& owner, std::size_t offset = 0) {
  auto* keeper = new c10::Storage(owner);
  return {static_cast<char*>(owner.mutable_data()) + offset, keeper,
          [](void* held) { delete static_cast<c10::Storage*>(held); }, c10::kCPU};
}

// A part of the tensor's memory.
c10::Storage part_of(const torch::Tensor& arena, std::size_t offset, std::size_t bytes) {
  return c10::Storage(c10::Storage::use_byte_size_t(), bytes, memory_of(arena.storage(), offset),
                      /*allocator=*/nullptr, /*resizable=*/false);
}

}  // namespace

class Program::Builder {
 public:
  Builder(Program& program, const Recording& recording, const ProgramRequest& request)
      : program_(program), recording_(recording), request_(request), places_(recording.memories.size()) {}

  void build() {
    look_at_uses();
    find_constants();
    find_what_is_needed();
    choose_ways();
    lay_out();
    for (std::size_t i = 0, mark = 0; i <= recording_.actions.size(); ++i) {
      while (mark < recording_.marks.size() && recording_.marks[mark] == i) {
        program_.ends_.push_back(program_.instructions_.size());
        ++mark;
      }
      if (i == recording_.actions.size()) break;
      if (is_needed_[i]) add_instruction(i);
    }
    program_.ends_.push_back(program_.instructions_.size());
    for (const auto& view : request_.results) program_.results_.push_back(tensor_of(view));
    list_written();
    summarize();
  }

 private:
  enum class Way { out, in_place, allocates, calls, substitute };
  static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

  struct Place {
    c10::Storage storage;  // where it lies
    std::size_t writers = 0;
    bool is_constant = false;
    bool is_kept = false;  // of a constant: replays read it, not other constants alone
    bool is_needed = false;
    std::size_t first = never, last = 0;
  };

  template <class Each>
  void for_arguments(const Action& action, const Each& each) const {
    for (std::size_t i = 0; i < action.arguments.size(); ++i) {
      for_views(action.arguments[i], [&](const View& view) { each(view, i); });
    }
  }
  template <class Each>
  void for_written(const Action& action, const Each& each) const {
    for (const auto& result : action.results) {
      if (result) each(*result);
    }
    if (!action.op) return;
    for_arguments(action, [&](const View& view, std::size_t i) {
      if (writes(*action.op, i)) each(view);
    });
  }

  const Memory& memory(const View& view) const { return recording_.memories[view.memory]; }
  Place& place(const View& view) { return places_[view.memory]; }
  bool is_computed(const View& view) const { return memory(view).kind == Memory::Kind::computed; }

  void look_at_uses() {
    for (const auto& action : recording_.actions) {
      if (action.is_view) continue;
      for_written(action, [&](const View& view) { ++place(view).writers; });
    }
  }

  // An operator whose arguments are always the same, and which alone writes its results.
  void find_constants() {
    is_constant_.assign(recording_.actions.size(), false);
    for (std::size_t i = 0; i < recording_.actions.size(); ++i) {
      const Action& action = recording_.actions[i];
      if (!action.op || action.is_view || action.is_random || writes_any(*action.op)) continue;
      if (request_.kernels.contains(i)) continue;
      bool is_constant = true;
      for_arguments(action, [&](const View& view, std::size_t) {
        const Memory& read = memory(view);
        const bool is_made_of_numbers = read.kind == Memory::Kind::found && !read.is_kept;
        is_constant &= place(view).is_constant || is_made_of_numbers || ignores_values(action);
      });
      for (const auto& result : action.results) {
        is_constant &= result && is_computed(*result) && place(*result).writers == 1 &&
                       memory(*result).bytes <= most_constant && !request_.places.contains(result->memory);
      }
      if (!is_constant) continue;
      is_constant_[i] = true;
      for (const auto& result : action.results) place(*result).is_constant = true;
    }
  }

  // From the end: what writes memory that is read afterwards, or that is not the program's own.
  void find_what_is_needed() {
    is_needed_.assign(recording_.actions.size(), false);
    for (const auto& view : request_.results) place(view).is_needed = place(view).is_kept = true;
    for (const auto& [index, tensor] : request_.places) places_[index].is_needed = true;
    for (std::size_t i = recording_.actions.size(); i-- > 0;) {
      const Action& action = recording_.actions[i];
      if (action.is_view) continue;
      bool is_needed = !action.op || action.is_random || action.results.empty();
      for_written(action, [&](const View& view) { is_needed |= place(view).is_needed || !is_computed(view); });
      if (!is_needed) {
        ++program_.summary_.unused;
        continue;
      }
      is_needed_[i] = true;
      for_arguments(action, [&](const View& view, std::size_t) {
        place(view).is_needed |= !is_constant_[i] || place(view).is_constant;
        place(view).is_kept |= !is_constant_[i];
      });
    }
  }

  void choose_ways() {
    ways_.assign(recording_.actions.size(), Way::in_place);
    twins_.resize(recording_.actions.size());
    for (std::size_t i = 0; i < recording_.actions.size(); ++i) {
      const Action& action = recording_.actions[i];
      if (!is_needed_[i]) continue;
      if (!action.op) {
        ways_[i] = Way::calls;
        continue;
      }
      if (request_.kernels.contains(i)) {
        ways_[i] = Way::substitute;
        continue;
      }
      const bool makes_all = std::ranges::all_of(action.results, [&](const auto& r) { return r && is_computed(*r); });
      if (!is_constant_[i] && makes_all && has_substitute(action)) {
        ways_[i] = Way::substitute;
        continue;
      }
      if (!writes_any(*action.op) && makes_all && !is_constant_[i]) twins_[i] = out_twin(*action.op);
      if (twins_[i]) {
        ways_[i] = Way::out;
      } else if (!writes_any(*action.op) || std::ranges::any_of(action.results, [&](const auto& result) {
                   return result && is_computed(*result) && !is_argument(action, *result);
                 })) {
        ways_[i] = Way::allocates;
      }
    }
  }

  bool is_argument(const Action& action, const View& result) const {
    bool found = false;
    for_arguments(action, [&](const View& view, std::size_t) { found |= view.memory == result.memory; });
    return found;
  }

  void lay_out() {
    const std::size_t end = recording_.actions.size();
    for (std::size_t i = 0; i < end; ++i) {
      if (!is_needed_[i]) continue;
      const auto use = [&](const View& view) {
        place(view).first = std::min(place(view).first, i);
        place(view).last = std::max(place(view).last, i);
      };
      for_arguments(recording_.actions[i], [&](const View& view, std::size_t) { use(view); });
      for (const auto& result : recording_.actions[i].results) {
        if (result) use(*result);
      }
    }
    for (const auto& view : request_.results) {
      place(view).first = std::min(place(view).first, end);
      place(view).last = end;
    }
    std::vector<std::size_t> planned;
    std::vector<Lifetime> lifetimes;
    for (std::size_t m = 0; m < places_.size(); ++m) {
      Place& place = places_[m];
      const Memory& memory = recording_.memories[m];
      if (const auto given = request_.places.find(m); given != request_.places.end()) {
        place.storage = given->second.storage();
      } else if (memory.kind == Memory::Kind::given) {
        place.storage = memory.storage;
      } else if (memory.kind == Memory::Kind::found) {
        if (place.first != never) place.storage = found(memory);
      } else if (place.first == never) {
        continue;
      } else if (place.is_constant) {
        place.storage = c10::Storage(c10::Storage::use_byte_size_t(), memory.bytes, c10::DataPtr(nullptr, c10::kCPU),
                                     nullptr, /*resizable=*/false);
      } else {
        planned.push_back(m);
        lifetimes.push_back({memory.bytes, place.first, place.last});
      }
    }
    std::vector<torch::Tensor> lenders;
    std::vector<Lifetime> lent;
    for (const auto& [index, tensor] : request_.places) {
      program_.summary_.bytes += tensor.nbytes();
      const std::size_t written = places_[index].first;
      if (!request_.places_are_free_from || recording_.memories[index].kind != Memory::Kind::computed ||
          written == never || written <= *request_.places_are_free_from) {
        continue;
      }
      lenders.push_back(tensor);
      lent.push_back({tensor.nbytes(), *request_.places_are_free_from, written - 1});
    }
    const MemoryPlan plan = plan_memory(lifetimes, lent);
    program_.arena_ = torch::empty({static_cast<int64_t>(plan.bytes)}, torch::kUInt8);
    program_.summary_.bytes += plan.bytes;
    for (std::size_t i = 0; i < planned.size(); ++i) {
      const torch::Tensor& lies_in = plan.lender[i] ? lenders[*plan.lender[i]] : program_.arena_;
      places_[planned[i]].storage = part_of(lies_in, plan.offsets[i], lifetimes[i].bytes);
    }
  }

  // The same bytes by a storage of the program's own, so that it does not keep what the module gives up; or a copy of
  // what a step makes anew each time.
  c10::Storage found(const Memory& memory) {
    if (!memory.is_kept) {
      const auto copy = torch::empty({static_cast<int64_t>(memory.bytes)}, torch::kUInt8);
      std::copy_n(memory.content->data(), memory.bytes, static_cast<char*>(copy.mutable_data_ptr()));
      program_.summary_.bytes += memory.bytes;
      return copy.storage();
    }
    const auto storage = memory.identity.lock();
    if (!storage) throw std::runtime_error("a tensor that it reads is replaced by the module after each step");
    program_.found_.push_back({memory.identity, storage->data()});
    return c10::Storage(c10::Storage::use_byte_size_t(), memory.bytes, c10::DataPtr(storage->mutable_data(), c10::kCPU),
                        nullptr, /*resizable=*/false);
  }

  torch::Tensor tensor_of(const View& view) {
    Place& at = place(view);
    if (!at.storage) throw std::runtime_error("a result is in memory that no operator of the step has made");
    const auto same = std::ranges::find_if(tensors_, [&](const auto& each) { return each.first == view; });
    if (same != tensors_.end()) return same->second;
    tensors_.emplace_back(view, tensor_on(at.storage, view));
    return tensors_.back().second;
  }

  c10::IValue value_of(const Argument& argument) {
    if (const auto* view = std::get_if<View>(&argument)) return tensor_of(*view);
    const auto* list = std::get_if<ViewList>(&argument);
    if (!list) return std::get<c10::IValue>(argument);
    if (!list->are_optional) {
      c10::List<torch::Tensor> tensors;
      for (const auto& view : list->views) tensors.push_back(view ? tensor_of(*view) : torch::Tensor());
      return tensors;
    }
    c10::List<std::optional<torch::Tensor>> tensors;
    for (const auto& view : list->views) {
      tensors.push_back(view ? std::optional(tensor_of(*view)) : std::nullopt);
    }
    return tensors;
  }

  void add_instruction(std::size_t index) {
    const Action& action = recording_.actions[index];
    Instruction instruction;
    instruction.action = index;
    instruction.op = twins_[index] ? twins_[index] : action.op;
    instruction.name = action.name;
    instruction.again = action.again;
    instruction.is_inner = action.is_inner;
    instruction.modes = action.modes;
    if (ways_[index] == Way::calls) {
      for (const auto& argument : action.arguments) instruction.inputs.push_back(value_of(argument).toTensor());
    } else {
      for (const auto& argument : action.arguments) instruction.arguments.push_back(value_of(argument));
    }
    if (ways_[index] == Way::substitute) {
      for (const auto& result : action.results) instruction.outputs.push_back(tensor_of(*result));
      const auto given = request_.kernels.find(index);
      instruction.kernel = given == request_.kernels.end()
                               ? substitute(action, instruction.arguments, instruction.outputs)
                               : given->second(instruction.arguments, instruction.outputs);
    } else if (ways_[index] == Way::out) {
      for (const auto& result : action.results) instruction.arguments.emplace_back(tensor_of(*result));
    } else if (ways_[index] != Way::in_place) {
      for (const auto& result : action.results) {
        Target target;
        if (result && is_computed(*result) && !is_argument(action, *result) && place(*result).storage) {
          target.tensor = tensor_of(*result);
          target.is_adopted = place(*result).is_constant;
          if (ways_[index] == Way::allocates && !target.is_adopted) target.room = add_room(instruction, *result);
        }
        instruction.targets.push_back(std::move(target));
      }
    }
    instruction.text = text_of(action, index);
    if (is_constant_[index]) {
      const torch::NoGradGuard no_gradients;
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      program_.execute(instruction);
      ++program_.summary_.constants;
      for (const auto& result : action.results) {
        if (place(*result).is_kept) keep_constant(place(*result).storage);
      }
      return;
    }
    program_.instructions_.push_back(std::move(instruction));
  }

  // Equal ones, as the masks of a transformer's blocks are, have one memory.
  void keep_constant(const c10::Storage& storage) {
    const auto is_equal = [&](const c10::Storage& other) {
      return other.nbytes() == storage.nbytes() && std::memcmp(other.data(), storage.data(), storage.nbytes()) == 0;
    };
    const auto equal = std::ranges::find_if(kept_constants_, is_equal);
    if (equal == kept_constants_.end()) {
      program_.summary_.bytes += storage.nbytes();
      kept_constants_.push_back(storage);
    } else if (storage.nbytes() > 0) {
      storage.set_data_ptr_noswap(memory_of(*equal));
    }
  }

  // Nothing for memory of another size than the operator's, or that several results share.
  std::optional<std::size_t> add_room(Instruction& instruction, const View& result) {
    const c10::Storage& storage = place(result).storage;
    const Room room{storage.mutable_data(), memory(result).bytes};
    const auto is_same = [&](const Room& other) { return other.data == room.data; };
    if (room.bytes == 0 || room.bytes != storage.nbytes() || std::ranges::any_of(instruction.rooms, is_same))
      return std::nullopt;
    instruction.rooms.push_back(room);
    return instruction.rooms.size() - 1;
  }

  std::string text_of(const Action& action, std::size_t index) const {
    std::string text;
    for (const auto& result : action.results) {
      if (!text.empty()) text += ", ";
      text += result ? "%" + std::to_string(result->memory) + " " + capture::to_text(*result) : "none";
    }
    if (!text.empty()) text += " = ";
    text += action.name + "(";
    const char* comma = "";
    for (const auto& argument : action.arguments) {
      text += std::exchange(comma, ", ");
      if (const auto* view = std::get_if<View>(&argument)) {
        const Memory& read = memory(*view);
        text += "%" + std::to_string(view->memory);
        if (!read.name.empty()) text += ":" + read.name;
      } else if (const auto* list = std::get_if<ViewList>(&argument)) {
        text += "[";
        const char* inner = "";
        for (const auto& view : list->views) {
          text += std::exchange(inner, ", ") + (view ? "%" + std::to_string(view->memory) : std::string("none"));
        }
        text += "]";
      } else {
        const auto& value = std::get<c10::IValue>(argument);
        text += value.isTensor() ? "none" : c10::str(value);
      }
    }
    text += ")";
    constexpr const char* ways[] = {"", "", "  # allocates", "  # called", "  # a kernel of Troupe's"};
    return text + ways[static_cast<std::size_t>(ways_[index])];
  }

  void list_written() {
    std::vector<bool> is_written(places_.size(), false);
    for (std::size_t i = 0; i < recording_.actions.size(); ++i) {
      if (!is_needed_[i]) continue;
      const Action& action = recording_.actions[i];
      program_.needs_calls_ |= !action.op && !action.is_inner && !action.results.empty();
      for_written(action, [&](const View& view) { is_written[view.memory] = true; });
    }
    for (std::size_t m = 0; m < places_.size(); ++m) {
      const bool is_own = recording_.memories[m].kind == Memory::Kind::computed && !request_.places.contains(m);
      if (is_own || !is_written[m] || !places_[m].storage) continue;
      const auto bytes = static_cast<int64_t>(places_[m].storage.nbytes());
      program_.written_.push_back(tensor_on(places_[m].storage, {m, torch::kUInt8, 0, {bytes}, {1}, false}));
    }
  }

  void summarize() {
    auto& summary = program_.summary_;
    summary.recorded = recording_.actions.size();
    summary.operators = program_.instructions_.size();
    summary.plain_bytes = recording_.peak_bytes;
    for (const auto& action : recording_.actions) summary.views += action.is_view ? 1 : 0;
  }

  Program& program_;
  const Recording& recording_;
  const ProgramRequest& request_;
  std::vector<Place> places_;  // of each memory
  std::vector<bool> is_constant_, is_needed_;
  std::vector<Way> ways_;
  std::vector<std::optional<c10::OperatorHandle>> twins_;
  std::vector<std::pair<View, torch::Tensor>> tensors_;
  std::vector<c10::Storage> kept_constants_;
};

Program::Program(const Recording& recording, const ProgramRequest& request) : way_out_(request.way_out) {
  Builder(*this, recording, request).build();
}

}  // namespace troupe::capture
