#include "troupe/runtime/sinks/prediction_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <sstream>

namespace troupe {

namespace {

bool rows_fit(const torch::Tensor& a, const torch::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes().slice(1) == b.sizes().slice(1);
}

}  // namespace

std::string rank_prefix(int64_t rank) {
  return rank == 0 ? "" : "rank_" + std::to_string(rank) + ".";
}

void PredictionFiles::add(const std::filesystem::path& folder, const std::string& filename, std::string_view name,
                          const torch::Tensor& value) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("write_prediction(\"" + shown(name) + "\", \"" + shown(filename) + "\"): " + why);
  };
  if (filename.empty() || filename == "." || filename == ".." || filename.find('/') != std::string::npos) {
    refuse("the file's name must be one without folders; it lies in the run's folder");
  }
  if (name.empty()) refuse("a prediction needs a name");
  if (!value.defined() || value.dim() == 0) refuse("the value must have a dimension of samples");
  auto& tensors = files_[folder / filename];
  auto found = std::ranges::find_if(tensors, [&](const auto& entry) { return entry.first == name; });
  if (found == tensors.end()) found = tensors.insert(found, {std::string(name), {}});
  if (!found->second.empty() && !rows_fit(found->second.front(), value)) {
    std::ostringstream text;
    text << "its rows are " << value.sizes().slice(1) << ' ' << value.scalar_type() << ", those before "
         << found->second.front().sizes().slice(1) << ' ' << found->second.front().scalar_type();
    refuse(text.str());
  }
  found->second.push_back(value.detach().to(torch::kCPU, value.scalar_type(), false, /*copy=*/true));
}

void PredictionFiles::write() {
  for (const auto& [path, tensors] : files_) {
    NamedTensors joined;
    for (const auto& [name, rows] : tensors) joined.emplace_back(name, torch::cat(rows));
    write_atomically(path, [&](OutputFile& file) { write_safetensors(file, joined, {{"format", "pt"}}); });
  }
  files_.clear();
}

}  // namespace troupe
