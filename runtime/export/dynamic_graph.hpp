// Several traces of one function, made with different sizes, as one graph for all sizes.
#pragma once

#include "troupe/runtime/export/size_formula.hpp"
#include "troupe/runtime/export/traced_model.hpp"

#include <torch/csrc/jit/ir/ir.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// A dynamic axis: its sizes in the traces, and where it occurs (input, axis).
struct DynamicAxis {
  AxisTrial trial;
  std::vector<std::pair<std::size_t, std::size_t>> places;
};

/// Changes the first of `traces`, one for each of trial_sizes(), into a graph for all sizes, and fills in the axis
/// sizes of inputs and outputs. Without axes there is one trace, which stays as it is.
///
/// Throws UsageError, beginning with `caller`, with the node at which the traces differ in more than sizes.
void make_dynamic(TracedModel& model, const std::vector<std::shared_ptr<torch::jit::Graph>>& traces,
                  const std::vector<DynamicAxis>& axes, const std::string& caller);

/// "weight" of the module "encoder.0" for the value that reads it from the module, as "encoder.0.weight"; empty for any
/// other value.
std::string parameter_path(const torch::jit::Value& value);

/// One line of the graph: "node 17: %12 : Float(2, 8) = aten::relu(%11)". Nodes are counted from 1, without those that
/// read parameters.
std::string describe_node(const torch::jit::Node& node);

}  // namespace troupe
