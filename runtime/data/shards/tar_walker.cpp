#include "troupe/runtime/data/shards/tar_walker.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cstring>

namespace troupe {

namespace {

constexpr std::size_t kTarBlock = 512;
// Holds the header of a small file, its data and the next header, so that a sample's label costs no read of its own.
constexpr std::size_t kTarWindow = 4096;
constexpr uint64_t kLongestExtended = uint64_t{1} << 20;
constexpr uint64_t kLargestSize = uint64_t{1} << 62;  // sums of two stay below 2^63

/// A text field of a header: up to its first NUL.
std::string_view tar_text(const char* field, std::size_t size) {
  return {field, strnlen(field, size)};
}

/// A field of 12 bytes: octal digits between blanks, or GNU's base 256 with its top bit set.
std::optional<uint64_t> tar_number(const char* field) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(field);
  uint64_t value = 0;
  if (bytes[0] & 0x80) {
    if (bytes[0] != 0x80) return std::nullopt;  // negative, or above 2^88
    for (int i = 1; i < 12; ++i) {
      if (value >= kLargestSize >> 8) return std::nullopt;
      value = value << 8 | bytes[i];
    }
    return value;
  }
  std::string_view text(field, 12);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const auto digits = text.substr(0, text.find_first_not_of("01234567"));
  if (text.find_first_not_of(std::string_view(" \0", 2), digits.size()) != text.npos) return std::nullopt;
  for (const char c : digits) value = value << 3 | static_cast<uint64_t>(c - '0');
  return value;
}

/// Of the header's bytes with blanks for the sum's own: some old programs added them up as signed numbers.
bool has_tar_checksum(const char* header) {
  int64_t plain = 0, as_signed = 0;
  for (std::size_t i = 0; i < kTarBlock; ++i) {
    const char c = i >= 148 && i < 156 ? ' ' : header[i];
    plain += static_cast<unsigned char>(c);
    as_signed += static_cast<signed char>(c);
  }
  char padded[12] = {};
  std::memcpy(padded, header + 148, 8);
  const auto sum = tar_number(padded);
  return sum && (static_cast<int64_t>(*sum) == plain || static_cast<int64_t>(*sum) == as_signed);
}

uint64_t padded_to_blocks(uint64_t size) {
  return (size + kTarBlock - 1) / kTarBlock * kTarBlock;
}

/// What is refused about a member by its type, for a message; empty if it is none of these.
std::string unwanted_kind(char type) {
  switch (type) {
    case '2': return "is a symbolic link; pack the file itself (tar --dereference)";
    case '3':
    case '4': return "is a device";
    case '6': return "is a named pipe";
    case 'S': return "is a sparse file; pack it without --sparse";
    case 'M': return "is the rest of a file of another volume";
    default: return "";
  }
}

}  // namespace

/// The 512 bytes at `offset`, which never goes backwards beyond the window; null if the content ends there. They stand
/// until the next call.
const char* TarWalker::block(uint64_t offset) {
  if (offset < window_start_ || offset + kTarBlock > window_start_ + window_filled_) {
    window_.resize(kTarWindow);
    const uint64_t end = window_start_ + window_filled_;
    const std::size_t kept = offset >= window_start_ && offset < end ? static_cast<std::size_t>(end - offset) : 0;
    std::memmove(window_.data(), window_.data() + (window_filled_ - kept), kept);
    window_start_ = offset;
    window_filled_ = kept + bytes_.read(offset + kept, window_.data() + kept, kTarWindow - kept);
  }
  const uint64_t have = window_start_ + window_filled_ - offset;
  if (have >= kTarBlock) return window_.data() + (offset - window_start_);
  check_last_data();  // of compressed content the end is seen only now
  if (have > 0) bytes_.refuse(offset, "the archive is cut off: a block of 512 bytes was expected");
  return nullptr;
}

