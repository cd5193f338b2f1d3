#include "troupe/runtime/data/shards/gzip_bytes.hpp"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

namespace troupe {

namespace {

constexpr std::size_t kGzipInput = std::size_t{1} << 16;
constexpr std::size_t kGzipWindow = std::size_t{1} << 15;
constexpr int kGzipMember = 15 + 16;  // inflateReset2: a header and a trailer of gzip around the data
constexpr int kRawDeflate = -15;
constexpr std::size_t kGzipTrailer = 8;
// No offset of the content: the state is of no use after an error, and the next read begins at a point.
constexpr uint64_t kNowhere = std::numeric_limits<uint64_t>::max();

}  // namespace

GzipBytes::GzipBytes(std::shared_ptr<const FileReader> file, std::shared_ptr<const GzipPoints> points)
    : ShardBytes(std::move(file)), points_(points ? std::move(points) : std::make_shared<const GzipPoints>()) {
  start();
}

GzipBytes::GzipBytes(std::shared_ptr<const FileReader> file, uint64_t spacing)
    : ShardBytes(std::move(file)), collected_(std::make_shared<GzipPoints>()), spacing_(spacing) {
  points_ = collected_;
  start();
}

GzipBytes::~GzipBytes() {
  inflateEnd(stream_.get());
}

bool GzipBytes::is_gzip(const FileReader& file, uint64_t offset) {
  unsigned char magic[2] = {};
  if (offset + sizeof(magic) > static_cast<uint64_t>(file.size())) return false;
  file.read_at(static_cast<int64_t>(offset), magic, sizeof(magic));
  return magic[0] == 0x1f && magic[1] == 0x8b;
}

void GzipBytes::start() {
  stream_ = std::make_unique<z_stream>();
  if (inflateInit2(stream_.get(), kGzipMember) != Z_OK) throw std::bad_alloc();
  input_.resize(kGzipInput);
}

uint64_t GzipBytes::compressed_offset() const {
  return input_end_ - stream_->avail_in;
}

void GzipBytes::refuse_compressed(const std::string& why) {
  const uint64_t content = at_;
  at_ = kNowhere;
  refuse(content, "the compressed data cannot be read: " + why + ", at byte " + std::to_string(compressed_offset()) +
                      " of the file");
}

/// More input; false at the end of the file.
bool GzipBytes::fill() {
  const auto size = static_cast<uint64_t>(file().size());
  const auto part = static_cast<std::size_t>(std::min<uint64_t>(kGzipInput, size - std::min(size, input_end_)));
  if (part > 0) file().read_at(static_cast<int64_t>(input_end_), input_.data(), part);
  input_end_ += part;
  stream_->next_in = input_.data();
  stream_->avail_in = static_cast<uInt>(part);
  return part > 0;
}

/// Null: at the file's beginning.
void GzipBytes::restart(const GzipPoint* point) {
  at_ = kNowhere;  // until all of this has succeeded
  is_at_end_ = false;
  is_raw_ = point != nullptr;
  inflateReset2(stream_.get(), is_raw_ ? kRawDeflate : kGzipMember);
  stream_->avail_in = 0;
  input_end_ = point ? point->compressed - (point->bits > 0 ? 1 : 0) : 0;
  if (point && point->bits > 0) {
    if (!fill()) refuse_compressed("a point of the index lies beyond its end");
    inflatePrime(stream_.get(), point->bits, *stream_->next_in >> (8 - point->bits));
    stream_->next_in += 1;
    stream_->avail_in -= 1;
  }
  if (point && !point->window.empty()) {
    inflateSetDictionary(stream_.get(), reinterpret_cast<const Bytef*>(point->window.data()),
                         static_cast<uInt>(point->window.size()));
  }
  at_ = point ? point->content : 0;
}

void GzipBytes::skip_trailer() {
  for (std::size_t left = kGzipTrailer; left > 0;) {
    if (stream_->avail_in == 0 && !fill()) refuse_compressed("it is cut off");
    const auto part = std::min<std::size_t>(left, stream_->avail_in);
    stream_->next_in += part;
    stream_->avail_in -= static_cast<uInt>(part);
    left -= part;
  }
}

/// Another member may follow the one that has ended.
void GzipBytes::end_member() {
  if (is_raw_) skip_trailer();
  is_raw_ = false;
  is_at_end_ = !is_gzip(file(), compressed_offset());
  if (!is_at_end_) inflateReset2(stream_.get(), kGzipMember);
}

/// At the boundary of a block.
void GzipBytes::collect_point() {
  const GzipPoint* last = collected_->empty() ? nullptr : &collected_->back();
  const uint64_t compressed = compressed_offset();
  if (at_ < (last ? last->content : 0) + spacing_) return;
  if (compressed < (last ? last->compressed : 0) + std::min<uint64_t>(spacing_, 4 * kGzipWindow)) return;
  GzipPoint point{compressed, static_cast<uint8_t>(stream_->data_type & 7), at_, std::string(kGzipWindow, '\0')};
  uInt size = 0;
  inflateGetDictionary(stream_.get(), reinterpret_cast<Bytef*>(point.window.data()), &size);
  point.window.resize(size);
  point.window.shrink_to_fit();
  collected_->push_back(std::move(point));
}

/// The next `count` bytes, fewer only at the end.
std::size_t GzipBytes::inflate_some(char* to, std::size_t count) {
  std::size_t done = 0;
  while (done < count && !is_at_end_) {
    if (stream_->avail_in == 0 && !fill()) refuse_compressed("it is cut off");
    const auto part = static_cast<uInt>(std::min<std::size_t>(count - done, 1U << 30));
    stream_->next_out = reinterpret_cast<Bytef*>(to + done);
    stream_->avail_out = part;
    const int code = inflate(stream_.get(), collected_ ? Z_BLOCK : Z_NO_FLUSH);
    done += part - stream_->avail_out;
    at_ += part - stream_->avail_out;
    if (code == Z_STREAM_END) {
      end_member();
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      refuse_compressed(stream_->msg ? stream_->msg : "it is damaged");
    } else if (collected_ && (stream_->data_type & 128) && !(stream_->data_type & 64)) {
      collect_point();
    }
  }
  if (is_at_end_) end_ = at_;
  return done;
}

void GzipBytes::seek(uint64_t offset) {
  const auto after = std::upper_bound(points_->begin(), points_->end(), offset,
                                      [](uint64_t wanted, const GzipPoint& point) { return wanted < point.content; });
  const GzipPoint* nearest = after == points_->begin() ? nullptr : &*(after - 1);
  if (at_ > offset || (nearest && nearest->content > at_)) restart(nearest);
  std::vector<char> passed;
  while (at_ < offset && !is_at_end_) {
    passed.resize(std::size_t{1} << 16);
    inflate_some(passed.data(), static_cast<std::size_t>(std::min<uint64_t>(passed.size(), offset - at_)));
  }
}

std::size_t GzipBytes::read(uint64_t offset, void* to, std::size_t count) {
  if (end_ && offset >= *end_) return 0;
  seek(offset);
  return at_ == offset ? inflate_some(static_cast<char*>(to), count) : 0;
}

}  // namespace troupe
