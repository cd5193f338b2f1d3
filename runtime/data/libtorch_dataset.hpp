// Datasets written for LibTorch, taken as they are.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/data/dataset.hpp"

#include <torch/data/datasets/base.h>
#include <torch/data/example.h>

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe {

namespace detail {

template <class Value>
torch::Tensor tensor_of(Value&& value) {
  if constexpr (std::is_convertible_v<Value, torch::Tensor>) {
    return std::forward<Value>(value);
  } else {
    static_assert(std::is_arithmetic_v<std::decay_t<Value>>, "an Example's data and target are tensors or numbers");
    return torch::scalar_tensor(value, c10::CppTypeToScalarType<std::decay_t<Value>>::value);
  }
}

inline Batch batch_of(torch::Tensor data) {
  return Batch{{"data", std::move(data)}};
}
inline Batch batch_of(torch::data::TensorExample example) {
  return batch_of(std::move(example.data));
}
template <class Data, class Target>
Batch batch_of(torch::data::Example<Data, Target> example) {
  return Batch{{"data", tensor_of(std::move(example.data))}, {"target", tensor_of(std::move(example.target))}};
}

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};

}  // namespace detail

/// Serves a LibTorch dataset's examples as batches of "data" and "target" (positions 0 and 1). Use from_libtorch.
template <class Source>
class LibTorchDataset : public Dataset {
 public:
  using Output = typename Source::BatchType;
  /// A dataset that ends in torch::data::transforms::Stack<> gives whole batches.
  static constexpr bool kStacked = !detail::is_vector<Output>::value;
  static_assert(!Source::is_stateful, "a stateful LibTorch dataset has no samples by index: wrap it as a stream");
  static_assert(std::is_same_v<typename Source::BatchRequestType, at::ArrayRef<std::size_t>>,
                "a LibTorch stream has no samples by index: wrap it as an IterableDataset");

  explicit LibTorchDataset(Source source) : source_(std::move(source)) {}

  int64_t size() const override {
    const auto size = source_.size();
    if (!size) throw UsageError("a LibTorch dataset of unknown size cannot be taken by index");
    return static_cast<int64_t>(*size);
  }

  Batch get(int64_t index) override {
    const auto wanted = static_cast<std::size_t>(index);
    if constexpr (kStacked) {
      Batch batch = detail::batch_of(source_.get_batch(wanted));
      for (auto& tensor : batch.tensors()) tensor = tensor.squeeze(0);
      return batch;
    } else {
      auto examples = source_.get_batch(wanted);
      if (examples.size() != 1) {
        throw UsageError("the LibTorch dataset gave " + std::to_string(examples.size()) + " examples for one index");
      }
      return detail::batch_of(std::move(examples.front()));
    }
  }

  /// Only where the dataset stacks: by single samples each has a random state of its own.
  std::optional<Batch> get_batch(at::IntArrayRef indices) override {
    if constexpr (kStacked) {
      return detail::batch_of(source_.get_batch(std::vector<std::size_t>(indices.begin(), indices.end())));
    } else {
      (void)indices;
      return std::nullopt;
    }
  }

  /// A copy: LibTorch's own loader copies a dataset for each of its threads, so they need not be safe to share.
  std::shared_ptr<Dataset> replicate() const override {
    if constexpr (std::is_copy_constructible_v<Source>) {
      return std::make_shared<LibTorchDataset>(source_);
    } else {
      return nullptr;
    }
  }

 private:
  Source source_;
};

/// Takes a torch::data::datasets dataset, with or without `map`s and with or without Stack<> at its end:
///
///     from_libtorch(torch::data::datasets::MNIST(folder).map(torch::data::transforms::Normalize<>(0.13, 0.31)))
template <class Source>
std::shared_ptr<Dataset> from_libtorch(Source source) {
  return std::make_shared<LibTorchDataset<Source>>(std::move(source));
}

}  // namespace troupe
