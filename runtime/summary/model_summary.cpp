#include "troupe/runtime/summary/model_summary.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/summary/eval_scope.hpp"
#include "troupe/runtime/summary/module_type_name.hpp"
#include "troupe/runtime/summary/shape_recorder.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_set>
#include <utility>

namespace troupe {
namespace {

/// Counts parameters, each once.
class Counter {
 public:
  void add(const torch::nn::Module& module, bool recurse = true) {
    for (const auto& parameter : module.parameters(recurse)) {
      if (!parameter.defined() || !seen_.insert(parameter.unsafeGetTensorImpl()).second) continue;
      total += parameter.numel();
      bytes += parameter.numel() * static_cast<int64_t>(parameter.element_size());
      if (parameter.requires_grad()) trainable += parameter.numel();
    }
  }
  int64_t total = 0, trainable = 0, bytes = 0;

 private:
  std::unordered_set<const c10::TensorImpl*> seen_;
};

/// The modules to show, parents before children; one that is reached twice is shown once.
class ModuleListing {
 public:
  ModuleListing(const torch::nn::Module& root, int max_depth) { add_children(root, "", max_depth); }
  std::vector<std::pair<std::string, const torch::nn::Module*>> modules;

 private:
  void add_children(const torch::nn::Module& parent, const std::string& prefix, int levels) {
    if (levels == 0) return;
    for (const auto& child : parent.named_children()) {
      if (!child.value() || !seen_.insert(child.value().get()).second) continue;
      modules.emplace_back(prefix + child.key(), child.value().get());
      add_children(*child.value(), prefix + child.key() + ".", levels - 1);
    }
  }
  std::unordered_set<const torch::nn::Module*> seen_;
};

void count_modules(const torch::nn::Module& root, ModuleSummary& summary) {
  for (const auto& [name, module] : ModuleListing(root, -1).modules) {
    ++(module->is_training() ? summary.modules_in_train_mode : summary.modules_in_eval_mode);
  }
}

LayerRow make_row(const std::string& name, const torch::nn::Module& module) {
  Counter counter;
  counter.add(module);
  return {.name = name,
          .type = module_type_name(module),
          .parameters = counter.total,
          .training = module.is_training(),
          .in = std::nullopt,
          .out = std::nullopt};
}

using Table = std::vector<std::vector<std::string>>;

std::string shape_cell(const std::optional<Shape>& shape) {
  return shape ? "[" + joined(*shape) + "]" : "?";
}

Table make_table(const ModuleSummary& summary) {
  Table table{{"", "Name", "Type", "Params", "Mode"}};
  if (summary.has_shapes) table[0].insert(table[0].end(), {"In sizes", "Out sizes"});
  for (const LayerRow& row : summary.rows) {
    std::vector<std::string> line{std::to_string(table.size() - 1), single_line(row.name), row.type,
                                  human_count(row.parameters), row.training ? "train" : "eval"};
    if (summary.has_shapes) line.insert(line.end(), {shape_cell(row.in), shape_cell(row.out)});
    table.push_back(std::move(line));
  }
  if (summary.other_parameters > 0) {
    table.push_back({" ", "other params", "n/a", human_count(summary.other_parameters), "n/a"});
    if (summary.has_shapes) table.back().insert(table.back().end(), {"n/a", "n/a"});
  }
  return table;
}

std::vector<std::string> align(const Table& table) {
  std::vector<int> widths(table[0].size());
  for (const auto& line : table) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], columns(line[i]));
  }
  std::vector<std::string> lines;
  for (const auto& cells : table) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : " | ") + pad_columns(cells[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string megabytes(int64_t bytes) {
  std::array<char, 64> text;
  auto end = std::to_chars(text.data(), text.data() + text.size(), static_cast<double>(bytes) * 1e-6,
                           std::chars_format::fixed, 3);
  return {text.data(), end.ptr};
}

std::string footer(const ModuleSummary& summary) {
  const std::pair<std::string, std::string> lines[] = {
      {human_count(summary.trainable_parameters), "Trainable params"},
      {human_count(summary.total_parameters - summary.trainable_parameters), "Non-trainable params"},
      {human_count(summary.total_parameters), "Total params"},
      {megabytes(summary.bytes), "Total estimated model params size (MB)"},
      {std::to_string(summary.modules_in_train_mode), "Modules in train mode"},
      {std::to_string(summary.modules_in_eval_mode), "Modules in eval mode"}};
  std::string text;
  for (const auto& [number, meaning] : lines) text += pad_columns(number, 9) + " " + meaning + "\n";
  return text;
}

}  // namespace

ModuleSummary summarize(torch::nn::Module& module, const std::function<void()>& run_forward, int max_depth) {
  if (max_depth < -1) {
    throw UsageError("the depth of a model summary must be at least -1 (all levels), got " + std::to_string(max_depth));
  }
  ModuleSummary summary;
  Counter all, shown;
  all.add(module);
  summary.total_parameters = all.total;
  summary.trainable_parameters = all.trainable;
  summary.bytes = all.bytes;
  count_modules(module, summary);
  ModuleListing listing(module, max_depth);
  for (const auto& [name, layer] : listing.modules) {
    summary.rows.push_back(make_row(name, *layer));
    shown.add(*layer);
  }
  if (!summary.rows.empty()) summary.other_parameters = all.total - shown.total;
  if (!run_forward) return summary;

  ShapeRecorder recorder(module);
  {
    EvalScope scope(module);
    recorder.watch(run_forward);
  }
  summary.has_shapes = true;
  for (std::size_t i = 0; i < summary.rows.size(); ++i) {
    auto [first, last] = recorder.span_of(*listing.modules[i].second);
    if (first) summary.rows[i].in = first->in;
    if (last) summary.rows[i].out = last->out;
  }
  return summary;
}

std::string human_count(int64_t count) {
  constexpr std::array<const char*, 5> kUnits{"", " K", " M", " B", " T"};
  if (count < 1000) return std::to_string(count);
  // In integers, so that 999,999 stays 999 K; above 100 of a unit its tenths are left out.
  std::size_t unit = 0;
  int64_t scale = 1;
  while (count / scale >= 1000 && unit + 1 < kUnits.size()) {
    scale *= 1000;
    ++unit;
  }
  std::string tenths = count / scale >= 100 ? "" : "." + std::to_string(count / (scale / 10) % 10);
  return std::to_string(count / scale) + tenths + kUnits[unit];
}

std::string to_text(const ModuleSummary& summary) {
  std::string text;
  if (!summary.rows.empty()) {
    auto lines = align(make_table(summary));
    int width = 0;
    for (const auto& line : lines) width = std::max(width, columns(line));
    std::string rule(static_cast<std::size_t>(width), '-');
    text = lines[0] + "\n" + rule + "\n";
    for (std::size_t i = 1; i < lines.size(); ++i) text += lines[i] + "\n";
    text += rule + "\n";
  }
  return text + footer(summary);
}

}  // namespace troupe
