// What configure_optimizers returns.
#pragma once

#include <torch/optim/optimizer.h>

#include <concepts>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <vector>

namespace troupe {

using OptimizerPtr = std::shared_ptr<torch::optim::Optimizer>;

/// One optimizer or several, or none (then nothing is trained, with a warning). LibTorch's own are taken as they are:
///
///     return optim::adam(parameters(), {.lr = 1e-3});
///     return torch::optim::SGD(parameters(), 0.1);
///     return {};
class Optimizers {
 public:
  Optimizers() = default;
  template <std::derived_from<torch::optim::Optimizer> O>
  Optimizers(std::shared_ptr<O> optimizer) : list_{std::move(optimizer)} {}
  template <std::derived_from<torch::optim::Optimizer> O>
  Optimizers(std::unique_ptr<O> optimizer) : list_{OptimizerPtr(std::move(optimizer))} {}
  template <class O>
  requires std::derived_from<std::remove_cvref_t<O>, torch::optim::Optimizer> Optimizers(O&& optimizer)
      : list_{std::make_shared<std::remove_cvref_t<O>>(std::forward<O>(optimizer))} {}
  Optimizers(std::initializer_list<OptimizerPtr> list) : list_(list) {}

  bool empty() const { return list_.empty(); }
  std::size_t size() const { return list_.size(); }
  torch::optim::Optimizer& operator[](std::size_t i) const { return *list_.at(i); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

 private:
  std::vector<OptimizerPtr> list_;
};

}  // namespace troupe