/// The header at next_, which then stands behind it; nothing at the archive's end.
std::optional<TarWalker::Header> TarWalker::header() {
  const char* raw = block(next_);
  if (!raw) return std::nullopt;
  if (std::all_of(raw, raw + kTarBlock, [](char c) { return c == '\0'; })) {
    check_end();
    return std::nullopt;
  }
  if (!has_tar_checksum(raw)) {
    bytes_.refuse(next_, next_ == 0 ? "there is no header of a tar archive" : "the header's checksum is wrong");
  }
  Header out;
  out.at = next_;
  out.name = tar_text(raw, 100);
  out.link = tar_text(raw + 157, 100);
  out.type = raw[156] == '\0' || raw[156] == '7' ? '0' : raw[156];
  // GNU tar's own format has times there, after "ustar  ".
  if (const auto prefix = tar_text(raw + 345, 155); std::memcmp(raw + 257, "ustar\0", 6) == 0 && !prefix.empty()) {
    out.name = std::string(prefix) + "/" + out.name;
  }
  const auto size = tar_number(raw + 124);
  if (!size || *size >= kLargestSize)
    bytes_.refuse(next_, "the size of '" + shown(out.name) + "' is no number of bytes");
  out.size = *size;
  next_ += kTarBlock;
  return out;
}

/// Moves next_ behind the header's data.
void TarWalker::pass(const Header& header) {
  last_ = header;
  check_last_data();
  next_ += padded_to_blocks(header.size);
}

/// Whether the data of the last header lie in the content, as far as its end is known.
void TarWalker::check_last_data() const {
  const auto end = bytes_.size();
  const uint64_t start = last_.at + kTarBlock;
  const uint64_t left = end ? *end - std::min(*end, start) : last_.size;
  if (last_.size <= left) return;
  bytes_.refuse(last_.at, "'" + shown(last_.name) + "' claims " + std::to_string(last_.size) +
                              " bytes; the archive has " + std::to_string(left) + " more");
}

/// The data of an extended header.
std::string TarWalker::body(const Header& header) {
  if (header.size > kLongestExtended) {
    bytes_.refuse(header.at, "an extended header claims " + std::to_string(header.size) + " bytes; at most " +
                                 std::to_string(kLongestExtended) + " are read");
  }
  uint64_t at = next_;
  pass(header);
  std::string out;
  for (; out.size() < header.size; at += kTarBlock) {
    const char* part = block(at);
    if (!part) bytes_.refuse(header.at, "the archive is cut off in an extended header");
    out.append(part, std::min<std::size_t>(kTarBlock, static_cast<std::size_t>(header.size) - out.size()));
  }
  return out;
}

/// The records of a pax header: "27 path=a/long/name.jpg\n", where the number is the record's length.
void TarWalker::take_records(uint64_t at, std::string_view rest, Extended& into) const {
  while (!rest.empty() && rest[0] != '\0') {
    const auto blank = rest.find(' ');
    const auto length =
        blank == rest.npos || blank > 20 ? std::nullopt : number_from_text<uint64_t>(rest.substr(0, blank));
    if (!length || *length > rest.size() || *length < blank + 3 || rest[*length - 1] != '\n') {
      bytes_.refuse(at, "a record of the pax header has no valid length");
    }
    const auto record = rest.substr(blank + 1, *length - blank - 2);
    rest.remove_prefix(*length);
    const auto equals = record.find('=');
    if (equals == record.npos) bytes_.refuse(at, "a record of the pax header has no '='");
    const auto keyword = record.substr(0, equals), value = record.substr(equals + 1);
    if (keyword == "path") into.name = value;
    if (keyword == "linkpath") into.link = value;
    if (keyword.starts_with("GNU.sparse.")) into.is_sparse = true;
    if (keyword != "size") continue;
    into.size = number_from_text<uint64_t>(value);
    if (!into.size || *into.size >= kLargestSize) {
      bytes_.refuse(at, "the size '" + shown(value) + "' of the pax header is no number of bytes");
    }
  }
}

void TarWalker::take_extended(const Header& header, Extended& own) {
  if (!own.first) own.first = header.at;
  const std::string text = body(header);
  switch (header.type) {
    case 'L': own.name = tar_text(text.data(), text.size()); break;
    case 'K': own.link = tar_text(text.data(), text.size()); break;
    default: take_records(header.at, text, header.type == 'g' ? global_ : own);
  }
}

