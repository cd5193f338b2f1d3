#include "troupe/launch/command/new_project.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/version.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/run_dir.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <numbers>
#include <random>
#include <system_error>

namespace troupe::command {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_name = 60;

bool is_taken(std::string_view name) {
  static constexpr std::array taken = {
      // Words of C++20.
      "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char",
      "char16_t", "char32_t", "char8_t", "class", "co_await", "co_return", "co_yield", "compl", "concept", "const",
      "const_cast", "consteval", "constexpr", "constinit", "continue", "decltype", "default", "delete", "do", "double",
      "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if",
      "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or",
      "or_eq", "private", "protected", "public", "register", "reinterpret_cast", "requires", "return", "short",
      "signed", "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template", "this",
      "thread_local", "throw", "true", "try", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual",
      "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
      // Targets of CMake's, LibTorch's and Troupe's, and a name that every module has.
      "all", "clean", "depend", "edit_cache", "help", "install", "list_install_components", "package", "package_source",
      "rebuild_cache", "test", "c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda", "torch_library", "troupe",
      "options"};
  return std::ranges::find(taken, name) != taken.end();
}

/// Points of three arms of a spiral, with the arm: the same on every machine.
std::string spiral(int rows, uint32_t seed) {
  std::mt19937 random(seed);
  std::string out = "x,y,arm\n";
  for (int i = 0; i < rows; ++i) {
    const int arm = i % 3;
    const double radius = 0.1 + 0.9 * (i / 3 + 1) / (rows / 3);
    const double blur = 0.4 * (static_cast<double>(random()) / 4294967296.0 - 0.5);
    const double angle = 2 * std::numbers::pi / 3 * arm + 3.5 * radius + blur;
    std::array<char, 64> line{};
    (void)std::snprintf(line.data(), line.size(), "%.4f,%.4f,%d\n", radius * std::cos(angle), radius * std::sin(angle),
                        arm);
    out += line.data();
  }
  return out;
}

/// The folder below which this program is installed, if it is; empty in a build folder.
fs::path prefix_of_this_program() {
  std::error_code error;
  // bin/troupe, or in Debian's package lib/troupe/troupe.
  for (auto folder = fs::read_symlink("/proc/self/exe", error).parent_path(); folder.has_relative_path();) {
    folder = folder.parent_path();
    if (fs::exists(folder / package_folder / "troupeConfig.cmake", error)) return folder;
  }
  return {};
}

/// CMake looks into /usr and /usr/local by itself.
std::string configure_command() {
  const auto prefix = prefix_of_this_program();
  if (prefix == "/usr" || prefix == "/usr/local") return "cmake -B build";
  return "cmake -B build -DCMAKE_PREFIX_PATH=\"" + (prefix.empty() ? "PREFIX OF TROUPE" : prefix.string()) + "\"";
}

void write(const fs::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) throw std::system_error(errno, std::generic_category(), "cannot write '" + shown(path.string()) + "'");
}

std::string filled(std::string_view text, const std::map<std::string, std::string, std::less<>>& values) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto begin = text.find('@', at);
    const auto end = begin == std::string_view::npos ? begin : text.find('@', begin + 1);
    const auto value =
        end == std::string_view::npos ? values.end() : values.find(text.substr(begin + 1, end - begin - 1));
    if (value == values.end()) {
      const auto next = begin == std::string_view::npos ? text.size() : begin + 1;
      out += text.substr(at, next - at);
      at = next;
    } else {
      out.append(text.substr(at, begin - at)).append(value->second);
      at = end + 1;
    }
  }
  return out;
}

void check_name(const std::string& name) {
  const auto nearest = nearest_project_name(name);
  if (name == nearest) return;
  const auto why = is_taken(name)
                       ? " is taken by C++, CMake or LibTorch"
                       : " cannot be a program and a class: letters, digits and single '_', a letter first, " +
                             std::to_string(longest_name) + " at most";
  throw UsageError("the name '" + shown(name) + "'" + why + "; did you mean " + nearest + "?");
}

