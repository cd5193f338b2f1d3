// Reference values that PyTorch computes while the test runs.
//
// A script tests/parity/<name>.py takes the path of a file and writes it, a safetensors file of everything that its
// cases need and give: "<case>.<what>". One start of Python serves all cases of a program.
#pragma once

#include "tests/program.hpp"
#include "tests/runtime/temp_dir.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <torch/torch.h>

#include <map>
#include <stdexcept>
#include <string>

namespace troupe {

/// What tests/parity/`script` writes.
inline std::map<std::string, torch::Tensor> pytorch_reference(const std::string& script) {
  const TempDir dir;
  const auto path = dir / "reference.safetensors";
  const auto run = run_program("'" TROUPE_TEST_PYTHON "' '" TROUPE_SOURCE_DIR "/tests/parity/" + script + "' '" +
                               path.string() + "'");
  if (run.status != 0) throw std::runtime_error("failed: " + script + "\n" + run.output);
  const SafetensorsFile file(path);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& entry : file.entries()) tensors.emplace(entry.name, file.read(entry));
  return tensors;
}

/// The largest difference of two tensors of one shape.
inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) throw std::runtime_error("the shapes differ");
  return a.numel() == 0 ? 0 : (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

}  // namespace troupe
