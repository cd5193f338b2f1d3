#include "troupe/base/failure.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/checkpoint_source.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/tensor_values.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <set>

namespace troupe::command {
namespace {

struct DiffOptions {
  bool weights = false;
  bool json = false;
};
TROUPE_OPTIONS(DiffOptions, (weights, "compare parameters and buffers only"), (json, "print one JSON object"))

struct OtherKind {
  std::string name, left, right;  ///< "F32 [2, 3]"
};

struct OtherValues {
  std::string name;
  int64_t differing = 0, of = 0;
  double largest = 0;
  std::string first, left, right;  ///< index, and the values there
};

struct OtherMetadata {
  std::string key, left, right;  ///< "progress/epoch"; JSON, empty if it is not there
};

struct CheckpointDifference {
  std::vector<std::string> only_left, only_right;
  std::vector<OtherKind> kinds;
  std::vector<OtherValues> values;
  std::vector<OtherMetadata> metadata;

  bool any() const {
    return !(only_left.empty() && only_right.empty() && kinds.empty() && values.empty() && metadata.empty());
  }
};

std::string value_at(const torch::Tensor& tensor, int64_t position) {
  const auto type = tensor.scalar_type();
  if (type == torch::kFloat4_e2m1fn_x2 || c10::isBitsType(type)) {  // two values an element; no kernels
    return double_to_text(as_double(tensor).flatten()[position].item<double>());
  }
  const auto value = tensor.flatten()[position];
  if (!value.is_complex()) {
    return value.is_floating_point() ? double_to_text(as_double(value).item<double>())
                                     : std::to_string(value.to(torch::kLong).item<int64_t>());
  }
  const auto parts = torch::view_as_real(as_double(value));
  return double_to_text(parts[0].item<double>()) + "+" + double_to_text(parts[1].item<double>()) + "i";
}

void compare_tensors(const CheckpointSource& left, const SourceEntry& a, const CheckpointSource& right,
                     const SourceEntry& b, CheckpointDifference& out) {
  if (kind_of(a) != kind_of(b)) {
    out.kinds.push_back({a.name, kind_of(a), kind_of(b)});
    return;
  }
  const auto x = left.read_unverified(a), y = right.read_unverified(b);
  const auto found = difference(x, y);
  if (found.differing.count == 0) return;
  const auto first = found.differing.first;
  out.values.push_back({a.name, found.differing.count, x.numel(), found.largest, index_text(first, x),
                        value_at(x, first), value_at(y, first)});
}

/// The leaves of the metadata by their places; when a file was saved is left aside.
nlohmann::json leaves_of(nlohmann::json metadata) {
  metadata.erase(metadata_key::saved_at);
  return metadata.empty() ? nlohmann::json::object() : metadata.flatten();
}

void compare_metadata(const nlohmann::json& left, const nlohmann::json& right, CheckpointDifference& out) {
  std::set<std::string> keys;
  for (const auto& [key, value] : left.items()) keys.insert(key);
  for (const auto& [key, value] : right.items()) keys.insert(key);
  const auto text = [](const nlohmann::json& leaves, const std::string& key) {
    return leaves.contains(key) ? leaves[key].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : "";
  };
  for (const auto& key : keys) {
    const auto a = text(left, key), b = text(right, key);
    if (a != b) out.metadata.push_back({key.substr(key.starts_with('/') ? 1 : 0), a, b});
  }
}

CheckpointDifference compare(const CheckpointSource& left, const CheckpointSource& right, const DiffOptions& options) {
  CheckpointDifference out;
  const auto counts = [&](const SourceEntry& entry) { return !options.weights || entry.weight; };
  for (const auto& entry : left.entries()) {
    if (!counts(entry)) continue;
    const auto* other = right.counterpart(entry);
    if (other) {
      compare_tensors(left, entry, right, *other, out);
    } else {
      out.only_left.push_back(entry.name);
    }
  }
  for (const auto& entry : right.entries()) {
    if (counts(entry) && !left.counterpart(entry)) out.only_right.push_back(entry.name);
  }
  const bool have_one_form = left.is_checkpoint() == right.is_checkpoint() && left.is_pth() == right.is_pth();
  if (!options.weights && have_one_form) {
    compare_metadata(leaves_of(left.metadata()), leaves_of(right.metadata()), out);
  }
  return out;
}

std::string cut(const std::string& text) {
  return text.empty() ? "(not there)" : shown(text);
}

std::string text_of(const CheckpointDifference& found, const std::string& left, const std::string& right,
                    const Screen& screen) {
  std::string out;
  const auto head = [&](const std::string& text) {
    out += (out.empty() ? "" : "\n") + screen.styled(text, Style::strong) + "\n";
  };
  const auto list = [&](const std::vector<std::string>& names, const std::string& where) {
    if (names.empty()) return;
    head("only in " + shown(where));
    for (const auto& name : names) out += "  " + single_line(name) + "\n";
  };
  list(found.only_left, left);
  list(found.only_right, right);
  if (!found.kinds.empty()) {
    head("other type or shape");
    for (const auto& kind : found.kinds)
      out += "  " + single_line(kind.name + ": " + kind.left + " | " + kind.right) + "\n";
  }
  if (!found.values.empty()) {
    head("other values");
    std::vector<std::vector<Cell>> rows;
    for (const auto& one : found.values) {
      rows.push_back({{single_line(one.name)},
                      {std::to_string(one.differing) + " of " + std::to_string(one.of)},
                      {metric_text(one.largest)},
                      {one.first},
                      {one.left + " | " + one.right}});
    }
    out += table({{"tensor", false, 16}, {"differ", true}, {"largest", true}, {"first at"}, {"values there"}}, rows,
                 screen);
  }
  if (!found.metadata.empty()) {
    head("other metadata");
    for (const auto& one : found.metadata) {
      out += "  " + single_line(one.key) + ": " + cut(one.left) + " | " + cut(one.right) + "\n";
    }
  }
  return out;
}

nlohmann::json json_of(const CheckpointDifference& found) {
  nlohmann::json out = {{"only_left", found.only_left}, {"only_right", found.only_right}};
  out["kinds"] = out["values"] = out["metadata"] = nlohmann::json::array();
  for (const auto& one : found.kinds)
    out["kinds"].push_back({{"name", one.name}, {"left", one.left}, {"right", one.right}});
  for (const auto& one : found.values) {
    out["values"].push_back({{"name", one.name},
                             {"differing", one.differing},
                             {"of", one.of},
                             {"largest", number_to_json(one.largest)},
                             {"first", one.first},
                             {"left", one.left},
                             {"right", one.right}});
  }
  const auto parsed = [](const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json::parse(text);
  };
  for (const auto& one : found.metadata) {
    out["metadata"].push_back({{"key", one.key}, {"left", parsed(one.left)}, {"right", parsed(one.right)}});
  }
  return out;
}

int diff(const std::vector<std::string>& paths, const DiffOptions& options, const Screen& screen) {
  const CheckpointSource left(paths[0]), right(paths[1]);
  const auto found = compare(left, right, options);
  screen.print(options.json ? json_of(found).dump(1) + "\n" : text_of(found, paths[0], paths[1], screen));
  return found.any() ? failed : succeeded;
}

}  // namespace

Command checkpoint_diff_command() {
  const auto options = std::make_shared<DiffOptions>();
  return {.name = "checkpoint diff",
          .summary = "say how two checkpoints differ",
          .arguments = {"A B", 2, 2, Completion::weights},
          .text =
              "Names the tensors that only one of them has and those of other type or shape. For tensors with other\n"
              "values: how many differ, the largest absolute difference, and the first that differs. Then the\n"
              "metadata that differ, without the time of saving. NaN equals NaN. Ends with 1 if they differ, as diff\n"
              "does, and prints nothing if they do not. One tensor of each file is in memory at a time. Weights of\n"
              "other programs may take the place of either: parameters and buffers are compared by the names that\n"
              "they have in the module, and metadata if both files are of one form.",
          .examples = {{"a.safetensors b.safetensors", "all differences"},
                       {"a.safetensors b.safetensors --weights && echo same", "whether two models are the same"},
                       {"last.safetensors digits.pth --weights", "what was converted, or trained in Python"}},
          .options = option_refs(*options),
          .values = {},
          .letters = {},
          .run = [options](const auto& paths, const Screen& screen) { return diff(paths, *options, screen); }};
}

}  // namespace troupe::command
