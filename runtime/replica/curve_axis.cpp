#include "troupe/runtime/replica/curve_axis.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace troupe {

void CurveAxis::begin_fit(const Progress& at) {
  if (std::exchange(goes_back_, false)) {
    fitted_ = at;
    is_fitting_ = true;
    return;
  }
  written_ = -1;
  // A fit that ended within an epoch has taken that epoch's number.
  const int64_t epochs = fitted_.epoch + offset_.epoch + (fitted_.batch_idx > 0 ? 1 : 0);
  const int64_t steps = fitted_.global_step + offset_.global_step;
  const int64_t log_steps = fitted_.log_step + offset_.log_step;
  offset_ = {};
  if (at.log_step < log_steps) {
    offset_.epoch = std::max<int64_t>(0, epochs - at.epoch);
    offset_.global_step = std::max<int64_t>(0, steps - at.global_step);
    offset_.log_step = log_steps - at.log_step;
  }
  fitted_ = at;
  floor_ = last_;
  is_fitting_ = true;
}

void CurveAxis::go_back(bool has_written) {
  if (std::exchange(goes_back_, true)) return;  // nothing was logged since
  if (!has_written) last_ = floor_;             // what others have written from there on is not known
  written_ = has_written ? last_ : -1;
}

void CurveAxis::end_fit(const Progress& at) {
  if (is_fitting_) fitted_ = at;
  is_fitting_ = false;
}

bool CurveAxis::place(ScalarsRecord& record) {
  record.step = std::max(record.step + offset_.log_step, floor_);
  if (record.epoch >= 0) record.epoch += offset_.epoch;
  last_ = std::max(last_, record.step);
  return record.step >= written_;
}

void CurveAxis::place(Record& record) const {
  std::visit(
      [&](auto& held) {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, ScalarsRecord>) {
          held.step += offset_.log_step;
          if (held.epoch >= 0) held.epoch += offset_.epoch;
        } else if constexpr (requires { held.step; }) {
          held.step += offset_.global_step;
        }
      },
      record);
}

void CurveAxis::skip_batches(Stage stage, int64_t count) {
  batches_[index(stage)] = std::max(batches_[index(stage)], count);
}

}  // namespace troupe
