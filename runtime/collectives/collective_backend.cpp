#include "troupe/runtime/collectives/collective_backend.hpp"

#include "troupe/base/failure.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace troupe {
namespace {

using c10d::ReduceOp;

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

void check_tensor(const at::Tensor& tensor, const char* operation, const std::string& backend) {
  if (!tensor.defined()) throw UsageError(text(operation, ": a tensor is undefined"));
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided) {
    throw UsageError(text(operation, ": the backend '", backend, "' takes dense tensors on the CPU, and got one of ",
                          tensor.sizes(), " on ", tensor.device(), tensor.layout() == at::kStrided ? "" : ", sparse",
                          tensor.is_cuda() ? "; GPUs have the backend 'nccl'" : ""));
  }
}

const at::Tensor& only(const std::vector<at::Tensor>& tensors, const char* operation) {
  if (tensors.size() != 1) throw UsageError(text(operation, " takes one tensor, and got ", tensors.size()));
  return tensors.front();
}

bool is_half(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

ReduceOp::RedOpType checked_op(const ReduceOp& op, at::ScalarType type, const char* operation) {
  const ReduceOp::RedOpType kind = op;
  if (kind > ReduceOp::MAX) {
    throw UsageError(text(operation, ": the operation ", static_cast<int>(kind),
                          " of c10d is not known on the CPU; known are SUM, AVG, PRODUCT, MIN and MAX"));
  }
  const bool floating = type == at::kFloat || type == at::kDouble || is_half(type);
  if (kind == ReduceOp::AVG && !floating) {
    throw UsageError(text(operation, ": AVG of ", type, " is no whole number; use SUM and divide"));
  }
  if (!floating && type != at::kBool && !(at::isIntegralType(type, false) && at::elementSize(type) <= 8)) {
    throw UsageError(text(operation, ": cannot reduce ", type));
  }
  return kind;
}

// Reduces in place: a view of the tensor where it is contiguous, else a copy that goes back at the end.
void set_in_place(CollectiveCall& call, const at::Tensor& tensor) {
  call.input = call.output = tensor.detach().contiguous();
  call.results = {tensor};
  if (!call.output.is_alias_of(tensor)) {
    call.finish = [from = call.output, to = tensor.detach()] { to.copy_(from); };
  }
}

// Copies the parts of `from`, which is flat, to tensors of any shape and strides.
std::function<void()> copy_of_parts(at::Tensor from, std::vector<at::Tensor> to) {
  return [from = std::move(from), to = std::move(to)] {
    int64_t offset = 0;
    for (const auto& tensor : to) {
      tensor.detach().copy_(from.narrow(0, offset, tensor.numel()).view(tensor.sizes()));
      offset += tensor.numel();
    }
  };
}

// The tensors as one flat tensor of their memory, where they lie one behind the other in one storage; else undefined.
at::Tensor concatenated(const std::vector<at::Tensor>& tensors, int64_t elements) {
  const auto& first = tensors.front();
  int64_t offset = first.storage_offset();
  for (const auto& tensor : tensors) {
    if (!tensor.is_contiguous() || !tensor.is_alias_of(first)) return {};
    if (tensor.numel() > 0 && tensor.storage_offset() != offset) return {};
    offset += tensor.numel();
  }
  return first.detach().as_strided({elements}, {1}, first.storage_offset());
}

}  // namespace

CollectiveBackend::CollectiveBackend(int rank, int size, std::string name, CollectiveOptions options)
    : Backend(rank, size), name_(std::move(name)), options_(options), timeout_(options.timeout) {
  if (options.timeout <= std::chrono::milliseconds::zero()) {
    throw UsageError(
        text("the timeout of a group of ranks has to be above zero, and is ", options.timeout.count(), " ms"));
  }
}

c10::intrusive_ptr<c10d::Backend::Options> CollectiveBackend::getBackendOptions() {
  return c10::make_intrusive<Options>(name_, timeout());
}

