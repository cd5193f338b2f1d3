#include "troupe/runtime/replica/batch_sizes.hpp"

#include <string>

namespace troupe {

int64_t BatchSizes::of(const Batch& batch) {
  const int64_t size = batch.size(), rows = batch.first_size();
  if (warned_ || batch.is_size_said() || batch.made_of() == 0 || rows < 0) return size;
  const double rows_per_sample = static_cast<double>(rows) / static_cast<double>(batch.made_of());
  if (rows_per_sample_ < 0) rows_per_sample_ = rows_per_sample;
  if (rows_per_sample_ == rows_per_sample) return size;
  warned_ = true;
  outputs_.note(
      "warning: the size of batches is not clear: the first tensor of this one has " + std::to_string(rows) +
      " rows, its loader made it of " + std::to_string(batch.made_of()) +
      " samples, and for another batch the quotient was another; it counts as " + std::to_string(size) +
      " (Batch::size) in means and in windows of accumulation; Batch::set_size in the collate function says another");
  return size;
}

}  // namespace troupe
