#include "troupe/runtime/report/report_page.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/report/page_parts.hpp"

#include <charconv>
#include <cmath>
#include <span>
#include <stdexcept>
#include <utility>

namespace troupe {

namespace {

// Numbers with commas between, as the page's program reads them: "n", "i" and "-i" are none of them.
class PackedNumbers {
 public:
  /// Nine digits, which are a float exactly; a double that a float holds has no more than it needs.
  void add(double value) {
    if (!std::isfinite(value)) return put(std::isnan(value) ? "n" : value > 0 ? "i" : "-i");
    const auto single = std::abs(value) < 3e38 ? static_cast<float>(value) : 0.0F;
    char text[32];
    const auto end = static_cast<double>(single) == value
                         ? std::to_chars(text, text + sizeof text, single).ptr
                         : std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9).ptr;
    put({text, end});
  }
  void add(int64_t value) { put(std::to_string(value)); }
  void skip() { put(""); }
  std::string text() && { return std::move(text_); }

 private:
  void put(std::string_view number) {
    if (any_) text_ += ',';
    any_ = true;
    text_ += number;
  }

  std::string text_;
  bool any_ = false;
};

// The differences from point to point of what mostly grows, in units of `unit`: short, and a sum of whole numbers has
// no errors that add up.
template <class Get>
std::string packed_differences(const std::vector<MetricCurve::Point>& points, double unit, Get get) {
  PackedNumbers out;
  int64_t before = 0;
  for (const auto& point : points) {
    const double scaled = std::round(static_cast<double>(get(point)) / unit);
    const auto now = std::isfinite(scaled) && std::abs(scaled) < 9e15 ? static_cast<int64_t>(scaled) : before;
    out.add(now - before);
    before = now;
  }
  return std::move(out).text();
}

// Nothing between two commas if it is the one before.
std::string packed_means(const std::vector<double>& means) {
  PackedNumbers out;
  const double* before = nullptr;
  for (const auto& mean : means) {
    if (before && *before == mean) {
      out.skip();
    } else {
      out.add(mean);
    }
    before = &mean;
  }
  return std::move(out).text();
}

nlohmann::json packed_curve(const std::string& name, const MetricCurve& curve) {
  auto points = curve.points();
  auto means = curve.means();
  if (!points.empty()) {  // where it begins and the latest value are always there
    if (curve.last().step != points.back().step) {
      points.push_back(curve.last());
      means.push_back(means.back());
    }
    if (curve.first().step != points.front().step) {
      points.insert(points.begin(), curve.first());
      means.insert(means.begin(), means.front());
    }
  }
  nlohmann::json json = {{"name", valid_utf8(name)}, {"count", curve.count()}};
  json["step"] = packed_differences(points, 1, [](const auto& point) { return point.step; });
  PackedNumbers values;
  for (const auto& point : points) values.add(point.value);
  json["value"] = std::move(values).text();
  if (curve.count() > static_cast<int64_t>(points.size())) json["mean"] = packed_means(means);
  // -1, which stands for "none", stays it.
  const auto has = [&](auto member) { return !points.empty() && points.front().*member >= 0; };
  if (has(&MetricCurve::Point::epoch)) {
    json["epoch"] = packed_differences(points, 0.001, [](const auto& point) { return point.epoch; });
  }
  if (has(&MetricCurve::Point::time)) {
    json["time"] = packed_differences(points, 0.1, [](const auto& point) { return point.time; });
  }
  return json;
}

// Several words, with commas between them; empty if that would not say what they are.
std::string joined_words(const nlohmann::json& list) {
  std::string text;
  for (const auto& word : list) {
    const auto* held = word.get_ptr<const std::string*>();
    if (!held || held->empty() || held->find(',') != std::string::npos) return "";
    text += (text.empty() ? "" : ",") + *held;
  }
  return text;
}

// Numbers and lists of options as the command line takes them: the page's program has doubles alone, which hold no seed
// of 19 digits, and do not tell 1.0 (a fraction of all batches) from 1.
void spell_options(nlohmann::json& options) {
  for (auto& value : options) {
    if (value.is_object()) spell_options(value);
    if (value.is_number_float()) {
      value = double_to_text(value.get<double>());
    } else if (const auto words = value.is_array() ? joined_words(value) : ""; !words.empty()) {
      value = words;
    } else if (value.is_number() || value.is_array()) {
      value = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
  }
}

nlohmann::json card_of_page(const RunCard& card) {
  auto json = to_json(card);
  for (const char* options : {"options", "defaults"}) spell_options(json[options]);
  return json;
}

// Nothing of it ends the element that it stands in, or begins a comment there
// (https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements).
std::string json_in_html(const nlohmann::json& json) {
  const auto text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + text.size() / 64);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto rest = std::string_view(text).substr(i, 3);
    if (text[i] == '<') {
      out += "\\u003c";
    } else if (rest == "\xE2\x80\xA8" || rest == "\xE2\x80\xA9") {
      out += rest[2] == '\xA8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// `page` with `content` where <!--name--> stands.
void fill_in(std::string& page, std::string_view name, std::string_view content) {
  const auto mark = "<!--" + std::string(name) + "-->";
  const auto at = page.find(mark);
  if (at == std::string::npos) throw std::logic_error("page.html has no place for the page's " + std::string(name));
  page.replace(at, mark.size(), content);
}

}  // namespace

std::string report_page(std::span<const RunView> runs) {
  nlohmann::json data = {{"written", unix_seconds()}, {"runs", nlohmann::json::array()}};
  for (const auto& run : runs) {
    auto curves = nlohmann::json::array();
    for (const auto& [name, curve] : run.curves.curves) curves.push_back(packed_curve(name, curve));
    data["runs"].push_back(
        {{"card", card_of_page(run.card)}, {"curves", std::move(curves)}, {"damaged_rows", run.curves.damaged_rows}});
  }
  std::string page(page_parts::html);
  fill_in(page, "style", page_parts::style);
  fill_in(page, "program", page_parts::program);
  fill_in(page, "data", json_in_html(data));  // last: what it says is no mark
  return page;
}

std::optional<std::string> page_with_card(const std::string& page, const RunCard& card) {
  // What stands before it is the library's own, and nothing in it ends the element (json_in_html).
  const std::string_view begin = "<script type=\"application/json\" id=\"data\">", end = "</script>";
  const auto mark = page.find(begin);
  const auto from = mark == std::string::npos ? mark : mark + begin.size();
  const auto to = from == std::string::npos ? from : page.find(end, from);
  if (to == std::string::npos) return std::nullopt;
  nlohmann::json data;
  try {
    data = parse_strict_json(std::string_view(page).substr(from, to - from));
  } catch (const UsageError&) {
    return std::nullopt;
  }
  const bool is_of_one_run = data.is_object() && data.contains("runs") && data["runs"].is_array() &&
                             data["runs"].size() == 1 && data["runs"][0].is_object();
  if (!is_of_one_run) return std::nullopt;
  data["written"] = unix_seconds();
  data["runs"][0]["card"] = card_of_page(card);
  return page.substr(0, from) + json_in_html(data) + page.substr(to);
}

void write_report_page(std::span<const RunView> runs, const std::filesystem::path& path) {
  const auto page = report_page(runs);
  write_text_atomically(path, page);
}

}  // namespace troupe
