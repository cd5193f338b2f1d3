// The classes and functions that torch.save names in a file.
#pragma once

#include "troupe/runtime/weights/pickle_reader.hpp"
#include "troupe/runtime/weights/pth_storages.hpp"

#include <cstdint>
#include <string>

namespace troupe {

/// Makes tensors and the few other things of a state_dict: OrderedDict, Counter, set, torch.Size, bytes, dtypes,
/// devices, complex numbers; parameters become tensors. Every other name is refused, with what to save instead where
/// that is known. `storages` and `arena` must stay.
class TorchObjects : public PickleObjects {
 public:
  /// `most_bytes`: of a tensor whose elements share memory, since whoever copies it asks for memory for each.
  TorchObjects(PthStorages& storages, PickleArena& arena, int64_t most_bytes)
      : storages_(storages), arena_(arena), most_bytes_(most_bytes) {}

  PickleValue global(const std::string& module, const std::string& name) override;
  PickleValue call(const PickleNode& global, const PickleValue& arguments) override;
  PickleValue persistent(const PickleValue& id) override;

 private:
  PickleValue rebuilt_tensor(const PickleNode& global, const PickleNode& arguments, bool has_dtype);
  torch::Tensor view_of(const PickleNode& storage, torch::ScalarType dtype, int64_t offset,
                        const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides);
  PickleValue copied_bytes(const PickleValue& value);
  PickleValue rebuilt_from_type(const PickleNode& arguments);
  PickleValue device(const PickleNode& arguments);

  PthStorages& storages_;
  PickleArena& arena_;
  int64_t most_bytes_;
};

}  // namespace troupe