c10::intrusive_ptr<CollectiveWork> CollectiveBackend::make_work(const CollectiveCall& call,
                                                                std::chrono::milliseconds timeout) {
  static constexpr c10d::OpType types[] = {c10d::OpType::ALLREDUCE, c10d::OpType::BROADCAST, c10d::OpType::ALLGATHER,
                                           c10d::OpType::REDUCE_SCATTER, c10d::OpType::BARRIER};
  const uint64_t number = ++issued_;
  // Names the call without its memory: the text is wanted rarely, and the memory should go as soon as it can.
  auto what = [kind = call.kind, bytes = call.bytes(), number, rank = getRank(), size = getSize()] {
    return text(name_of(kind), " number ", number, " of rank ", rank, " of ", size, " (", bytes, " bytes)");
  };
  return c10::make_intrusive<CollectiveWork>(types[static_cast<int>(call.kind)], getRank(), number, std::move(what),
                                             call.results, timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::launch(CollectiveCall call, std::chrono::milliseconds timeout) {
  return start(std::move(call), timeout == c10d::kUnsetTimeout ? this->timeout() : timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::allreduce(std::vector<at::Tensor>& tensors,
                                                            const c10d::AllreduceOptions& options) {
  const auto& tensor = only(tensors, "all-reduce");
  check_tensor(tensor, "all-reduce", name_);
  CollectiveCall call{.kind = Collective::all_reduce};
  call.op = checked_op(options.reduceOp, tensor.scalar_type(), "all-reduce");
  set_in_place(call, tensor);
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::allreduce_coalesced(std::vector<at::Tensor>& tensors,
                                                                      const c10d::AllreduceCoalescedOptions& options) {
  if (tensors.empty()) throw UsageError("all-reduce takes one tensor at least, and got none");
  std::vector<at::Tensor> flat;
  for (const auto& tensor : tensors) {
    check_tensor(tensor, "all-reduce", name_);
    if (tensor.scalar_type() != tensors.front().scalar_type()) {
      throw UsageError(text("all-reduce of several tensors: all have to be of one type, and there are ",
                            tensors.front().scalar_type(), " and ", tensor.scalar_type()));
    }
    flat.push_back(tensor.detach().reshape({-1}));
  }
  CollectiveCall call{.kind = Collective::all_reduce};
  call.op = checked_op(options.reduceOp, tensors.front().scalar_type(), "all-reduce");
  call.input = call.output = at::cat(flat);
  call.results = tensors;
  call.finish = copy_of_parts(call.output, tensors);
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::broadcast(std::vector<at::Tensor>& tensors,
                                                            const c10d::BroadcastOptions& options) {
  const auto& tensor = only(tensors, "broadcast");
  check_tensor(tensor, "broadcast", name_);
  if (options.rootRank < 0 || options.rootRank >= getSize()) {
    throw UsageError(text("broadcast from rank ", options.rootRank, ": the ranks are 0 to ", getSize() - 1));
  }
  CollectiveCall call{.kind = Collective::broadcast};
  call.root = static_cast<int>(options.rootRank);
  set_in_place(call, tensor);
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                                            std::vector<at::Tensor>& inputs,
                                                            const c10d::AllgatherOptions& options) {
  const auto& input = only(inputs, "all-gather");
  check_tensor(input, "all-gather", name_);
  if (outputs.size() != 1 || outputs.front().size() != static_cast<std::size_t>(getSize())) {
    throw UsageError(text("all-gather takes one output for each of ", getSize(), " ranks, and got ",
                          outputs.empty() ? 0 : outputs.front().size()));
  }
  CollectiveCall call{.kind = Collective::all_gather};
  int64_t elements = 0;
  for (const auto& output : outputs.front()) {
    check_tensor(output, "all-gather", name_);
    if (output.scalar_type() != input.scalar_type()) {
      throw UsageError(text("all-gather of ", input.scalar_type(), ": an output is ", output.scalar_type()));
    }
    call.counts.push_back(output.numel());
    elements += output.numel();
  }
  if (call.counts[static_cast<std::size_t>(getRank())] != input.numel()) {
    throw UsageError(text("all-gather: rank ", getRank(), " gives ", input.numel(), " elements, and its output holds ",
                          call.counts[static_cast<std::size_t>(getRank())]));
  }
  call.input = input.detach().contiguous();
  call.results = outputs.front();
  call.output = concatenated(outputs.front(), elements);
  if (!call.output.defined()) {
    call.output = at::empty({elements}, input.options());
    call.finish = copy_of_parts(call.output, outputs.front());
  }
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                                  const c10d::AllgatherOptions& options) {
  check_tensor(input, "all-gather", name_);
  check_tensor(output, "all-gather", name_);
  if (output.numel() != input.numel() * getSize() || output.scalar_type() != input.scalar_type()) {
    throw UsageError(text("all-gather of ", input.scalar_type(), " ", input.sizes(), " from ", getSize(),
                          " ranks does not fit into ", output.scalar_type(), " ", output.sizes()));
  }
  CollectiveCall call{.kind = Collective::all_gather};
  call.counts.assign(static_cast<std::size_t>(getSize()), input.numel());
  set_in_place(call, output);
  call.input = input.detach().contiguous();
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::reduce_scatter(std::vector<at::Tensor>& outputs,
                                                                 std::vector<std::vector<at::Tensor>>& inputs,
                                                                 const c10d::ReduceScatterOptions& options) {
  auto output = only(outputs, "reduce-scatter");
  check_tensor(output, "reduce-scatter", name_);
  if (inputs.size() != 1 || inputs.front().size() != static_cast<std::size_t>(getSize())) {
    throw UsageError(text("reduce-scatter takes one input for each of ", getSize(), " ranks, and got ",
                          inputs.empty() ? 0 : inputs.front().size()));
  }
  std::vector<at::Tensor> flat;
  for (const auto& input : inputs.front()) {
    check_tensor(input, "reduce-scatter", name_);
    if (input.numel() != output.numel()) {
      throw UsageError(
          text("reduce-scatter: an input has the shape ", input.sizes(), ", and the output ", output.sizes()));
    }
    flat.push_back(input.detach().reshape({-1}));
  }
  auto input = at::cat(flat);
  return _reduce_scatter_base(output, input, options);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                                       const c10d::ReduceScatterOptions& options) {
  check_tensor(input, "reduce-scatter", name_);
  check_tensor(output, "reduce-scatter", name_);
  if (input.numel() != output.numel() * getSize() || output.scalar_type() != input.scalar_type()) {
    throw UsageError(text("reduce-scatter of ", input.scalar_type(), " ", input.sizes(), " to ", getSize(),
                          " ranks does not fit into ", output.scalar_type(), " ", output.sizes()));
  }
  CollectiveCall call{.kind = Collective::reduce_scatter};
  call.op = checked_op(options.reduceOp, input.scalar_type(), "reduce-scatter");
  set_in_place(call, output);
  // Other ranks may still read what this one's output would overwrite.
  call.input =
      input.is_alias_of(output) ? input.detach().clone(at::MemoryFormat::Contiguous) : input.detach().contiguous();
  return launch(std::move(call), options.timeout);
}

c10::intrusive_ptr<c10d::Work> CollectiveBackend::barrier(const c10d::BarrierOptions& options) {
  return launch({.kind = Collective::barrier}, options.timeout);
}

}  // namespace troupe
