// Exports cases and lets Python run the files.
#pragma once

#include "tests/runtime/export/export_cases.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <string>
#include <vector>

namespace troupe {

inline Tensors outputs_of(const ExportCase& one, const Tensors& inputs) {
  const torch::NoGradGuard no_grad;
  return one.options.forward ? one.options.forward(inputs) : Tensors{one.module->forward(inputs.at(0).clone())};
}

/// Writes the inputs of a case and what its module gives for them, for check_exported.py.
inline void write_samples(const TempDir& dir, const ExportCase& one) {
  NamedTensors tensors;
  for (std::size_t s = 0; s < one.samples.size(); ++s) {
    const auto add = [&](const char* end, const Tensors& values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        tensors.emplace_back(std::to_string(s) + "." + end + "." + std::to_string(i), values[i].contiguous().clone());
      }
    };
    add("in", one.samples[s]);
    add("out", outputs_of(one, one.samples[s]));
  }
  write_atomically(dir / (one.name + ".safetensors"), [&](OutputFile& file) {
    write_safetensors(file, tensors, {{"format", "pt"}});
  });
}

inline ExportedProgramOptions program_options(const ExportCase& one) {
  return {.input_names = one.options.input_names,
          .dynamic_batch = one.options.dynamic_batch,
          .dynamic_axes = one.options.dynamic_axes,
          .forward = one.options.forward};
}

/// Exports every case to ONNX, in those of the versions `opsets` that have what it needs (the oldest, the default and
/// the newest one if not given), to TorchScript and as an exported program; what Python finds wrong with the files, a
/// line each. Cases that cannot be exported are lines too.
inline std::string problems_of(const std::vector<ExportCase>& cases,
                               const std::vector<int64_t>& opsets = {17, 20, 23}) {
  const TempDir dir;
  std::string problems;
  for (const auto& one : cases) {
    one.module->eval();
    write_samples(dir, one);
    try {
      for (const auto opset : opsets) {
        if (opset < one.oldest_opset) continue;
        auto options = one.options;
        options.opset_version = opset;
        one.module->to_onnx(dir / (one.name + "@" + std::to_string(opset) + ".onnx"), one.samples[0], options);
      }
      one.module->to_torchscript(dir / (one.name + ".pt"), one.samples[0],
                                 {.input_names = one.options.input_names,
                                  .dynamic_batch = one.options.dynamic_batch,
                                  .dynamic_axes = one.options.dynamic_axes,
                                  .forward = one.options.forward});
      one.module->to_exported_program(dir / (one.name + ".pt2"), one.samples[0], program_options(one));
    } catch (const std::exception& error) {
      problems += one.name + ": " + error.what() + "\n";
    }
  }
  return problems + python_output("check_exported.py", "'" + dir.path().string() + "'");
}

}  // namespace troupe