void TarWalker::check_name(uint64_t at, const std::string& name) const {
  const auto refuse = [&](const char* why) { bytes_.refuse(at, "the name '" + shown(name) + "' " + why); };
  if (name.empty()) refuse("is empty");
  if (name[0] == '/') refuse("is absolute; names within the archive were expected");
  if (name.find('\0') != name.npos) refuse("holds a NUL");
  for (std::size_t start = 0; start <= name.size();) {
    const auto end = std::min(name.find('/', start), name.size());
    if (std::string_view(name).substr(start, end - start) == "..") refuse("climbs out of the archive's folder");
    start = end + 1;
  }
}

/// The file that `header` describes with the extended headers before it; nothing for a folder.
std::optional<TarMember> TarWalker::member(const Header& header, const Extended& own) {
  Header found = header;
  const auto chosen = [](const auto& first, const auto& second) { return first ? first : second; };
  if (const auto name = chosen(own.name, global_.name)) found.name = *name;
  if (const auto link = chosen(own.link, global_.link)) found.link = *link;
  if (const auto size = chosen(own.size, global_.size)) found.size = *size;
  if (const auto why = unwanted_kind(own.is_sparse || global_.is_sparse ? 'S' : found.type); !why.empty()) {
    bytes_.refuse(found.at, "'" + shown(found.name) + "' " + why + "; only regular files are read");
  }
  const bool is_link = found.type == '1';
  const bool is_folder = found.type == '5' || (found.type == '0' && found.name.ends_with('/'));
  if (found.type == 'V') return std::nullopt;  // the archive's label
  if (found.type != '0' && !is_link && !is_folder) {
    bytes_.refuse(found.at, "'" + shown(found.name) + "' is of the unknown kind '" + shown({&found.type, 1}) + "'");
  }
  check_name(found.at, found.name);
  if (is_folder) return std::nullopt;  // its size is what it may grow to, if anything
  if (is_link && found.size != 0) bytes_.refuse(found.at, "'" + shown(found.name) + "' is a hard link with data");
  TarMember out{found.name, is_link ? found.link : "", own.first.value_or(found.at), next_, found.size};
  if (is_link) check_name(found.at, out.link);
  pass(found);
  return out;
}

std::optional<TarMember> TarWalker::next() {
  for (;;) {
    Extended own;
    auto found = header();
    while (found && (found->type == 'L' || found->type == 'K' || found->type == 'x' || found->type == 'X' ||
                     found->type == 'g')) {
      take_extended(*found, own);
      found = header();
    }
    if (!found) {
      if (own.first) bytes_.refuse(*own.first, "an extended header describes no file: the archive ends");
      return std::nullopt;
    }
    if (auto file = member(*found, own)) return file;
  }
}

/// At the first block of zeros. tar pads with zeros up to a multiple of its record, which few make larger than 1 MiB;
/// what else is there would be left out without a word.
void TarWalker::check_end() {
  constexpr uint64_t looked_at = uint64_t{1} << 20;
  const uint64_t start = next_;
  std::vector<char> part(kTarWindow);
  for (uint64_t at = start; at < start + looked_at;) {
    const uint64_t window_end = window_start_ + window_filled_;
    const bool is_in_window = at < window_end;
    const std::size_t got =
        is_in_window ? static_cast<std::size_t>(window_end - at) : bytes_.read(at, part.data(), part.size());
    const char* begin = is_in_window ? window_.data() + (at - window_start_) : part.data();
    if (got == 0) return;
    const char* found = std::find_if(begin, begin + got, [](char c) { return c != '\0'; });
    if (found != begin + got) {
      bytes_.refuse(at + static_cast<uint64_t>(found - begin),
                    "the archive goes on after its end at offset " + std::to_string(start) +
                        "; archives are joined with tar --concatenate, not with cat");
    }
    at += got;
  }
}

}  // namespace troupe
