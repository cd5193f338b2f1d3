// Nodes of autograd's graph: LibTorch 2.11 holds them by std::shared_ptr, 2.15 by c10::intrusive_ptr.
#pragma once

#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>

#include <memory>
#include <type_traits>
#include <utility>

namespace troupe {

/// What LibTorch's own edges hold a node by.
using AutogradNode = decltype(torch::autograd::Edge::function);

/// A node of a class of ours, which is derived from torch::autograd::Node.
template <class N, class... Arguments>
auto make_autograd_node(Arguments&&... arguments) {
  if constexpr (std::is_same_v<AutogradNode, std::shared_ptr<torch::autograd::Node>>) {
    return std::make_shared<N>(std::forward<Arguments>(arguments)...);
  } else {
    return c10::make_intrusive<N>(std::forward<Arguments>(arguments)...);
  }
}

}  // namespace troupe
