// What a step did, operator by operator.
#pragma once

#include "troupe/modules/support/step_recorder.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace troupe::capture {

/// A stretch of memory that a step reads or writes, whatever tensors look at it.
struct Memory {
  enum class Kind {
    given,     ///< named when the recording began: what the batch is in, parameters, buffers, gradients
    found,     ///< somebody else's, that an operator was given: a tensor that the module keeps, or has made of numbers
    computed,  ///< an operator of the step made it
  };
  Kind kind = Kind::computed;
  std::string name;  ///< of what is given
  std::size_t bytes = 0;
  c10::Storage storage;                                ///< of what is given; all else is freed as always
  c10::weak_intrusive_ptr<c10::StorageImpl> identity;  ///< so that no other memory is taken for it
  bool is_written = false;                             ///< by an operator; else it was only allocated, or is read only
  bool is_kept = false;                ///< found: by somebody, from one step to the next; else it is made anew in each
  std::optional<std::string> content;  ///< found: its bytes when it was first read, unless it is large
};

/// A tensor as a step sees it: where, of what type and of what shape.
struct View {
  std::size_t memory = 0;  ///< index into Recording::memories
  torch::ScalarType type = torch::kFloat32;
  int64_t offset = 0;  ///< elements
  std::vector<int64_t> sizes, strides;
  bool is_wrapped_number = false;  ///< takes no part in the promotion of types

  bool operator==(const View&) const = default;
};

/// Of several tensors some may be undefined.
struct ViewList {
  std::vector<std::optional<View>> views;
  bool are_optional = false;  ///< the operator takes undefined ones

  bool operator==(const ViewList&) const = default;
};

using Argument = std::variant<c10::IValue, View, ViewList>;

/// Calls `each` for the tensors of an argument, in order; undefined ones are left out.
template <class Each>
void for_views(const Argument& argument, const Each& each) {
  if (const auto* view = std::get_if<View>(&argument)) each(*view);
  if (const auto* list = std::get_if<ViewList>(&argument)) {
    for (const auto& view : list->views) {
      if (view) each(*view);
    }
  }
}

/// What operators depend on that is the thread's: some kernels keep more if gradients are on.
struct ThreadModes {
  bool has_gradients = false;
  bool has_autocast = false;
  torch::ScalarType autocast_type = torch::kFloat32;

  bool operator==(const ThreadModes&) const = default;
  static ThreadModes now();
  void apply() const;
};

/// One operator, or one call of StepRecorder::call().
struct Action {
  std::optional<c10::OperatorHandle> op;
  std::string name;  ///< "aten::addmm", or of a call
  StepRecorder::Again again;
  bool is_inner = false;  ///< a call that may be done once more
  std::vector<Argument> arguments;
  std::vector<std::optional<View>> results;  ///< nullopt: undefined; lists are flattened
  ThreadModes modes;
  bool is_view = false;    ///< nothing is computed: a replay needs none of it
  bool is_random = false;  ///< draws from a generator
};

struct Recording {
  std::vector<Memory> memories;
  std::vector<Action> actions;
  std::string refusal;             ///< why the step cannot be captured; empty: it can
  std::vector<std::size_t> marks;  ///< numbers of actions at the marks
  std::size_t peak_bytes = 0;      ///< the most that was allocated at one time
};

/// Hears of each action when it is done, by its number; what is no view has results.
using Watch =
    std::function<void(std::size_t number, const std::string& name, const std::vector<torch::Tensor>& results)>;

/// Text for messages: "Float [8, 16]".
std::string to_text(const View& view);
/// Whether the last dimension lies without gaps, and so on to the first.
bool is_contiguous(const View& view);

/// Records what its thread does while it is resumed, forward and backward, below autograd: each operator that LibTorch
/// sends to a device. Operators run as always; nothing of a tensor but its memory is kept, so that who looks at
/// reference counts (autograd, to take a gradient over rather than copy it) decides as always.
class Recorder final : public StepRecorder {
 public:
  Recorder() = default;
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// Memory with a name, before it is used. Those of two recordings that are to agree come in the same order.
  std::size_t give(std::string name, const torch::Tensor& tensor);
  /// The tensor as the recording knows it; nullopt, with a refusal, if it cannot be told.
  std::optional<View> view_of(const torch::Tensor& tensor);

  /// What is allocated beside what operators make, and counts for Recording::peak_bytes: gradients of the step before,
  /// until they are zeroed.
  void set_bytes_beside(std::size_t bytes) { bytes_beside_ = bytes; }
  void set_watch(Watch watch) { watch_ = std::move(watch); }
  void resume();
  void pause();
  bool is_resumed() const { return is_resumed_; }
  void mark() { recording_.marks.push_back(recording_.actions.size()); }

  const Recording& recording() const { return recording_; }
  Recording take() { return std::move(recording_); }

  std::vector<torch::Tensor> call(std::string name, const std::vector<torch::Tensor>& inputs, Again again,
                                  bool is_inner) override;
  void refuse(std::string reason) override;

  /// The dispatcher's.
  static void seen(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  void before(const c10::OperatorHandle& op, const torch::jit::Stack& stack);
  void after(const c10::OperatorHandle& op, const torch::jit::Stack& stack);
  std::optional<View> read(const torch::Tensor& tensor);
  View result_of(const torch::Tensor& tensor, bool is_written);
  View view_at(std::size_t memory, const torch::Tensor& tensor) const;
  void mark_written(const c10::OperatorHandle& op);
  void count_bytes();

  Recording recording_;
  std::unordered_map<const void*, std::size_t> known_;  // by storage
  std::size_t bytes_beside_ = 0;
  std::vector<std::size_t> alive_;  // computed memory that has not been freed, as far as is known
  Action pending_;
  Watch watch_;
  bool is_resumed_ = false;
  uint64_t seed_ = 0;  // of the generator, when it was resumed
  StepRecorder* outer_ = nullptr;
};

/// While it lives the recorder is resumed.
class Recorded {
 public:
  explicit Recorded(Recorder* recorder) : recorder_(recorder) {
    if (recorder_) recorder_->resume();
  }
  ~Recorded() {
    if (recorder_) recorder_->pause();
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

 private:
  Recorder* recorder_;
};

}  // namespace troupe::capture