void make_folder(const std::string& name) {
  std::error_code error;
  if (fs::create_directory(name, error)) return;
  if (error) throw UsageError("cannot make the folder '" + name + "': " + error.message());
  int number = 2;
  while (fs::exists(fs::symlink_status(name + "_" + std::to_string(number)))) ++number;
  throw UsageError("there is a folder '" + name + "' already, and nothing was written; " + name + "_" +
                   std::to_string(number) + " is free");
}

int make_project(const std::string& name, const Screen& screen) {
  check_name(name);
  if (fs::exists(fs::symlink_status(name)) && !fs::is_directory(name)) {
    throw UsageError("there is a file '" + name + "' already, and nothing was written");
  }
  make_folder(name);
  const std::string version = library_version;
  const auto class_name = class_of_project(name);
  const auto configure = configure_command();
  const std::map<std::string, std::string, std::less<>> values{{"name", name},
                                                               {"class", class_name},
                                                               {"run", snake_case_class_name(class_name)},
                                                               {"version", version.substr(0, version.rfind('.'))},
                                                               {"configure", configure}};
  try {
    for (const auto& [file, text] : project_files()) write(fs::path(name) / file, filled(text, values));
    fs::create_directory(fs::path(name) / "data");
    write(fs::path(name) / "data" / "train.csv", spiral(300, 1));
    write(fs::path(name) / "data" / "test.csv", spiral(150, 2));
  } catch (...) {
    std::error_code error;
    fs::remove_all(name, error);
    throw;
  }
  screen.print("made " + name + "; README.md says what is in it. To build, train and test:\n\n  cd " + name + "\n  " +
               configure + "\n  cmake --build build\n  build/" + name + " fit --config config.toml\n  build/" + name +
               " test --config config.toml --ckpt_path best\n");
  return succeeded;
}

}  // namespace

std::string nearest_project_name(std::string_view name) {
  if (const auto slash = name.find_last_of('/'); slash != std::string_view::npos && slash + 1 < name.size()) {
    name = name.substr(slash + 1);
  }
  std::string out;
  for (const unsigned char c : name.substr(0, longest_name)) {
    const bool fits = c < 128 && std::isalnum(c);
    if (fits || (!out.empty() && out.back() != '_')) out += fits ? static_cast<char>(c) : '_';
  }
  if (!name.ends_with('_') && out.ends_with('_')) out.pop_back();
  if (out.empty()) return "my_project";
  if (std::isdigit(static_cast<unsigned char>(out[0])) || is_taken(out)) {
    out = ("my_" + out).substr(0, longest_name);
  }
  return out;
}

std::string class_of_project(std::string_view name) {
  std::string out;
  for (std::size_t at = 0; at < name.size();) {
    const auto end = std::min(name.find('_', at), name.size());
    auto part = std::string(name.substr(at, end - at));
    const bool shouts = part.size() > 1 && std::ranges::none_of(part, [](unsigned char c) { return std::islower(c); });
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto c = static_cast<unsigned char>(part[i]);
      if (i == 0)
        part[i] = static_cast<char>(std::toupper(c));
      else if (shouts)
        part[i] = static_cast<char>(std::tolower(c));  // EOF and others are macros
    }
    out += part;
    at = end + 1;
  }
  return out;
}

Command new_command() {
  return {.name = "new",
          .summary = "make a project that builds and trains at once",
          .arguments = {"NAME", 1, 1},
          .text =
              "Makes the folder NAME with a program that trains a network on a small table: a\n"
              "module, a data module over the files in data/, options, tests and a README.md.\n"
              "NAME becomes the program and, capitalised, the class of the module: my_net is\n"
              "MyNet. Replace the table by files of your own, and the network by yours.",
          .examples = {{"my_net", "then: cd my_net, and what it prints"}},
          .run = [](const auto& arguments, const Screen& screen) { return make_project(arguments[0], screen); }};
}

}  // namespace troupe::command
