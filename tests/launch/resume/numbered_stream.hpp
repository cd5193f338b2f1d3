// A stream of samples that say their numbers.
#pragma once

#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace troupe {

inline constexpr int64_t sample_count = 240;

/// sample_count samples, read in turn: inputs, targets and the number.
class NumberedStream : public IterableDataset {
 public:
  void start(int64_t, int64_t shard, int64_t shards) override { next_ = shard, step_ = shards; }
  std::optional<Batch> next() override {
    if (next_ >= sample_count) return std::nullopt;
    const int64_t at = std::exchange(next_, next_ + step_);
    return Batch{torch::arange(at * 4, at * 4 + 4, torch::kFloat64).mul(0.37).sin(),
                 torch::full({2}, 0.5, torch::kFloat64), torch::scalar_tensor(at, torch::kInt64)};
  }
  std::shared_ptr<IterableDataset> replicate() const override { return std::make_shared<NumberedStream>(); }

 private:
  int64_t next_ = 0, step_ = 1;
};

}  // namespace troupe
