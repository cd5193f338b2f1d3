#include "troupe/runtime/report/metric_row.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace troupe {

/// Takes the parts of a line as they are read: no tree of values is built, which takes most of the time otherwise.
class MetricRowReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit MetricRowReader(MetricRow& row) : row_(row) {}

  bool is_whole() const { return has_step_ && has_values_; }

  bool null() override { return is_other() || (depth_ == 1 && (key_ == "epoch" || key_ == "time")); }
  bool boolean(bool) override { return is_other(); }
  bool number_integer(int64_t value) override { return number(static_cast<double>(value)); }
  bool number_unsigned(uint64_t value) override { return number(static_cast<double>(value)); }
  bool number_float(double value, const std::string&) override { return number(value); }
  bool string(std::string& text) override {
    if (is_other()) return true;
    if (text == "NaN") return number(std::nan(""));
    if (text == "Infinity") return number(HUGE_VAL);
    return text == "-Infinity" && number(-HUGE_VAL);
  }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    ++depth_;
    if (depth_ == 1) return true;
    if (depth_ > 2 || key_ != "values" || has_values_) return false;
    return has_values_ = true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return false; }
  bool end_array() override { return false; }
  bool key(std::string& name) override {
    if (depth_ == 1) {
      key_ = name;
    } else if (row_.size_ < row_.names_.size()) {
      row_.names_[row_.size_] = name;
    } else {
      row_.names_.push_back(name);
      row_.values_.push_back(0);
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  // Whether the value is one that is not for us, from a later version perhaps.
  bool is_other() const {
    return depth_ == 1 && key_ != "step" && key_ != "epoch" && key_ != "time" && key_ != "values";
  }

  bool number(double value) {
    if (depth_ == 2) {
      row_.values_[row_.size_++] = value;
      return true;
    }
    if (depth_ != 1) return false;
    if (key_ == "step") {
      row_.step = metric_step(value);
      return has_step_ = std::isfinite(value);
    }
    if (key_ == "epoch") row_.epoch = value;
    if (key_ == "time") row_.time = value;
    return key_ != "values";
  }

  MetricRow& row_;
  std::string key_;
  int depth_ = 0;
  bool has_step_ = false, has_values_ = false;
};

int64_t metric_step(double value) {
  constexpr double most = 9007199254740991;  // 2^53 - 1, up to which a double holds every whole number
  return std::isnan(value) ? 0 : static_cast<int64_t>(std::round(std::clamp(value, -most, most)));
}

bool MetricRow::parse(std::string_view line) {
  size_ = 0;
  epoch = time = -1;
  MetricRowReader reader(*this);
  return nlohmann::json::sax_parse(line.begin(), line.end(), &reader) && reader.is_whole();
}

}  // namespace troupe
