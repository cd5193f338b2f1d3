#include "troupe/runtime/export/traced_model.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/export/dynamic_graph.hpp"
#include "troupe/runtime/export/node_place.hpp"
#include "troupe/runtime/export/script_module.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/summary/eval_scope.hpp"

#include <ATen/record_function.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

namespace troupe {

namespace {

constexpr std::size_t kMostDynamicAxes = 4;  // with n of them there are 2^n and a few traces

std::string shapes_text(const std::vector<torch::Tensor>& tensors) {
  std::ostringstream text;
  for (std::size_t i = 0; i < tensors.size(); ++i) text << (i > 0 ? ", " : "") << tensors[i].sizes();
  return text.str();
}

// RecordFunction's callbacks are plain functions without user data.
class NumbersRead;
thread_local NumbersRead* reads_at_work = nullptr;

/// What code of forward itself reads back to the host of tensors that depend on the input: the trace would keep the
/// example's number. What LibTorch's operators read for their checks does not count.
class NumbersRead {
 public:
  NumbersRead()
      : handle_(at::addThreadLocalCallback(
            at::RecordFunctionCallback(&begin, &end).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {
    reads_at_work = this;
  }
  ~NumbersRead() {
    reads_at_work = nullptr;
    at::removeCallback(handle_);
  }
  NumbersRead(const NumbersRead&) = delete;
  NumbersRead& operator=(const NumbersRead&) = delete;

  /// "aten::item in the module 'net'" of the first; empty: there is none.
  const std::string& first() const { return first_; }

 private:
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    NumbersRead* reads = reads_at_work;
    if (reads && reads->depth_++ == 0 && reads->first_.empty()) reads->look_at(function);
    return nullptr;
  }
  static void end(const at::RecordFunction&, at::ObserverContext*) {
    if (reads_at_work) --reads_at_work->depth_;
  }

  void look_at(const at::RecordFunction& function) {
    // Not aten::equal, by which torch::nn::MultiheadAttention finds out that it attends to itself.
    constexpr std::array<std::string_view, 3> reading = {"aten::item", "aten::is_nonzero", "aten::_local_scalar_dense"};
    if (std::ranges::find(reading, function.name()) == reading.end()) return;
    const auto& state = torch::jit::tracer::getTracingState();
    for (const auto& input : function.inputs()) {
      if (!state || !input.isTensor() || !input.toTensor().defined() || !state->hasValue(input)) continue;
      const auto* value = state->getValue(input);
      if (!depends_on_inputs(*value)) continue;
      const auto place = place_of(*value->node());
      first_ = function.name() + (place.empty() ? "" : " " + place);
      return;
    }
  }

  /// The graph's first input is the module.
  static bool depends_on_inputs(const torch::jit::Value& of) {
    const auto inputs = of.owningGraph()->inputs().slice(1);
    std::set<const torch::jit::Value*> seen{&of};
    std::vector<const torch::jit::Value*> front{&of};
    while (!front.empty()) {
      const auto* value = front.back();
      front.pop_back();
      if (std::ranges::find(inputs, value) != inputs.end()) return true;
      for (const auto* input : value->node()->inputs()) {
        if (seen.insert(input).second) front.push_back(input);
      }
    }
    return false;
  }

  at::CallbackHandle handle_;
  at::RecordFunctionGuard enabled_{true};
  int depth_ = 0;
  std::string first_;
};

class Tracing {
 public:
  explicit Tracing(const TraceRequest& request) : request_(request) {}

