#include "troupe/runtime/data/mnist.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/text_encoding.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

namespace {

constexpr int64_t kSide = 28;
constexpr int64_t kPixels = kSide * kSide;
constexpr int64_t kLabels = 10;
constexpr std::size_t kColumns = kPixels + 1;  // of a CSV

std::optional<torch::ScalarType> idx_type(uint8_t code) {
  switch (code) {
    case 0x08: return torch::kUInt8;
    case 0x09: return torch::kInt8;
    case 0x0B: return torch::kInt16;
    case 0x0C: return torch::kInt32;
    case 0x0D: return torch::kFloat32;
    case 0x0E: return torch::kFloat64;
    default: return std::nullopt;
  }
}

std::string hex(const std::vector<uint8_t>& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (const uint8_t byte : bytes) out += {digits[byte >> 4], digits[byte & 15]};
  return out;
}

/// Turns big-endian elements of `width` bytes into little-endian ones.
void reverse_elements(std::vector<uint8_t>& bytes, std::size_t width) {
  if (width == 1) return;
  for (std::size_t i = 0; i + width <= bytes.size(); i += width) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + width));
  }
}

/// The dimensions of an IDX file, whose product times `width` is at most `most_bytes`.
std::vector<int64_t> read_shape(GzFile& file, int64_t dimensions, int64_t width, int64_t most_bytes) {
  const auto bytes = file.read_exactly(static_cast<std::size_t>(dimensions) * 4, "dimensions");
  std::vector<int64_t> shape;
  int64_t total = width;
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    const int64_t size = (int64_t{bytes[i]} << 24) | (int64_t{bytes[i + 1]} << 16) | (int64_t{bytes[i + 2]} << 8) |
                         int64_t{bytes[i + 3]};
    shape.push_back(size);
    if (size > 0 && total > most_bytes / size) {
      throw UsageError(file.path().string() + ": dimension " + std::to_string(shape.size()) + " at offset " +
                       std::to_string(i + 4) + " is " + std::to_string(size) + ", which makes more than " +
                       std::to_string(most_bytes) + " bytes of data");
    }
    total *= std::max<int64_t>(1, size);
  }
  return shape;
}

/// The tensor takes over the bytes.
torch::Tensor tensor_from(std::vector<uint8_t> bytes, const std::vector<int64_t>& shape, torch::ScalarType type) {
  auto* owner = new std::vector<uint8_t>(std::move(bytes));
  return torch::from_blob(
      owner->data(), shape, [owner](void*) { delete owner; }, torch::TensorOptions(type));
}

std::filesystem::path find_idx(const std::filesystem::path& folder, const std::string& stem, const std::string& kind) {
  std::error_code ignored;
  for (const char* separator : {"-", "."}) {
    for (const char* ending : {"", ".gz"}) {
      const auto path = folder / (stem + separator + kind + ending);
      if (std::filesystem::is_regular_file(path, ignored)) return path;
    }
  }
  throw UsageError("no " + stem + "-" + kind + " and no " + stem + "-" + kind + ".gz in " + folder.string() +
                   ": MNIST's own files were expected there");
}

void check_labels(const torch::Tensor& labels, const std::filesystem::path& path) {
  if (labels.numel() == 0) return;
  const auto largest = labels.argmax().item<int64_t>();
  if (labels[largest].item<int64_t>() < kLabels) return;
  throw UsageError(path.string() + ": label " + std::to_string(largest) + " is " +
                   std::to_string(labels[largest].item<int64_t>()) + "; 0 to 9 were expected");
}

std::string size_and_type_text(const torch::Tensor& tensor) {
  return "[" + joined(tensor.sizes()) + "] of " + c10::toString(tensor.scalar_type());
}

