// A traced model as PyTorch's exported program: what torch.export.save writes, in memory.
#pragma once

#include "troupe/modules/export_options.hpp"
#include "troupe/runtime/export/traced_model.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace troupe {

struct ProgramTensor {
  std::string name;
  torch::Tensor tensor;
  bool is_parameter = false;
};

struct ExportedProgram {
  nlohmann::json model;                  ///< the graph and its signature: models/model.json in the archive
  std::vector<ProgramTensor> weights;    ///< parameters and buffers; those that share memory share it
  std::vector<ProgramTensor> constants;  ///< tensors of the graph that are neither
  std::vector<torch::Tensor> example;    ///< the inputs
};

/// Writes each operator of the graph with its own name, overload and arguments, as torch.export does before it
/// decomposes anything (its training IR): operators that work in place stay, so that changes of buffers happen where
/// the program runs. Sizes of dynamic axes are the symbols s0, s1 and so on.
///
/// Throws UsageError, in one sentence for all of them, for operators that LibTorch's dispatcher does not have, for
/// those whose result has a size that depends on values, and for those that change a parameter or a tensor that is no
/// buffer; and for a range of an axis that there is not.
ExportedProgram to_program(const TracedModel& model, const std::map<std::string, SizeRange>& size_ranges);

}  // namespace troupe
