// Python's pickles, written.
#pragma once

#include "troupe/runtime/weights/pickle_value.hpp"

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace troupe {

/// How a pickle refers to the memory of a tensor, which is kept outside of it.
struct PickledStorage {
  std::string key;
  int64_t count = 0;  ///< elements
  /// The tensors' and the storage's, or the tensors' alone: then `count` is of bytes.
  torch::ScalarType dtype = torch::ScalarType::Undefined;
  bool is_typed = true;
};

/// Takes the tensors of a pickle up.
class PickledStorages {
 public:
  virtual ~PickledStorages() = default;
  /// Where `tensor`'s memory will be. Throws UsageError for one that cannot be kept.
  virtual PickledStorage storage_of(const torch::Tensor& tensor) = 0;
};

/// The pickle of `value` in protocol 2, with the opcodes and names that torch.save writes, which are those that
/// torch.load(weights_only=True) knows: tensors become calls of torch._utils._rebuild_tensor_v2, or _v3 for types and
/// memory that it has no typed storage for, with their sizes, strides and offset, without gradients. A list, dictionary
/// or tensor that `value` refers to twice is written once, so that it is one object in Python too.
///
/// Throws UsageError with the way to the value ("'optimizer.lr'") for devices, dtypes, complex numbers and numbers of
/// more than 64 bits, keys that Python cannot hash, texts that are not UTF-8, what is nested deeper than 100 levels or
/// has a tuple that holds itself, and what `storages` refuses.
std::string write_pickle(const PickleValue& value, PickledStorages& storages);

}  // namespace troupe
