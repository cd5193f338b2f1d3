#!/usr/bin/env bash
# In LibTorch, a custom autograd function that is given a std::vector of tensors has no gradient, without a word.
#
# Expected: torch::autograd::Function<F>::apply hands its arguments to F::forward and finds the tensors among them, which the
# result depends on. variable_list, which is std::vector<Tensor>, is the type that backward takes and returns, so a
# function of any number of tensors takes one in forward.
# Happens: apply knows Tensor, optional<Tensor> and at::TensorList, and takes everything else for a value without gradient. With
# a std::vector the result does not require one: training goes on, and what lies behind the function is never trained. The
# same vector, handed over as at::TensorList, has its gradients.
#
# Version: torch 2.11.0 (LibTorch), g++
# Source: torch/csrc/autograd/custom_function.h of PyTorch (ExtractVariables); "Extending PyTorch" describes Python alone
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
# Of CUDA what libtorch_cpu.so is linked to; Python does not load it.
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  torch==2.11.0 nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

cat >"$folder/sum.cpp" <<'END'
#include <torch/torch.h>
#include <torch/version.h>

#include <iostream>

struct Sum : torch::autograd::Function<Sum> {
  static torch::Tensor forward(torch::autograd::AutogradContext*, at::TensorList tensors) { return tensors[0] + tensors[1]; }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], gradients[0]};
  }
};

int main() {
  const torch::autograd::variable_list tensors = {torch::ones({3}).requires_grad_(), torch::ones({3}).requires_grad_()};
  const bool of_vector = Sum::apply(tensors).requires_grad();
  const bool of_list = Sum::apply(at::TensorList(tensors)).requires_grad();
  std::cout << "LibTorch " << TORCH_VERSION << "\nthe sum of a vector requires a gradient: " << (of_vector ? "yes" : "no")
            << "\nthe sum of a TensorList: " << (of_list ? "yes" : "no") << std::endl;
  return !of_vector && of_list ? 0 : 1;
}
END
g++ -std=c++20 -O0 -isystem "$packages/torch/include" -isystem "$packages/torch/include/torch/csrc/api/include" \
  "$folder/sum.cpp" -o "$folder/sum" -L"$packages/torch/lib" -Wl,-rpath,"$packages/torch/lib" -ltorch_cpu -lc10 \
  -Wl,-rpath,"$packages/nvidia/cu13/lib" -Wl,--allow-shlib-undefined
"$folder/sum" || { echo "no longer as described" >&2; exit 1; }
echo "as described: a vector of tensors has no gradient, a TensorList has"
