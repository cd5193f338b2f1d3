#include "troupe/modules/callbacks/file_name_template.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace troupe {

namespace {

constexpr std::string_view file_extension = ".safetensors";
constexpr int widest = 32;
constexpr int most_precise = 17;
constexpr std::size_t longest_name = 200;  // file systems have 255; a temporary file's and "-v12" must fit too
// Beyond this, fixed notation would make names of up to 300 digits.
constexpr double largest_fixed = 1e15;
// The longest number: "-" and 15 digits, "." and 17 digits, or with an exponent.
constexpr std::size_t longest_number = 36;

bool is_counter(const std::string& name) {
  return name == "epoch" || name == "step";
}

bool is_unfit(char c) {
  return c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

std::string as_component(std::string name) {
  std::replace_if(name.begin(), name.end(), is_unfit, '_');
  return name;
}

// The digits at the start of `text`, which are taken off.
std::string_view take_digits(std::string_view& text) {
  std::size_t count = 0;
  while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
  const auto digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

// std::to_chars rather than printf: a program's locale must not put commas into file names.
std::string number_text(double value, char type, int precision) {
  if (!std::isfinite(value) || (type == 0 && precision < 0)) return double_to_text(value);
  auto notation = std::chars_format::general;
  if (type == 'e') notation = std::chars_format::scientific;
  if (type == 'f' && std::abs(value) < largest_fixed) notation = std::chars_format::fixed;
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, notation, precision < 0 ? 6 : precision).ptr;
  return {buffer, end};
}

std::string padded(std::string number, int width, bool zeros) {
  if (static_cast<int>(number.size()) >= width) return number;
  const std::size_t missing = static_cast<std::size_t>(width) - number.size();
  if (!zeros) return std::string(missing, ' ') + number;
  return number.insert(number.starts_with('-') ? 1 : 0, missing, '0');
}

}  // namespace

FileNameTemplate::FileNameTemplate(std::string text, bool insert_names) : text_(std::move(text)) {
  std::string_view rest = text_;
  if (rest.ends_with(file_extension)) rest.remove_suffix(file_extension.size());
  if (rest.empty()) refuse("is empty");
  if (!is_utf8(rest)) refuse("is not UTF-8 text");
  while (!rest.empty()) {
    const auto open = std::min(rest.find_first_of("{}"), rest.size());
    Piece piece{std::string(rest.substr(0, open)), {}};
    if (piece.before.find('/') != std::string::npos) refuse("has a '/': the folder is set by dirpath");
    if (std::any_of(piece.before.begin(), piece.before.end(), is_unfit)) refuse("has a control character");
    rest.remove_prefix(open);
    if (!rest.empty()) {
      const auto close = rest.find('}');
      if (rest[0] == '}') refuse("has a '}' without a '{'");
      if (close == std::string_view::npos) refuse("has a '{' without a '}'");
      piece.field = parse_field(std::string(rest.substr(1, close - 1)));
      if (insert_names) piece.before += as_component(piece.field.name) + "=";
      rest.remove_prefix(close + 1);
    }
    pieces_.push_back(std::move(piece));
  }
  check_length();
}

FileNameTemplate::Field FileNameTemplate::parse_field(const std::string& inside) const {
  Field field;
  const auto colon = inside.find(':');
  field.name = inside.substr(0, colon);
  if (field.name.empty()) refuse("has a field without a name");
  if (field.name.find('{') != std::string::npos) refuse("has a '{' inside of a field");
  if (colon == std::string::npos) return field;

  std::string_view format = std::string_view(inside).substr(colon + 1);
  const auto wrong = [&] {
    refuse("has the field {" + shown(inside) + "}; use forms like {" + shown(field.name) + "}, " +
           (is_counter(field.name) ? "{" + field.name + ":03d}" : "{" + shown(field.name) + ":.2f}"));
  };
  const auto number = [&](std::string_view digits, int largest) {
    const auto value = number_from_text<int>(digits);
    if (!value || *value > largest) wrong();
    return *value;
  };
  if (format.starts_with('0')) {
    field.zero_padded = true;
    format.remove_prefix(1);
  }
  if (const auto digits = take_digits(format); !digits.empty()) field.width = number(digits, widest);
  if (format.starts_with('.')) {
    format.remove_prefix(1);
    field.precision = number(take_digits(format), most_precise);
  }
  if (format.size() > 1 || (format.size() == 1 && std::string_view("dfeg").find(format[0]) == std::string_view::npos)) {
    wrong();
  }
  if (!format.empty()) field.type = format[0];
  const bool is_integer = field.type == 'd' || (field.type == 0 && is_counter(field.name));
  if (is_integer && (!is_counter(field.name) || field.precision >= 0)) wrong();
  return field;
}

void FileNameTemplate::check_length() const {
  std::size_t longest = 0;
  for (const auto& [before, field] : pieces_) {
    longest += before.size();
    if (!field.name.empty()) longest += std::max<std::size_t>(static_cast<std::size_t>(field.width), longest_number);
  }
  if (longest > longest_name) {
    refuse("gives file names of up to " + std::to_string(longest) + " bytes; use at most " +
           std::to_string(longest_name));
  }
}

std::string FileNameTemplate::format(const Progress& progress,
                                     const std::function<double(const std::string&)>& value_of) const {
  std::string name;
  for (const auto& [before, field] : pieces_) {
    name += before;
    if (!field.name.empty()) name += formatted(field, progress, value_of);
  }
  return name;
}

std::string FileNameTemplate::formatted(const Field& field, const Progress& progress,
                                        const std::function<double(const std::string&)>& value_of) const {
  std::string number;
  if (is_counter(field.name) && (field.type == 0 || field.type == 'd')) {
    number = std::to_string(field.name == "epoch" ? progress.epoch : progress.global_step);
  } else if (is_counter(field.name)) {
    const int64_t count = field.name == "epoch" ? progress.epoch : progress.global_step;
    number = number_text(static_cast<double>(count), field.type, field.precision);
  } else {
    number = number_text(value_of(field.name), field.type, field.precision);
  }
  return padded(std::move(number), field.width, field.zero_padded);
}

void FileNameTemplate::refuse(const std::string& why) const {
  throw UsageError("ModelCheckpoint: filename = '" + shown(text_) + "' " + why);
}

}  // namespace troupe
