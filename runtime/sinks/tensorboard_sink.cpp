#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include "troupe/base/host_name.hpp"
#include "troupe/runtime/sinks/crc32c.hpp"
#include "troupe/runtime/sinks/tensorboard_event.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;

// Ten digits, as the seconds of now have until 2286: names in the order of text.
constexpr int64_t last_ten_digit_second = 9'999'999'998;
constexpr std::string_view event_file_prefix = "events.out.tfevents.";

// The seconds in the name of the folder's newest event file; -1: it has none.
int64_t newest_seconds(const fs::path& folder) {
  int64_t newest = -1;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(event_file_prefix)) continue;
    int64_t seconds = 0;
    const auto [end, failed] =
        std::from_chars(name.data() + event_file_prefix.size(), name.data() + name.size(), seconds);
    const bool is_ours = failed == std::errc() && end < name.data() + name.size() && *end == '.';
    if (is_ours && seconds < last_ten_digit_second) newest = std::max(newest, seconds);
  }
  return newest;
}

// TensorBoard reads the files of a folder in the order of their names, as text, so the new one must stand behind those
// that are there: within one second, and when the clock was set back, too.
AppendFile open_file(const fs::path& folder, double now) {
  create_output_folder(folder);
  const int64_t seconds = std::max(static_cast<int64_t>(now), newest_seconds(folder) + 1);
  const auto name = std::string(event_file_prefix) + std::to_string(seconds) + "." + host_name() + "." +
                    std::to_string(getpid()) + ".0";
  return {folder / name, AppendFile::Existing::refuse};
}

template <typename Integer>
std::string little_endian(Integer value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

}  // namespace

TensorBoardSink::TensorBoardSink(const fs::path& folder, Clock clock)
    : clock_(std::move(clock)), file_(open_file(folder, clock_())) {
  append_framed(version_event(clock_()));
  flush();
}

void TensorBoardSink::write(const Record& record) {
  for (const std::string& event : to_events(record, clock_())) append_framed(event);
}

void TensorBoardSink::append_framed(const std::string& event) {
  std::string length = little_endian<uint64_t>(event.size());
  file_.append(length + little_endian(masked_crc32c(length)) + event + little_endian(masked_crc32c(event)));
}

}  // namespace troupe
