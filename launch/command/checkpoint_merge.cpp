#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/checkpoint_source.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/tensor_values.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/weights/pth_writer.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace troupe::command {
namespace {

namespace fs = std::filesystem;

struct MergeOptions {
  fs::path output = "";
  std::vector<double> weights = {};
};
TROUPE_OPTIONS(MergeOptions, (output, "file to write"),
               (weights, "of each file, with commas between them; they are divided by their sum; empty: all the same"))

constexpr std::size_t most_named = 10;

/// Shares that add up to 1.
std::vector<double> shares_of(const std::vector<double>& weights, std::size_t files) {
  if (weights.empty()) return std::vector<double>(files, 1.0 / static_cast<double>(files));
  if (weights.size() != files) {
    throw UsageError("--weights has " + std::to_string(weights.size()) + " numbers for " + std::to_string(files) +
                     " files; give one for each");
  }
  for (const double weight : weights) {
    if (weight < 0) throw UsageError("--weights has " + double_to_text(weight) + "; use numbers of at least 0");
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (!(sum > 0) || !std::isfinite(sum))
    throw UsageError("--weights add up to " + double_to_text(sum) + "; use other ones");
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

/// What keeps the weights of `source` from being averaged with those of `model`.
std::vector<std::string> differences_of(const CheckpointSource& source, const CheckpointSource& model) {
  const auto here = shown(source.path().string()), there = shown(model.path().string());
  std::vector<std::string> out;
  for (const auto& entry : model.entries()) {
    if (!entry.weight) continue;
    const auto name = "'" + shown(entry.name) + "'";
    const auto* other = source.counterpart(entry);
    if (!other) {
      out.push_back(name + " is missing in " + here);
    } else if (kind_of(*other) != kind_of(entry)) {
      out.push_back(name + " is " + kind_of(*other) + " in " + here + " and " + kind_of(entry) + " in " + there);
    }
  }
  for (const auto& entry : source.entries()) {
    if (entry.weight && !model.counterpart(entry)) {
      out.push_back("'" + shown(entry.name) + "' is missing in " + there);
    }
  }
  return out;
}

void check_that_they_fit(const std::vector<std::unique_ptr<CheckpointSource>>& sources) {
  const auto& model = *sources.back();
  std::vector<std::string> differences;
  for (const auto& source : sources) {
    if (source->is_checkpoint() != model.is_checkpoint()) {
      throw UsageError(
          "cannot merge a checkpoint of Troupe with weights of another program: " + shown(source->path().string()) +
          " and " + shown(model.path().string()) + "; troupe checkpoint convert makes weights alone of the checkpoint");
    }
    for (auto& one : differences_of(*source, model)) differences.push_back(std::move(one));
  }
  if (differences.empty()) return;
  const auto others = differences.size() - std::min(differences.size(), most_named);
  differences.resize(differences.size() - others);
  throw UsageError("cannot merge models that do not fit: " + joined(differences, "; ") +
                   (others > 0 ? "; and " + std::to_string(others) + " more" : ""));
}

torch::Tensor averaged(const std::vector<std::unique_ptr<CheckpointSource>>& sources, const std::vector<double>& shares,
                       const SourceEntry& entry) {
  torch::Tensor latest = sources.back()->read(entry);
  if (!latest.is_floating_point() && !latest.is_complex()) return latest;
  torch::Tensor sum = as_double(latest) * shares.back();
  for (std::size_t i = 0; i + 1 < sources.size(); ++i) {
    sum += as_double(sources[i]->read(*sources[i]->counterpart(entry))) * shares[i];
  }
  return sum.to(latest.scalar_type());
}

/// Of the weights of another program: those of its header, and which tensors are tied.
SafetensorsMetadata header_texts(const CheckpointSource& source) {
  SafetensorsMetadata out;
  if (!source.is_pth()) {
    for (const auto& [key, text] : source.metadata().items()) out.emplace(key, text.get<std::string>());
  }
  out.emplace("format", "pt");
  return out;
}

/// The weights of the sources under the names that they have in the module.
void write_weights(const std::vector<std::unique_ptr<CheckpointSource>>& sources, const std::vector<double>& shares,
                   const fs::path& path) {
  const auto& model = *sources.back();
  const bool to_pth = names_pth(path);
  auto texts = header_texts(model);
  NamedTensors tensors;
  std::unordered_map<std::string, std::pair<std::string, torch::Tensor>> kept;  // by their names in the file
  for (const auto& entry : model.entries()) {
    if (!entry.weight) continue;
    const auto found = kept.find(entry.tied_to);
    if (found == kept.end()) {
      const auto tensor = averaged(sources, shares, entry);
      kept.emplace(entry.name, std::pair(*entry.weight, tensor));
      tensors.emplace_back(*entry.weight, tensor);
    } else if (to_pth) {
      tensors.emplace_back(*entry.weight, found->second.second);
    } else {
      texts[*entry.weight] = found->second.first;
    }
  }
  if (tensors.empty()) {
    throw UsageError(shown(model.path().string()) +
                     " has several sets of weights, or none: which of them is to be averaged is not known");
  }
  if (to_pth) return write_pth(tensors, path);
  write_atomically(path, [&](OutputFile& file) { write_safetensors(file, tensors, texts); });
}

void write_merged(const std::vector<std::unique_ptr<CheckpointSource>>& sources, const std::vector<double>& shares,
                  const nlohmann::json& merged, const fs::path& path) {
  const auto& model = *sources.back();
  if (!model.is_checkpoint()) return write_weights(sources, shares, path);
  NamedTensors tensors;
  for (const auto& entry : model.entries()) {
    tensors.emplace_back(entry.name, entry.weight ? averaged(sources, shares, entry) : model.read(entry));
  }
  Checkpoint checkpoint{std::move(tensors), model.metadata()};
  const auto saved_at = checkpoint.metadata.find(metadata_key::saved_at);
  const double former = saved_at != checkpoint.metadata.end() && saved_at->is_number() ? saved_at->get<double>() : 0;
  checkpoint.metadata[metadata_key::saved_at] = saved_at_after(former);
  checkpoint.metadata["merged"] = merged;
  write_checkpoint(checkpoint, path);
}

int merge(const std::vector<std::string>& paths, const MergeOptions& options, const Screen& screen) {
  if (options.output.empty()) throw UsageError("troupe checkpoint merge needs the file to write: -o OUT");
  std::error_code ignored;
  if (fs::is_directory(options.output, ignored)) {
    throw UsageError("'" + shown(options.output.string()) + "' is a folder; name a file: -o " +
                     shown((options.output / "merged.safetensors").string()));
  }
  const auto shares = shares_of(options.weights, paths.size());
  std::vector<std::unique_ptr<CheckpointSource>> sources;
  nlohmann::json merged = nlohmann::json::array();
  for (std::size_t i = 0; i < paths.size(); ++i) {
    std::error_code error;
    if (fs::equivalent(paths[i], options.output, error)) {
      throw UsageError(shown(paths[i]) + " is to be merged and to be written; name another file behind -o");
    }
    sources.push_back(std::make_unique<CheckpointSource>(paths[i]));
    merged.push_back({{"file", valid_utf8(paths[i])}, {"weight", shares[i]}});
  }
  check_that_they_fit(sources);
  if (sources.back()->is_checkpoint() && names_pth(options.output)) {
    throw UsageError("checkpoints become a checkpoint, and '" + shown(options.output.string()) +
                     "' would be a file of torch.save; name a *.safetensors, of which troupe checkpoint convert makes "
                     "one");
  }
  write_merged(sources, shares, merged, options.output);
  screen.print(options.output.string() + "\n");
  return succeeded;
}

}  // namespace

Command checkpoint_merge_command() {
  const auto options = std::make_shared<MergeOptions>();
  return {
      .name = "checkpoint merge",
      .summary = "average the weights of checkpoints",
      .arguments = {"FILE... -o OUT", 1, std::numeric_limits<std::size_t>::max(), Completion::weights},
      .text =
          "Averages parameters and floating-point buffers, computed in float64 and stored in the type that they\n"
          "have. Everything else is that of the last file: whole-number buffers, optimizers, progress. So OUT can\n"
          "be tested, exported and trained on as any checkpoint; metadata.merged says what it was made of. Files\n"
          "of other models are refused. Weights of other programs are merged among themselves, into a safetensors\n"
          "file or into a *.pth, *.pt or *.bin.",
      .examples = {{"epoch=7.safetensors epoch=8.safetensors epoch=9.safetensors -o averaged.safetensors",
                    "the mean of three"},
                   {"a.safetensors b.safetensors --weights 1,3 -o averaged.safetensors", "a quarter of a, the rest b"}},
      .options = option_refs(*options),
      .values = {{"output", Completion::files}},
      .letters = {{'o', "output"}},
      .run = [options](const auto& paths, const Screen& screen) { return merge(paths, *options, screen); }};
}

}  // namespace troupe::command
