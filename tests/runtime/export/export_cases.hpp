// Small networks that are exported and then run by others, with what they give here.
#pragma once

#include "troupe/modules/module.hpp"

#include <torch/torch.h>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// A module out of a function and the layers that it calls.
class Net : public Module {
 public:
  using Function = std::function<torch::Tensor(const torch::Tensor&)>;
  explicit Net(Function function, const std::vector<std::shared_ptr<torch::nn::Module>>& layers = {})
      : function_(std::move(function)) {
    for (const auto& layer : layers) register_module("layer" + std::to_string(children().size()), layer);
  }
  torch::Tensor forward(torch::Tensor x) override { return function_(x); }

 private:
  Function function_;
};

using Tensors = std::vector<torch::Tensor>;

struct ExportCase {
  std::string name;
  std::shared_ptr<Module> module;
  std::vector<Tensors> samples;  ///< inputs of one call each; the first is the example
  OnnxOptions options;           ///< opset_version does not count
  int64_t oldest_opset = 17;     ///< the first version of ONNX's operators that has what the case needs
};

/// Inputs for batches of 2, which is the example, 5 and 1.
inline std::vector<Tensors> batches(const std::function<Tensors(int64_t)>& make) {
  return {make(2), make(5), make(1)};
}
/// Random ones of the sizes [batch, sizes...].
inline std::vector<Tensors> batches_of(const std::vector<int64_t>& sizes) {
  return batches([&](int64_t batch) {
    auto all = sizes;
    all.insert(all.begin(), batch);
    return Tensors{torch::randn(all)};
  });
}

class ExportCases {
 public:
  /// A function of random tensors [batch, sizes...].
  void function(const std::string& name, const std::vector<int64_t>& sizes, Net::Function function) {
    cases.push_back({name, std::make_shared<Net>(std::move(function)), batches_of(sizes), {}});
  }
  /// The same of tensors that `make` makes for a size of the batch.
  void function(const std::string& name, const std::function<torch::Tensor(int64_t)>& make, Net::Function function) {
    cases.push_back({name,
                     std::make_shared<Net>(std::move(function)),
                     batches([&](int64_t batch) { return Tensors{make(batch)}; }),
                     {}});
  }
  /// A layer of LibTorch's.
  template <typename Impl>
  void layer(const std::string& name, const std::vector<int64_t>& sizes, torch::nn::ModuleHolder<Impl> layer) {
    auto forward = [layer](const torch::Tensor& x) mutable { return torch::Tensor(layer->forward(x)); };
    cases.push_back({name, std::make_shared<Net>(forward, Layers{layer.ptr()}), batches_of(sizes), {}});
  }
  /// Layers and a function that calls them.
  void network(const std::string& name, const std::vector<int64_t>& sizes,
               std::initializer_list<std::shared_ptr<torch::nn::Module>> layers, Net::Function function) {
    cases.push_back({name, std::make_shared<Net>(std::move(function), Layers(layers)), batches_of(sizes), {}});
  }

  std::vector<ExportCase> cases;

 private:
  using Layers = std::vector<std::shared_ptr<torch::nn::Module>>;
};

}  // namespace troupe
