#include "troupe/runtime/data/arrays/npy_header.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <utility>

namespace troupe {

namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";
constexpr std::size_t kLongestNpyHeader = std::size_t{1} << 20;  // of an array that LibTorch can hold: some 200 bytes
constexpr std::size_t kMostNpyDimensions = 64;                   // numpy's own limit

static_assert(std::endian::native == std::endian::little, "is_swapped below takes the machine to be little-endian");

/// What the header says, before anything is made of it.
struct NpyDictionary {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
class NpyHeaderParser {
 public:
  NpyHeaderParser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  NpyDictionary parse() {
    NpyDictionary out;
    std::vector<std::string> seen;
    expect('{');
    while (!take('}')) {
      const auto key = string("the name of an entry");
      if (std::ranges::find(seen, key) != seen.end()) refuse("it has '" + shown(key) + "' twice");
      seen.push_back(key);
      expect(':');
      if (key == "descr") {
        out.descr = descr();
      } else if (key == "fortran_order") {
        out.fortran_order = boolean();
      } else if (key == "shape") {
        out.shape = shape();
      } else {
        refuse("it has an entry '" + shown(key) + "'; numpy writes descr, fortran_order and shape");
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (at_ != text_.size()) refuse("it goes on after its end, at byte " + std::to_string(at_));
    if (seen.size() != 3) refuse("it has no " + missing(seen));
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw UsageError(source_ + ": its header is not one that numpy writes: " + why);
  }
  [[noreturn]] void refuse_here(const std::string& expected) const {
    refuse("byte " + std::to_string(at_) + " of it should be " + expected + ", it " +
           (at_ < text_.size() ? "is '" + shown(text_.substr(at_, 1)) + "'" : "ends there"));
  }
  static std::string missing(const std::vector<std::string>& seen) {
    for (const char* name : {"descr", "fortran_order", "shape"}) {
      if (std::ranges::find(seen, name) == seen.end()) return name;
    }
    return "";
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool take(char c) {
    skip_blanks();
    const bool is_there = at_ < text_.size() && text_[at_] == c;
    at_ += is_there ? 1 : 0;
    return is_there;
  }
  void expect(char c) {
    if (!take(c)) refuse_here(std::string("'") + c + "'");
  }

  std::string string(const std::string& what) {
    const char quote = take('\'') ? '\'' : take('"') ? '"' : '\0';
    if (quote == '\0') refuse_here(what + " in quotes");
    const auto end = text_.find(quote, at_);
    if (end == std::string_view::npos) refuse("a quote is never closed");
    const auto out = text_.substr(at_, end - at_);
    if (out.find('\\') != std::string_view::npos) refuse("the text '" + shown(out) + "' has a backslash");
    at_ = end + 1;
    return std::string(out);
  }

  std::string descr() {
    skip_blanks();
    // A list of fields, or a type with a shape of its own.
    if (at_ < text_.size() && (text_[at_] == '[' || text_[at_] == '(')) {
      throw UsageError(source_ +
                       " is an array of a structured type, for which LibTorch has no tensor; save each field on its "
                       "own, as np.savez(path, x=array['x'], y=array['y'])");
    }
    return string("a type");
  }

  bool boolean() {
    skip_blanks();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return value;
    }
    refuse_here("True or False");
  }

  std::vector<int64_t> shape() {
    std::vector<int64_t> out;
    expect('(');
    while (!take(')')) {
      skip_blanks();
      const auto begin = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
      if (begin == at_) refuse_here("a size, or ')'");
      const auto digits = text_.substr(begin, at_ - begin);
      const auto size = number_from_text<int64_t>(digits);
      if (!size) refuse("the size " + shown(digits) + " does not fit into 64 bits");
      if (out.size() == kMostNpyDimensions) {
        refuse("it has more than " + std::to_string(kMostNpyDimensions) + " dimensions");
      }
      out.push_back(*size);
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2's
      if (take(',')) continue;
      expect(')');
      break;
    }
    return out;
  }

  std::string_view text_;
  const std::string& source_;
  std::size_t at_ = 0;
};

/// 'f4' and what LibTorch calls it.
constexpr std::array<std::pair<std::string_view, torch::ScalarType>, 14> kNpyTypes = {{
    {"b1", torch::kBool},
    {"i1", torch::kInt8},
    {"i2", torch::kInt16},
    {"i4", torch::kInt32},
    {"i8", torch::kInt64},
    {"u1", torch::kUInt8},
    {"u2", torch::kUInt16},
    {"u4", torch::kUInt32},
    {"u8", torch::kUInt64},
    {"f2", torch::kHalf},
    {"f4", torch::kFloat},
    {"f8", torch::kDouble},
    {"c8", torch::kComplexFloat},
    {"c16", torch::kComplexDouble},
}};

/// What to do with an array of a type that has no tensor.
std::string other_npy_type(char kind, std::string_view type) {
  switch (kind) {
    case 'O':
      return "an array of Python objects, a pickle, which is never loaded because it can run code; save numbers, as "
             "np.save(path, np.stack(list(array)).astype(np.float32)), or arrays of several shapes with np.savez";
    case 'U':
    case 'S':
    case 'a':
      return "an array of strings, for which LibTorch has no tensor; save their numbers, as np.save(path, "
             "np.unique(array, return_inverse=True)[1])";
    case 'M':
    case 'm':
      return "an array of dates or durations, for which LibTorch has no tensor; save them as numbers, as np.save(path, "
             "array.astype(np.int64))";
    case 'V':
      return "an array of '" + shown(type) +
             "', bytes without a meaning (ml_dtypes' bfloat16 is saved as V2); save it as a type of numpy's, as "
             "np.save(path, array.astype(np.float32))";
    case 'f':
    case 'c':
      return "an array of '" + shown(type) + "', floating-point numbers of a size that LibTorch lacks; save it as " +
             (kind == 'f' ? "np.save(path, array.astype(np.float64))" : "np.save(path, array.astype(np.complex128))");
    default:
      return "an array of the type '" + shown(type) +
             "', which is none that this library knows; save it as one of bool, int8 to int64, uint8 to uint64, "
             "float16 "
             "to float64, complex64 and complex128, as np.save(path, array.astype(np.float32))";
  }
}

/// Sets type and byte order from a descr such as "<f4".
void set_npy_type(NpyHeader& header, std::string_view descr, const std::string& source) {
  constexpr std::string_view orders = "<>|=";
  const bool has_order = !descr.empty() && orders.find(descr[0]) != std::string_view::npos;
  const auto type = descr.substr(has_order ? 1 : 0);
  const auto found = std::ranges::find(kNpyTypes, type, [](const auto& entry) { return entry.first; });
  if (found == kNpyTypes.end()) {
    throw UsageError(source + " is " + other_npy_type(type.empty() ? '\0' : type[0], descr));
  }
  header.dtype = found->second;
  header.is_swapped = descr[0] == '>' && c10::elementSize(found->second) > 1;
}

/// The header's text, and where the data begin.
std::pair<std::string_view, std::size_t> npy_header_text(std::string_view content, const std::string& source) {
  if (!content.starts_with(kNpyMagic)) {
    const auto what = content.empty()                  ? " is empty; an array (.npy) was expected"
                      : content.starts_with("PK")      ? " is a zip archive (.npz); read it with read_npz"
                      : content[0] == '\x80'           ? " is a pickle, which is never loaded because it can run "
                                                         "code; save the array with np.save"
                      : kNpyMagic.starts_with(content) ? " ends within its first 6 bytes"
                                                       : " is no array (.npy): it does not begin with \\x93NUMPY";
    throw UsageError(source + what);
  }
  const auto byte = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<uint8_t>(content[at])); };
  const auto refuse_end = [&](std::size_t needed) {
    if (content.size() >= needed) return;
    throw UsageError(source + ": the file ends within its header, after " + std::to_string(content.size()) + " of " +
                     std::to_string(needed) + " bytes");
  };
  refuse_end(8);
  const auto major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    throw UsageError(source + " is of version " + std::to_string(major) + "." + std::to_string(minor) +
                     " of numpy's format; versions 1.0, 2.0 and 3.0 are read");
  }
  const std::size_t begin = major == 1 ? 10 : 12;
  refuse_end(begin);
  std::size_t length = byte(8) | byte(9) << 8;
  if (major > 1) length |= byte(10) << 16 | byte(11) << 24;
  // A long one describes a structured type, which its first bytes say.
  if (length <= kLongestNpyHeader) refuse_end(begin + length);
  return {content.substr(begin, std::min(length, kLongestNpyHeader)), begin + length};
}

/// Bytes of the array; nothing if no memory has so many.
std::optional<std::size_t> npy_bytes(const std::vector<int64_t>& shape, std::size_t element) {
  int64_t stretch = static_cast<int64_t>(element);  // with 1 for sizes of 0: strides must not overflow either
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(stretch, std::max<int64_t>(1, size), &stretch)) return std::nullopt;
  }
  return std::ranges::find(shape, 0) == shape.end() ? static_cast<std::size_t>(stretch) : 0;
}

}  // namespace