/// Reads the numbers of one row into `values`.
void read_row(std::string_view line, std::array<uint8_t, kColumns>& values, const std::string& where) {
  const char* at = line.data();
  const char* const end = at + line.size();
  for (std::size_t column = 0; column < values.size(); ++column) {
    int value = -1;
    const auto [stop, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value < 0 || value > 255 || (stop != end && *stop != ',')) {
      const std::string found(at, std::min(std::find(at, end, ','), at + std::min<std::ptrdiff_t>(end - at, 20)));
      throw UsageError(where + " column " + std::to_string(column + 1) + " is '" + shown(found) +
                       "'; a whole number from 0 to 255 was expected");
    }
    values[column] = static_cast<uint8_t>(value);
    const bool ended = stop == end;
    if (ended != (column + 1 == values.size())) {
      throw UsageError(where + " has " + (ended ? std::to_string(column + 1) : "more than 785") +
                       " values; 784 pixels and a label were expected");
    }
    at = ended ? stop : stop + 1;
  }
}

/// What a header calls a column, without quotes and in small letters.
std::string plain_name(std::string_view field) {
  std::string name;
  for (const char c : field) {
    if (c != '"' && c != ' ') name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return name;
}

/// Rows of a CSV as they come: which column the label is, is known when all are there.
class MnistRows {
 public:
  MnistRows(const std::filesystem::path& path, MnistCsvLabel label) : path_(path), label_(label) {}

  void add(std::string_view line) {
    ++row_;
    if (row_ == 1) line.remove_prefix(size_of_mark(line, path_.string(), "a table"));
    if (row_ == 1 && take_header(line)) return;
    read_row(line, values_, where(row_));
    for (const std::size_t side : {0u, 1u}) {
      const int value = side == 0 ? values_.front() : values_.back();
      most_[side] = std::max(most_[side], value);
      if (value < kLabels || bad_row_[side] > 0) continue;
      bad_row_[side] = row_;
      bad_value_[side] = value;
    }
    all_.insert(all_.end(), values_.begin(), values_.end());
  }

  MnistData take() {
    if (all_.empty()) throw UsageError(path_.string() + " has no row of 784 pixels and a label");
    const std::size_t side = label_side();
    if (bad_row_[side] > 0) refuse_label(side);
    const auto count = static_cast<int64_t>(all_.size() / kColumns);
    const auto rows = tensor_from(std::move(all_), {count, kPixels + 1}, torch::kUInt8);
    const auto pixels = rows.narrow(1, side == 0 ? 1 : 0, kPixels);
    return {pixels.reshape({count, kSide, kSide}), rows.select(1, side == 0 ? 0 : kPixels).to(torch::kInt64)};
  }

 private:
  std::string where(int64_t row) const { return path_.string() + ": row " + std::to_string(row); }

  /// Whether a line holds names, neither its first nor its last field being a number.
  bool take_header(std::string_view line) {
    const auto first = plain_name(line.substr(0, line.find(',')));
    const auto last = plain_name(line.substr(line.rfind(',') + 1));
    const auto is_name = [](const std::string& text) { return !text.empty() && text[0] >= 'a' && text[0] <= 'z'; };
    if (!is_name(first) || !is_name(last)) return false;
    const auto columns = static_cast<std::size_t>(std::ranges::count(line, ',')) + 1;
    if (columns != kColumns) {
      throw UsageError(where(row_) + " has " + std::to_string(columns) +
                       " names; those of 784 pixels and a label were expected");
    }
    const auto is_label = [](const std::string& text) {
      return text == "label" || text == "class" || text == "target";
    };
    if (label_ == MnistCsvLabel::detect && is_label(first) != is_label(last)) {
      label_ = is_label(first) ? MnistCsvLabel::first : MnistCsvLabel::last;
    }
    return true;
  }

  /// 0 for the first column, 1 for the last.
  std::size_t label_side() const {
    if (label_ != MnistCsvLabel::detect) return label_ == MnistCsvLabel::first ? 0 : 1;
    const bool first_is_blank = most_[0] == 0, last_is_blank = most_[1] == 0;
    if (first_is_blank && last_is_blank) {
      throw UsageError(path_.string() + ": column 1 and column 785 both may be the labels, since both are 0 in every " +
                       "row; say which with MnistCsvLabel::first or MnistCsvLabel::last");
    }
    if (first_is_blank || most_[0] >= kLabels) return 1;
    if (last_is_blank) return 0;
    if (most_[1] >= kLabels) return 1;  // which is refused
    throw UsageError(path_.string() + ": column 1 and column 785 both may be the labels, neither is a corner that is" +
                     " always 0; say which with MnistCsvLabel::first or MnistCsvLabel::last");
  }

  [[noreturn]] void refuse_label(std::size_t side) const {
    const std::size_t other = 1 - side;
    const std::string hint = bad_row_[other] > 0 || most_[other] == 0 ? ""
                             : side == 1 ? " (MnistCsvLabel::first says that the labels come first)"
                                         : " (MnistCsvLabel::last says that the labels come last)";
    throw UsageError(where(bad_row_[side]) + " column " + (side == 0 ? "1" : "785") + " is '" +
                     std::to_string(bad_value_[side]) + "'; a whole number from 0 to 9 was expected" + hint);
  }

  std::filesystem::path path_;
  MnistCsvLabel label_;
  int64_t row_ = 0;
  std::array<uint8_t, kColumns> values_{};
  std::vector<uint8_t> all_;
  // Of the first and the last column: the greatest value, and the first that is no label.
  std::array<int, 2> most_{};
  std::array<int64_t, 2> bad_row_{};
  std::array<int, 2> bad_value_{};
};

}  // namespace

