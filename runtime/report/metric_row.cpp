#include "troupe/runtime/report/metric_row.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>

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
    } else {
      row_.begin_value(name);
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
      row_.end_value(value);
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

/// Lines as sinks write them, in a third of the time: plain names and numbers. False for all else, valid or not.
class PlainMetricRow {
 public:
  PlainMetricRow(MetricRow& row, std::string_view text) : row_(row), text_(text) {}

  bool parse() {
    bool has_step = false, has_values = false;
    if (!take('{')) return false;
    do {
      const auto key = name();
      if (!key || !take(':')) return false;
      if (*key == "values") {
        if (has_values || !values()) return false;
        has_values = true;
        continue;
      }
      const auto value = number();
      if (!value) return false;
      if (*key == "step") {
        row_.step = metric_step(*value);
        has_step = true;
      } else if (*key == "epoch") {
        row_.epoch = *value;
      } else if (*key == "time") {
        row_.time = *value;
      } else {
        return false;
      }
    } while (take(','));
    return take('}') && skip_blanks().empty() && has_step && has_values;
  }

 private:
  std::string_view skip_blanks() {
    text_.remove_prefix(std::min(text_.find_first_not_of(" \t\r\n"), text_.size()));
    return text_;
  }

  bool take(char letter) {
    if (!skip_blanks().starts_with(letter)) return false;
    text_.remove_prefix(1);
    return true;
  }

  std::optional<std::string_view> name() {
    if (!take('"')) return std::nullopt;
    const auto end = text_.find_first_of("\"\\");
    if (end == std::string_view::npos || text_[end] == '\\') return std::nullopt;
    const auto found = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return found;
  }

  std::optional<double> number() {
    skip_blanks();
    if (text_.empty() || (text_[0] != '-' && (text_[0] < '0' || text_[0] > '9'))) return std::nullopt;
    double value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }

  bool values() {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      const auto key = name();
      if (!key || !take(':')) return false;
      const auto value = number();
      if (!value) return false;
      row_.begin_value(*key);
      row_.end_value(*value);
    } while (take(','));
    return take('}');
  }

  MetricRow& row_;
  std::string_view text_;
};

int64_t metric_step(double value) {
  constexpr double most = 9007199254740991;  // 2^53 - 1, up to which a double holds every whole number
  return std::isnan(value) ? 0 : static_cast<int64_t>(std::round(std::clamp(value, -most, most)));
}

void MetricRow::clear() {
  size_ = 0;
  step = 0;
  epoch = time = -1;
}

void MetricRow::begin_value(std::string_view name) {
  if (size_ == names_.size()) {
    names_.emplace_back();
    values_.push_back(0);
  }
  names_[size_] = name;
}

bool MetricRow::parse(std::string_view line) {
  clear();
  if (PlainMetricRow(*this, line).parse()) return true;
  clear();
  MetricRowReader reader(*this);
  return nlohmann::json::sax_parse(line.begin(), line.end(), &reader) && reader.is_whole();
}

}  // namespace troupe