  TracedModel run() {
    name_inputs();
    find_dynamic_axes();
    const EvalScope eval_mode(request_.module);
    const AutocastOff no_autocast(request_.inputs.front().device());
    model_.module = to_script_module(request_.module);
    try {
      call_forward(request_.inputs);
    } catch (...) {
      refuse("forward failed for the example of shape " + shapes_text(request_.inputs) + ": " +
             current_exception_text());
    }
    for (auto& axis : axes_) choose_sizes(axis);
    std::vector<AxisTrial> trials;
    for (const auto& axis : axes_) trials.push_back(axis.trial);
    model_.axes = trials;
    model_.example = resized(trial_sizes(trials).front());
    std::vector<std::shared_ptr<torch::jit::Graph>> traces;
    for (const auto& sizes : trial_sizes(trials)) traces.push_back(trace(sizes));
    make_dynamic(model_, traces, axes_, request_.caller);
    return std::move(model_);
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const { throw UsageError(request_.caller + ": " + why); }

  void name_inputs() {
    const auto count = request_.inputs.size();
    for (std::size_t i = 0; i < count; ++i) {
      if (!request_.inputs[i].defined()) refuse("example input " + std::to_string(i) + " is an undefined tensor");
    }
    model_.input_names = request_.input_names;
    if (model_.input_names.empty()) {
      for (std::size_t i = 0; i < count; ++i) {
        model_.input_names.push_back(count == 1 ? "input" : "input_" + std::to_string(i));
      }
    }
    const auto& names = model_.input_names;
    if (names.size() != count) {
      refuse(std::to_string(names.size()) + " input_names were given for " + std::to_string(count) + " inputs");
    }
    const std::set<std::string> different(names.begin(), names.end());
    if (different.size() != count || different.contains("")) refuse("input_names must be different and not empty");
  }

  void find_dynamic_axes() {
    for (std::size_t i = 0; request_.dynamic_batch && i < request_.inputs.size(); ++i) {
      if (request_.inputs[i].dim() > 0 && !is_named(i, 0)) add_axis(i, 0, "batch");
    }
    for (const auto& [input, axes] : request_.dynamic_axes) {
      const auto found = std::ranges::find(model_.input_names, input);
      if (found == model_.input_names.end()) {
        refuse("dynamic_axes names the input '" + shown(input) + "', which there is not; did you mean '" +
               nearest(input, model_.input_names) + "'?");
      }
      const auto index = static_cast<std::size_t>(found - model_.input_names.begin());
      for (const auto& [axis, name] : axes) {
        const auto rank = request_.inputs[index].dim();
        if (axis < -rank || axis >= rank) {
          refuse("dynamic_axes names axis " + std::to_string(axis) + " of the input '" + input + "', which has " +
                 std::to_string(rank));
        }
        if (name.empty()) refuse("dynamic_axes has an axis without a name");
        add_axis(index, static_cast<std::size_t>(axis < 0 ? axis + rank : axis), name);
      }
    }
    if (axes_.size() > kMostDynamicAxes) {
      refuse("there are " + std::to_string(axes_.size()) + " dynamic axes with different names; " +
             std::to_string(kMostDynamicAxes) + " are possible");
    }
  }

  bool is_named(std::size_t input, int64_t axis) const {
    const auto found = request_.dynamic_axes.find(model_.input_names[input]);
    return found != request_.dynamic_axes.end() && found->second.contains(axis);
  }

  void add_axis(std::size_t input, std::size_t axis, const std::string& name) {
    const auto size = request_.inputs[input].size(static_cast<int64_t>(axis));
    if (size == 0) refuse("axis " + std::to_string(axis) + " of the example has no elements");
    auto found = std::ranges::find_if(axes_, [&](const auto& known) { return known.trial.name == name; });
    if (found == axes_.end()) {
      found = axes_.insert(axes_.end(), {{.name = name, .base = size, .far = 0, .neighbours = {}}, {}});
    }
    if (found->trial.base != size) {
      refuse("the dynamic axis '" + name + "' has the size " + std::to_string(found->trial.base) +
             " in one input and " + std::to_string(size) + " in another");
    }
    found->places.emplace_back(input, axis);
  }

  /// The example with other sizes of the dynamic axes: samples are left out, or come again from the first.
  std::vector<torch::Tensor> resized(const std::vector<int64_t>& sizes) const {
    auto inputs = request_.inputs;
    for (std::size_t k = 0; k < axes_.size(); ++k) {
      for (const auto& [input, axis] : axes_[k].places) {
        const auto dim = static_cast<int64_t>(axis);
        auto& tensor = inputs[input];
        const auto rows = torch::arange(sizes[k], torch::TensorOptions(tensor.device()).dtype(torch::kLong));
        tensor = tensor.index_select(dim, rows.remainder(tensor.size(dim)));
      }
    }
    return inputs;
  }

  std::vector<torch::Tensor> call_forward(const std::vector<torch::Tensor>& inputs) const {
    auto outputs = request_.forward(inputs);
    if (outputs.empty()) throw UsageError("it returned no tensor");
    for (const auto& output : outputs) {
      if (!output.defined()) throw UsageError("it returned an undefined tensor");
    }
    return outputs;
  }

  [[noreturn]] void refuse_sizes(const DynamicAxis& axis, int64_t example, const std::string& problem) const {
    const auto& name = axis.trial.name;
    refuse("forward takes no other sizes of the dynamic axis '" + name + "' than the example's " +
           std::to_string(example) + (problem.empty() ? "" : "; " + problem) +
           (axis.places.front().second == 0 && name == "batch"
                ? "; set dynamic_batch = false to export it with this size"
                : "; give an example with another size, or leave the axis out of dynamic_axes"));
  }

  /// Finds sizes besides the example's that forward takes. A size of 1 is never tried: it may broadcast, or be squeezed
  /// away.
  void choose_sizes(DynamicAxis& axis) {
    auto& trial = axis.trial;
    const auto example = trial.base;
    trial.base = std::max<int64_t>(example, 2);
    std::string problem;
    const auto works = [&](int64_t size) {
      if (size < 2) return false;
      std::vector<int64_t> sizes;
      for (const auto& other : axes_) sizes.push_back(&other == &axis ? size : other.trial.base);
      try {
        call_forward(resized(sizes));
        return true;
      } catch (...) {
        if (problem.empty()) problem = "for " + std::to_string(size) + " it says: " + current_exception_text();
        return false;
      }
    };
    const auto n = trial.base;
    if (n != example && !works(n)) refuse_sizes(axis, example, problem);
    for (const auto size : {n + 1, n + 2, n - 1, n - 2}) {
      if (trial.neighbours.size() < 2 && works(size)) trial.neighbours.push_back(size);
    }
    for (const auto size : {2 * n, 3 * n, n % 2 == 0 ? n / 2 : 0}) {
      if (trial.far == 0 && works(size)) trial.far = size;
    }
    if (trial.far == 0 && trial.neighbours.size() > 1) {
      trial.far = trial.neighbours.back();
      trial.neighbours.pop_back();
    }
    if (trial.far == 0) refuse_sizes(axis, example, problem);
  }

  /// The names of the inputs as names of Python's.
  std::vector<std::string> argument_names() const {
    auto names = model_.input_names;
    for (auto& name : names) name = python_identifier(std::move(name));
    return names;
  }

  std::shared_ptr<torch::jit::Graph> trace(const std::vector<int64_t>& sizes) {
    torch::jit::Stack stack;
    for (const auto& input : resized(sizes)) stack.emplace_back(input.clone());
    const auto forward = [&](torch::jit::Stack values) {
      std::vector<torch::Tensor> inputs;
      for (const auto& value : values) inputs.push_back(value.toTensor());
      auto outputs = call_forward(inputs);
      if (outputs.size() == 1) return torch::jit::Stack{outputs.front()};
      return torch::jit::Stack{c10::ivalue::Tuple::create(std::vector<c10::IValue>(outputs.begin(), outputs.end()))};
    };
    std::string number_read;
    try {
      const NumbersRead reads;
      const auto traced = torch::jit::tracer::trace(
          std::move(stack), forward, [](const torch::Tensor&) { return std::string(); }, /*strict=*/true,
          /*force_outplace=*/false, &model_.module, argument_names());
      if (reads.first().empty()) return traced.first->graph;
      number_read = reads.first();
    } catch (...) {
      const auto message = current_exception_text();
      if (message.starts_with("Cannot insert a Tensor that requires grad as a constant")) {
        refuse(
            "forward uses a tensor that requires gradients and is no parameter of the module or of a module in it: "
            "register it (register_parameter, register_module)");
      }
      refuse("forward cannot be traced: " + message);
    }
    refuse("forward reads a number back to the host that depends on the input (" + number_read +
           "), and would keep the example's: compute with tensors instead, with torch::where for a condition");
  }

  const TraceRequest& request_;
  TracedModel model_;
  std::vector<DynamicAxis> axes_;
};

}  // namespace

TracedModel trace_model(const TraceRequest& request) {
  return Tracing(request).run();
}

}  // namespace troupe
