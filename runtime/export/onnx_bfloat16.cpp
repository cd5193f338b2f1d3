#include "troupe/runtime/export/onnx_bfloat16.hpp"

#include <map>
#include <set>

namespace troupe {

namespace {

/// The version in which an operator got bfloat16, if it was later than 17.
const std::map<std::string, int64_t>& first_versions() {
  static const std::map<std::string, int64_t> versions = [] {
    std::map<std::string, int64_t> all{{"Col2Im", 18}, {"IsInf", 20}, {"GroupNormalization", 21}};
    for (const auto* name : {"Acos",
                             "Acosh",
                             "Asin",
                             "Asinh",
                             "Atan",
                             "Atanh",
                             "AveragePool",
                             "Conv",
                             "Cos",
                             "Cosh",
                             "Det",
                             "Elu",
                             "EyeLike",
                             "ConvTranspose",
                             "GRU",
                             "GridSample",
                             "HardSwish",
                             "HardSigmoid",
                             "LSTM",
                             "LpPool",
                             "GlobalAveragePool",
                             "MaxPool",
                             "Mish",
                             "RNN",
                             "Round",
                             "Selu",
                             "Sin",
                             "GlobalMaxPool",
                             "Softplus",
                             "Softsign",
                             "Tan",
                             "Sinh",
                             "MaxUnpool",
                             "GlobalLpPool",
                             "InstanceNormalization",
                             "LpNormalization",
                             "ThresholdedRelu"}) {
      all[name] = 22;
    }
    return all;
  }();
  return versions;
}

}  // namespace

std::string why_no_bfloat16(const std::string& op_type, int64_t opset_version) {
  static const std::set<std::string> never{"Celu",   "Compress", "CumProd", "Einsum",
                                           "OneHot", "Shrink",   "TopK"};  // up to version 23
  if (never.contains(op_type)) return "ONNX's " + op_type + " takes no bfloat16";
  const auto found = first_versions().find(op_type);
  if (found == first_versions().end() || opset_version >= found->second) return "";
  return "ONNX's " + op_type + " takes bfloat16 from opset_version " + std::to_string(found->second) + " on";
}

}  // namespace troupe
