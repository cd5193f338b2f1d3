#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include "troupe/runtime/host_name.hpp"
#include "troupe/runtime/sinks/crc32c.hpp"
#include "troupe/runtime/sinks/tensorboard_event.hpp"

#include <unistd.h>

#include <chrono>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;

AppendFile open_file(const fs::path& folder, double now) {
  create_output_folder(folder);
  std::string stem = "events.out.tfevents." + std::to_string(static_cast<int64_t>(now)) + "." + host_name() + "." +
                     std::to_string(getpid()) + ".";
  int number = 0;
  while (fs::exists(folder / (stem + std::to_string(number)))) ++number;
  return {folder / (stem + std::to_string(number)), AppendFile::Existing::refuse};
}

template <typename Integer>
std::string little_endian(Integer value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

}  // namespace

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

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
