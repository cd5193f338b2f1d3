// A step that was recorded, as something that can be done again.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/runtime/capture/offered_memory.hpp"
#include "troupe/runtime/capture/recording.hpp"
#include "troupe/runtime/capture/substitutes.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe::capture {

/// Makes a kernel for one place in a program: from the arguments of its action, and where its results lie.
using KernelMaker = std::function<Kernel(std::vector<c10::IValue> arguments, std::vector<torch::Tensor> results)>;

/// What is done with a recording to make a program of it.
struct ProgramRequest {
  /// What is read after a replay, or between two of its stretches: kept until the next replay.
  std::vector<View> results;
  /// Where memory lies that somebody else has set aside (gradients): by its number in the recording.
  std::unordered_map<std::size_t, torch::Tensor> places;
  /// Kernels that stand in for actions, by their number; such an action has an operator, and all its results are
  /// computed.
  std::unordered_map<std::size_t, KernelMaker> kernels = {};
  /// What turns replays off for the caller's users, "trainer.capture_step = off": for errors of a replay.
  std::string way_out = {};
  /// From this action on nobody needs what `places` hold, until the program writes them: its results may lie there.
  std::optional<std::size_t> places_are_free_from = {};
};

/// Does the operators of a recording again, in memory that is laid out once: no graph, no views, no allocation but of
/// what an operator needs for itself. Bits are those of the recorded operators, which LibTorch's own kernels
/// compute. Used by one thread at a time.
class Program {
 public:
  /// Runs what is computed once. Throws std::runtime_error if the recording has no such program.
  Program(const Recording& recording, const ProgramRequest& request);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// The stretch before mark `index`, after the one before; the last one ends the step.
  void run(std::size_t stretch);
  std::size_t stretches() const { return ends_.size(); }
  /// Whether tensors that the program reads and has not computed are still somebody's.
  bool is_current() const;

  /// Of ProgramRequest::results, in order.
  const std::vector<torch::Tensor>& results() const { return results_; }
  /// Its operators and bytes, and those of the step.
  const CapturedProgram& summary() const { return summary_; }
  /// The program as text, an operator a line, with the time that each took in the replays that were timed.
  std::string to_text() const;
  /// Times each operator from now on.
  void set_timed(bool is_timed) { is_timed_ = is_timed; }
  /// The same for those who compare: `watch` hears of each operator, by its number in the recording. Calls that are
  /// seen outside are left out.
  void run_watched(std::size_t stretch, const Watch& watch);
  /// Whether operators need what such a call returns, so that the program cannot be run without it.
  bool needs_calls() const { return needs_calls_; }
  /// The memory that is not the program's own and that it writes, as bytes.
  const std::vector<torch::Tensor>& written() const { return written_; }

 private:
  struct Target {
    torch::Tensor tensor;             // undefined: the result is not kept
    bool is_adopted = false;          // the operator's own memory becomes the tensor's
    std::optional<std::size_t> room;  // of the instruction's, for the operator to allocate the result in
  };
  struct Instruction {
    std::size_t action = 0;
    std::optional<c10::OperatorHandle> op;
    std::string name;
    ThreadModes modes;
    StepRecorder::Again again;
    bool is_inner = false;
    Kernel kernel;                       // in place of the operator
    std::vector<torch::Tensor> outputs;  // of the kernel
    torch::jit::Stack arguments;
    std::vector<torch::Tensor> inputs;  // of a call
    std::vector<Target> targets;        // one for each result; none if the operator writes where it should
    std::vector<Room> rooms;
    std::string text;
    std::size_t times = 0;
    double seconds = 0;
  };
  class Builder;
  friend class Builder;

  void execute(Instruction& instruction);
  void call(Instruction& instruction);
  void take_results(Instruction& instruction);
  void collect_results();
  void tell_watch(const Instruction& instruction);

  std::vector<Instruction> instructions_;
  std::vector<std::size_t> ends_;  // of the stretches
  std::vector<torch::Tensor> results_;
  struct Found {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    const void* data = nullptr;
  };
  std::vector<Found> found_;  // what others keep; the program looks at it through storages of its own
  torch::Tensor arena_;
  torch::jit::Stack stack_;
  std::vector<torch::Tensor> fresh_;                                             // what an operator has returned
  c10::impl::LocalDispatchKeySet outside_{c10::impl::PODLocalDispatchKeySet{}};  // of the thread, around a replay
  CapturedProgram summary_;
  bool is_timed_ = false;
  const Watch* watch_ = nullptr;
  bool needs_calls_ = false;
  std::vector<torch::Tensor> written_;
  std::string way_out_;
};

}  // namespace troupe::capture
