// Lines from a pipe, as many as wait there.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <poll.h>
#include <unistd.h>

struct Line {
  std::string text;
  bool is_too_long = false;  // cut
};

class LineReader {
 public:
  /// Bytes of a line after the first `longest` are read and forgotten, so that a line without an end takes no memory.
  LineReader(int file, std::size_t longest) : file_(file), longest_(longest) {}

  /// Waits for a line, and returns all that are there by then, up to `most`. Empty at the end of the input.
  std::vector<Line> next(std::size_t most) {
    while (lines_.empty() && !is_at_end_) read_some();
    while (lines_.size() < most && !is_at_end_ && has_input()) read_some();
    std::vector<Line> out;
    while (!lines_.empty() && out.size() < most) {
      out.push_back(std::move(lines_.front()));
      lines_.pop_front();
    }
    return out;
  }

 private:
  bool has_input() const {
    pollfd waiting{file_, POLLIN, 0};
    return poll(&waiting, 1, 0) > 0;
  }

  void read_some() {
    const auto count = read(file_, buffer_.data(), buffer_.size());
    if (count < 0 && errno == EINTR) return;
    if (count > 0) {
      split({buffer_.data(), static_cast<std::size_t>(count)});
      return;
    }
    is_at_end_ = true;
    if (!line_.empty()) end_line();  // the last one may lack its newline
  }

  void split(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto end = std::min(bytes.find('\n'), bytes.size());
      line_.append(bytes.substr(0, std::min(end, longest_ + 1 - line_.size())));
      if (end == bytes.size()) return;
      end_line();
      bytes.remove_prefix(end + 1);
    }
  }

  void end_line() {
    const bool is_too_long = line_.size() > longest_;
    lines_.push_back({std::exchange(line_, {}), is_too_long});
  }

  int file_;
  std::size_t longest_;
  std::array<char, 1 << 16> buffer_;
  std::string line_;  // the one that has not ended
  std::deque<Line> lines_;
  bool is_at_end_ = false;
};
