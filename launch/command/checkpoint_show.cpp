#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/checkpoint_source.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

namespace troupe::command {
namespace {

struct ShowOptions {
  bool json = false;
};
TROUPE_OPTIONS(ShowOptions, (json, "print one JSON object, with all metadata"))

struct TensorGroup {
  int64_t tensors = 0, values = 0;
  uint64_t bytes = 0;
};

/// "model", "optimizer.0", "metric", ...: of which a tensor is.
std::string group_of(const CheckpointSource& source, const SourceEntry& entry) {
  if (!source.is_checkpoint() && entry.weight) return "weights";
  const auto& name = entry.name;
  const auto point = name.find('.');
  const auto first = name.substr(0, point);
  return first == "optimizer" && point != std::string::npos ? name.substr(0, name.find('.', point + 1)) : first;
}

std::map<std::string, TensorGroup> groups_of(const CheckpointSource& source) {
  std::map<std::string, TensorGroup> groups;
  for (const auto& entry : source.entries()) {
    auto& group = groups[group_of(source, entry)];
    ++group.tensors;
    if (entry.tied_to.empty()) group.values += element_count(entry.shape);
    group.bytes += entry.bytes;
  }
  return groups;
}

nlohmann::json json_of(const CheckpointSource& source) {
  nlohmann::ordered_json out = {{"file", valid_utf8(source.path().string())},
                                {"format_version", nullptr},
                                {"groups", nlohmann::json::object()},
                                {"tensors", nlohmann::json::array()},
                                {"metadata", source.metadata()}};
  if (source.is_checkpoint()) out["format_version"] = source.format_version();
  for (const auto& [name, group] : groups_of(source)) {
    out["groups"][name] = {{"tensors", group.tensors}, {"values", group.values}, {"bytes", group.bytes}};
  }
  for (const auto& entry : source.entries()) {
    nlohmann::ordered_json tensor = {
        {"name", entry.name}, {"dtype", entry.dtype_name}, {"shape", entry.shape}, {"bytes", entry.bytes}};
    if (entry.place) tensor["data_offsets"] = {entry.place->first, entry.place->second};
    if (!entry.file.empty()) tensor["file"] = entry.file;
    if (!entry.tied_to.empty()) tensor["tied_to"] = entry.tied_to;
    out["tensors"].push_back(std::move(tensor));
  }
  return out;
}

std::string one_line(const nlohmann::json& value) {
  return single_line(value.is_string() ? value.get<std::string>()
                                       : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

/// A value that may be of any size: what is long is counted.
std::string brief_line(const nlohmann::json& value) {
  constexpr std::size_t most = 500;
  auto text = one_line(value);
  if (text.size() <= most) return text;
  if (!value.is_structured()) return fit_columns(text, most) + "…";
  return (value.is_array() ? "a list of " : "a dictionary of ") + std::to_string(value.size());
}

/// What is known of the run, a line each; keys that are missing or of another type are left out.
std::vector<std::pair<std::string, std::string>> facts_of(const CheckpointSource& source) {
  std::vector<std::pair<std::string, std::string>> facts;
  const auto& metadata = source.metadata();
  facts.emplace_back("format", source.format());
  if (source.is_pth()) {
    for (const auto& [key, value] : metadata.items()) facts.emplace_back(single_line(key), brief_line(value));
    return facts;
  }
  const auto saved_at = metadata.find(metadata_key::saved_at);
  if (saved_at != metadata.end() && saved_at->is_number())
    facts.emplace_back("saved", time_text(saved_at->get<double>()));
  for (const char* key :
       {"run", "progress", "hparams", "datamodule_hparams", "world_size", "lr_schedulers", "grad_scaler", "merged"}) {
    if (metadata.contains(key) && !metadata[key].empty()) facts.emplace_back(key, one_line(metadata[key]));
  }
  return facts;
}

std::vector<std::pair<std::string, std::string>> states_of(const CheckpointSource& source) {
  std::vector<std::pair<std::string, std::string>> states;
  if (!source.is_checkpoint()) return states;
  const auto& metadata = source.metadata();
  const auto optimizers = metadata.find(metadata_key::optimizers);
  if (optimizers != metadata.end() && optimizers->is_array()) {
    for (std::size_t i = 0; i < optimizers->size(); ++i) {
      auto optimizer = (*optimizers)[i];
      if (optimizer.is_object() && optimizer.contains("groups") && optimizer["groups"].is_array()) {
        for (auto& group : optimizer["groups"]) {
          if (group.is_object() && group.contains("params")) group["params"] = group["params"].size();
        }
      }
      states.emplace_back("optimizer " + std::to_string(i), one_line(optimizer));
    }
  }
  const auto callbacks = metadata.find(metadata_key::callbacks);
  if (callbacks == metadata.end() || !callbacks->is_object()) return states;
  for (const auto& [key, state] : callbacks->items()) states.emplace_back(single_line(key), one_line(state));
  return states;
}

std::string lines_of(const std::vector<std::pair<std::string, std::string>>& facts, const Screen& screen) {
  std::string out;
  int widest = 0;
  for (const auto& [name, text] : facts) widest = std::max(widest, std::min(columns(name), 40));
  for (const auto& [name, text] : facts) {
    const auto line = pad_columns(name, widest) + "  " + text;
    const bool fits = screen.width == 0 || columns(line) <= screen.width;
    out += (fits ? line : fit_columns(line, screen.width - 1) + "…") + "\n";
  }
  return out;
}

std::string text_of(const CheckpointSource& source, const Screen& screen) {
  std::string out = lines_of(facts_of(source), screen);
  const auto states = states_of(source);
  if (!states.empty()) out += "\n" + screen.styled("states", Style::strong) + "\n" + lines_of(states, screen);
  std::vector<std::vector<Cell>> rows;
  for (const auto& [name, group] : groups_of(source)) {
    rows.push_back({{single_line(name)},
                    {std::to_string(group.tensors)},
                    {std::to_string(group.values)},
                    {bytes_text(static_cast<double>(group.bytes))}});
  }
  out += "\n" + table({{"group", false, 8}, {"tensors", true}, {"values", true}, {"size", true}}, rows, screen);
  rows.clear();
  for (const auto& entry : source.entries()) {
    rows.push_back({{single_line(entry.name)},
                    {single_line(entry.dtype_name)},
                    {shape_text(entry.shape)},
                    {entry.tied_to.empty() ? bytes_text(static_cast<double>(entry.bytes)) : "tied"}});
  }
  return out + "\n" + table({{"tensor", false, 16}, {"type"}, {"shape", false, 8}, {"size", true}}, rows, screen);
}

}  // namespace

Command checkpoint_show_command() {
  const auto options = std::make_shared<ShowOptions>();
  return {
      .name = "checkpoint show",
      .summary = "print what a checkpoint holds",
      .arguments = {"FILE", 1, 1, Completion::weights},
      .text =
          "Prints how far the run was, its hyper-parameters, the states of optimizers and callbacks, and the type,\n"
          "shape and size of each tensor. Reads the header alone, and verifies its checksum; the tensors are\n"
          "verified by troupe checkpoint verify. Weights of other programs are shown too: a safetensors file, an\n"
          "index of several, a file of torch.save (*.pth, *.pt, *.bin, *.ckpt) with what is beside the weights,\n"
          "or a folder that has one of them. Nothing in any of them is run.",
      .examples = {{"runs/digits/version_0/checkpoints/last.safetensors", "a checkpoint"},
                   {"last.safetensors --json | jq .metadata.progress", "for other programs"},
                   {"epoch=3.ckpt", "a checkpoint of Lightning's"}},
      .options = option_refs(*options),
      .values = {},
      .letters = {},
      .run = [options](const auto& arguments, const Screen& screen) {
        const CheckpointSource source(arguments[0]);
        screen.print(options->json ? json_of(source).dump(1) + "\n" : text_of(source, screen));
        return succeeded;
      }};
}

}  // namespace troupe::command