std::vector<int64_t> NpyHeader::strides() const {
  std::vector<int64_t> out(shape.size());
  int64_t stride = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t dimension = fortran_order ? i : shape.size() - 1 - i;
    out[dimension] = stride;
    stride *= std::max<int64_t>(1, shape[dimension]);
  }
  return out;
}

NpyHeader parse_npy_header(std::span<const std::byte> content, const std::string& source) {
  const std::string_view all(reinterpret_cast<const char*>(content.data()), content.size());
  const auto [text, data_offset] = npy_header_text(all, source);
  auto dictionary = NpyHeaderParser(text, source).parse();
  NpyHeader header;
  set_npy_type(header, dictionary.descr, source);
  header.fortran_order = dictionary.fortran_order;
  header.shape = std::move(dictionary.shape);
  header.data_offset = data_offset;
  const auto described = "[" + joined(header.shape) + "] of " + c10::toString(header.dtype);
  const auto bytes = npy_bytes(header.shape, c10::elementSize(header.dtype));
  if (!bytes) throw UsageError(source + ": its header gives the shape " + described + ", which no memory can hold");
  const auto found = all.size() - std::min(all.size(), data_offset);
  if (found != *bytes) {
    throw UsageError(source + ": the array " + described + " takes " + std::to_string(*bytes) + " bytes, " +
                     std::to_string(found) + " follow the header" +
                     (found < *bytes ? "; the file is cut off"
                                     : "; a file of several np.save calls is not read, use np.savez for them"));
  }
  header.data_bytes = *bytes;
  return header;
}

}  // namespace troupe
