#!/usr/bin/env bash
# In LibTorch 2.15, a parameter group of an optimizer class of one's own gets the optimizer's defaults whatever it says, and
# a group of SGD or Adam does for each option that it sets to its class's start value.
#
# Expected: add_param_group keeps the options of a group that brings some, as PyTorch does in Python, where a group is a
# dictionary and says what it sets; as LibTorch 2.11 does.
# Happens: the group's options are merged with the defaults. What equals the start value of the options' class counts as
# not said: a group of SGDOptions(1e-3) in an optimizer of lr 0.1 trains with 0.1. Of other classes than LibTorch's six
# nothing is merged and the defaults are taken: a group of lr 0.5 trains with 0.1, without a word.
#
# Version: torch 2.15.0 (LibTorch), g++
# Source: torch/csrc/api/include/torch/optim/optimizer.h of PyTorch, whose comment describes the comparison with start values
# and says nothing of other classes; docs.pytorch.org/cppdocs, torch::optim::Optimizer::add_param_group
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
# Of CUDA what libtorch_cpu.so is linked to; Python does not load it.
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  torch==2.15.0 nvidia-cuda-cupti==13.2.86 nvidia-cuda-runtime==13.2.86
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

cat >"$folder/groups.cpp" <<'END'
#include <torch/optim/sgd.h>
#include <torch/types.h>
#include <torch/version.h>

#include <iostream>

using namespace torch::optim;

struct OwnOptions : OptimizerCloneableOptions<OwnOptions> {
  explicit OwnOptions(double lr) : lr(lr) {}
  double get_lr() const override { return lr; }
  void set_lr(double value) override { lr = value; }
  double lr;
};
struct Own : Optimizer {
  Own(const std::vector<OptimizerParamGroup>& groups, OwnOptions defaults)
      : Optimizer(groups, std::make_unique<OwnOptions>(defaults)) {}
  torch::Tensor step(LossClosure) override { return {}; }
};

template <class Options>
std::vector<OptimizerParamGroup> group(double lr) {
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<torch::Tensor>{torch::ones({3})}, std::make_unique<Options>(lr));
  return groups;
}

int main() {
  Own own(group<OwnOptions>(0.5), OwnOptions(0.1));
  SGD sgd(group<SGDOptions>(1e-3), SGDOptions(0.1));
  const double of_own = own.param_groups()[0].options().get_lr(), of_sgd = sgd.param_groups()[0].options().get_lr();
  std::cout << "LibTorch " << TORCH_VERSION << "\na group of an own optimizer says 0.5 and has " << of_own
            << "\na group of SGD says 0.001 and has " << of_sgd << std::endl;
  return of_own == 0.1 && of_sgd == 0.1 ? 0 : 1;
}
END
g++ -std=c++20 -O0 -isystem "$packages/torch/include" -isystem "$packages/torch/include/torch/csrc/api/include" \
  "$folder/groups.cpp" -o "$folder/groups" -L"$packages/torch/lib" -Wl,-rpath,"$packages/torch/lib" -ltorch_cpu -lc10 \
  -Wl,-rpath,"$packages/nvidia/cu13/lib" -Wl,--allow-shlib-undefined
"$folder/groups" || { echo "no longer as described" >&2; exit 1; }
echo "as described: groups lose what they say"
