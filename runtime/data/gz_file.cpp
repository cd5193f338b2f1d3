#include "troupe/runtime/data/gz_file.hpp"

#include "troupe/base/failure.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 18;

}  // namespace

GzFile::GzFile(std::filesystem::path path) : path_(std::move(path)), file_(nullptr) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored)) {
    throw UsageError(path_.string() + " is a folder; a file was expected");
  }
  errno = 0;
  file_ = gzopen(path_.c_str(), "rb");
  if (!file_) throw UsageError("cannot open " + path_.string() + ": " + std::strerror(errno ? errno : ENOMEM));
  gzbuffer(file_, kChunk);
}

GzFile::~GzFile() {
  gzclose(file_);
}

bool GzFile::fill() {
  buffer_.resize(kChunk);
  next_ = 0;
  const int got = gzread(file_, buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int code = Z_OK;
  const char* text = gzerror(file_, &code);
  // A file cut off inside of its compressed data gives Z_BUF_ERROR, after the bytes that could be had.
  if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
    const std::string why = code == Z_ERRNO       ? std::strerror(errno)
                            : code == Z_BUF_ERROR ? "the compressed data is cut off"
                                                  : text;
    throw UsageError("cannot read " + path_.string() + " after offset " + std::to_string(offset_) + ": " + why);
  }
  filled_ = static_cast<std::size_t>(got);
  return filled_ > 0;
}

std::size_t GzFile::read(void* to, std::size_t count) {
  std::size_t done = 0;
  while (done < count && (next_ < filled_ || fill())) {
    const std::size_t part = std::min(count - done, filled_ - next_);
    std::memcpy(static_cast<char*>(to) + done, buffer_.data() + next_, part);
    next_ += part;
    done += part;
    offset_ += static_cast<int64_t>(part);
  }
  return done;
}

std::vector<uint8_t> GzFile::read_exactly(std::size_t count, const std::string& what) {
  std::vector<uint8_t> out;
  const int64_t start = offset_;
  while (out.size() < count) {
    const std::size_t before = out.size();
    // The vector doubles as the data comes.
    out.resize(std::min(count, std::max(before * 2, kChunk)));
    const std::size_t got = read(out.data() + before, out.size() - before);
    if (got == out.size() - before) continue;
    throw UsageError(path_.string() + ": expected " + std::to_string(count) + " bytes of " + what + " at offset " +
                     std::to_string(start) + ", the file ends after " + std::to_string(before + got) + " of them");
  }
  return out;
}

void GzFile::skip_one() {
  ++next_;
  ++offset_;
}

bool GzFile::read_line(std::string& line, std::size_t longest) {
  line.clear();
  bool any = false;
  while (next_ < filled_ || fill()) {
    any = true;
    const char* begin = buffer_.data() + next_;
    const char* const stop = buffer_.data() + filled_;
    const char* const end = std::find_if(begin, stop, [](char c) { return c == '\n' || c == '\r'; });
    const auto part = static_cast<std::size_t>(end - begin);
    if (line.size() + part > longest) {
      throw UsageError(path_.string() + ": the line at offset " +
                       std::to_string(offset_ - static_cast<int64_t>(line.size())) + " is longer than " +
                       std::to_string(longest) + " characters");
    }
    line.append(begin, part);
    next_ += part;
    offset_ += static_cast<int64_t>(part);
    if (end == stop) continue;
    const bool is_return = *end == '\r';
    skip_one();
    if (is_return && (next_ < filled_ || fill()) && buffer_[next_] == '\n') skip_one();
    break;
  }
  return any;
}

}  // namespace troupe
