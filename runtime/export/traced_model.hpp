// forward as a graph of LibTorch's operators, whose dynamic axes may have any size.
//
// LibTorch's tracer, which belongs to TorchScript and is deprecated with it, is used behind trace_model and nowhere
// else. When it goes, trace_model has to record forward's operators itself, at the dispatcher as runtime/capture does,
// into a graph of ours; whoever reads the graph (dynamic_graph, in_place, node_place, onnx_lowering, exported_program
// and its parts) then reads that one, and to_torchscript and script_module go with TorchScript.
#pragma once

#include "troupe/modules/export_options.hpp"
#include "troupe/runtime/export/size_formula.hpp"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

struct TraceRequest {
  std::string caller;  ///< what messages begin with: "to_onnx"
  torch::nn::Module& module;
  ExportForward forward;
  std::vector<torch::Tensor> inputs;     ///< at least one
  std::vector<std::string> input_names;  ///< as many, or none for the default
  bool dynamic_batch = true;
  DynamicAxes dynamic_axes;
};

/// The size of one axis: a number, or, where it is negative, dynamic with what is known of it ("batch", "2*time + 1",
/// or nothing).
struct AxisSize {
  int64_t size = -1;
  std::string text;
};
using AxisSizes = std::vector<AxisSize>;

/// What the traces saw of a tensor in the graph: the sizes and strides of each axis, one for each trace;
/// TracedModel::formula_of explains them. No strides: they are unknown.
struct TracedSizes {
  std::vector<std::vector<int64_t>> sizes, strides;
};

struct TracedModel {
  torch::jit::Module module;  ///< the module's weights (script_module.hpp), still without methods
  /// Takes the module and the inputs. Sizes of dynamic axes are computed with aten::size from the inputs; the types of
  /// tensors hold the sizes that are fixed, and nothing for those that are not.
  std::shared_ptr<torch::jit::Graph> graph;
  std::vector<std::string> input_names;
  std::vector<AxisSizes> inputs, outputs;  ///< outputs: each tensor, also where the graph returns a tuple
  std::vector<AxisTrial> axes;             ///< the dynamic axes
  std::vector<torch::Tensor> example;      ///< the inputs of the first trace: every dynamic axis has its base size
  std::unordered_map<const torch::jit::Value*, TracedSizes> sizes;  ///< of the tensors whose sizes the traces know

  /// How a number, one for each trace, follows from the sizes of the dynamic axes; nothing if no formula explains it.
  std::optional<SizeFormula> formula_of(const std::vector<int64_t>& seen) const { return fit_sizes(axes, seen); }
};

/// Runs forward a few times, in eval mode and without gradients; the module is then as it was before, buffers that
/// forward changes included. Where axes are
/// dynamic it is traced with several sizes (samples are repeated or left out), and what differs between the traces
/// becomes a function of the sizes (size_formula.hpp).
///
/// Throws UsageError for names, axes and inputs that do not fit together, for a forward that throws or returns an
/// undefined tensor, and where the traces differ in more than sizes.
TracedModel trace_model(const TraceRequest& request);

}  // namespace troupe
