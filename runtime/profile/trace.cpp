#include "troupe/runtime/profile/trace.hpp"

#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/profile/profiling.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace troupe {

namespace {

// Events as lines, handed to the file a piece at a time.
class TraceText {
 public:
  explicit TraceText(OutputFile& file) : file_(file) {}

  fmt::memory_buffer& next_event() {
    if (text_.size() > most_waiting) flush();
    fmt::format_to(std::back_inserter(text_), "{}", is_first_ ? "" : ",\n");
    is_first_ = false;
    return text_;
  }
  fmt::memory_buffer& text() { return text_; }
  void flush() {
    file_.write(std::as_bytes(std::span(text_.data(), text_.size())));
    text_.clear();
  }

 private:
  static constexpr std::size_t most_waiting = 1 << 20;
  OutputFile& file_;
  fmt::memory_buffer text_;
  bool is_first_ = true;
};

// Microseconds without rounding.
std::string microseconds(int64_t nanoseconds) {
  return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

void add_metadata(TraceText& out, int64_t process, int64_t lane, std::string_view what, const std::string& value) {
  fmt::format_to(std::back_inserter(out.next_event()), R"({{"ph":"M","pid":{},"tid":{},"name":"{}","args":{{{}}}}})",
                 process, lane, what, value);
}

void add_lane(TraceText& out, const Lane& lane, int64_t process, int64_t origin) {
  add_metadata(out, process, lane.number(), "thread_name", "\"name\":" + json_text(lane.name()));
  add_metadata(out, process, lane.number(), "thread_sort_index", "\"sort_index\":" + std::to_string(lane.number()));
  auto spans = lane.spans();
  // What others are in comes before them.
  std::ranges::stable_sort(spans, [](const Span& a, const Span& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.duration > b.duration;
  });
  std::unordered_map<const SpanSums*, std::string> beginnings;  // of the lines
  for (const Span& span : spans) {
    std::string& beginning = beginnings[span.what];
    if (beginning.empty()) {
      beginning = fmt::format(R"({{"ph":"X","pid":{},"tid":{},"cat":"{}","name":{},"ts":)", process, lane.number(),
                              to_string(span.what->kind), json_text(span.what->name));
    }
    auto& text = out.next_event();
    fmt::format_to(std::back_inserter(text), R"({}{},"dur":{})", beginning, microseconds(span.begin - origin),
                   microseconds(span.duration));
    if (span.number >= 0) fmt::format_to(std::back_inserter(text), R"(,"args":{{"batch":{}}})", span.number);
    text.push_back('}');
  }
}

}  // namespace

void write_trace(const Profiling& profiling, const std::filesystem::path& path) {
  const int64_t process = profiling.setup().rank;
  write_atomically(path, [&](OutputFile& file) {
    TraceText out(file);
    fmt::format_to(std::back_inserter(out.text()), "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    add_metadata(out, process, 0, "process_name", "\"name\":" + json_text("rank " + std::to_string(process)));
    for (const auto& lane : profiling.lanes()) add_lane(out, *lane, process, profiling.begun_at());
    fmt::format_to(std::back_inserter(out.text()), "\n]}}\n");
    out.flush();
  });
}

}  // namespace troupe