torch::Tensor read_idx(const std::filesystem::path& path, int64_t most_bytes) {
  GzFile file(path);
  const auto magic = file.read_exactly(4, "an IDX header");
  const auto type = idx_type(magic[2]);
  if (magic[0] != 0 || magic[1] != 0 || !type || magic[3] < 1 || magic[3] > 8) {
    throw UsageError(path.string() +
                     " is not an IDX file: at offset 0 the bytes 0000, a type (08, 09, 0b to 0e) and 1 " +
                     "to 8 dimensions were expected, found " + hex(magic));
  }
  const auto width = static_cast<int64_t>(c10::elementSize(*type));
  const auto shape = read_shape(file, magic[3], width, most_bytes);
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  auto bytes = file.read_exactly(static_cast<std::size_t>(elements * width), "data");
  uint8_t more = 0;
  const int64_t end = file.offset();
  if (file.read(&more, 1) != 0) {
    throw UsageError(path.string() + ": the file goes on after offset " + std::to_string(end) +
                     ", where its header says that it ends");
  }
  reverse_elements(bytes, static_cast<std::size_t>(width));
  return tensor_from(std::move(bytes), shape, *type);
}

MnistData read_mnist(const std::filesystem::path& folder, MnistPart part) {
  const std::string stem = part == MnistPart::train ? "train" : "t10k";
  const auto images_path = find_idx(folder, stem + "-images", "idx3-ubyte");
  const auto labels_path = find_idx(folder, stem + "-labels", "idx1-ubyte");
  MnistData data{read_idx(images_path), read_idx(labels_path)};
  if (data.images.scalar_type() != torch::kUInt8 || data.images.dim() != 3 || data.images.size(1) != kSide ||
      data.images.size(2) != kSide) {
    throw UsageError(images_path.string() + " holds " + size_and_type_text(data.images) +
                     "; images [N, 28, 28] of Byte were expected");
  }
  const int64_t count = data.images.size(0);
  if (data.labels.scalar_type() != torch::kUInt8 || data.labels.dim() != 1 || data.labels.size(0) != count) {
    throw UsageError(labels_path.string() + " holds " + size_and_type_text(data.labels) + "; labels [" +
                     std::to_string(count) + "] of Byte were expected, one for each image");
  }
  check_labels(data.labels, labels_path);
  data.labels = data.labels.to(torch::kInt64);
  return data;
}

MnistData read_mnist_csv(const std::filesystem::path& path, MnistCsvLabel label) {
  GzFile file(path);
  MnistRows rows(path, label);
  for (std::string line; file.read_line(line, 16 * kColumns);) rows.add(line);
  if (file.offset() == 0) throw UsageError(path.string() + " is empty; rows of 784 pixels and a label were expected");
  return rows.take();
}

std::shared_ptr<TensorDataset> to_dataset(const MnistData& data) {
  return std::make_shared<TensorDataset>(data.images.unsqueeze(1).to(torch::kFloat32).div_(255), data.labels);
}

}  // namespace troupe
