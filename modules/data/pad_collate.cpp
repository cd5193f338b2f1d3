#include "troupe/modules/data/pad_collate.hpp"

#include "troupe/base/number_text.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>
#include <utility>

namespace troupe {

namespace {

std::string tensor_text(const torch::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  std::ostringstream out;
  out << c10::toString(tensor.scalar_type()) << ' ' << tensor.sizes();
  return out.str();
}

/// Takes tensor `name` out of every sample: an undefined one is left.
std::vector<torch::Tensor> taken_out(std::vector<Batch>& samples, const std::string& name) {
  std::vector<torch::Tensor> out;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (std::ranges::find(samples[i].names(), name) == samples[i].names().end()) {
      throw CollateError(i, "PadCollate: it has no tensor '" + name + "'");
    }
    out.push_back(std::exchange(samples[i][name], torch::Tensor()));
    if (!out.back().defined()) throw CollateError(i, "PadCollate: its tensor '" + name + "' is undefined");
  }
  return out;
}

int64_t padded_dim(const torch::Tensor& tensor, const std::string& name, int64_t dim) {
  if (dim >= -tensor.dim() && dim < tensor.dim()) return dim < 0 ? dim + tensor.dim() : dim;
  throw UsageError("PadCollate: tensor '" + name + "' is " + tensor_text(tensor) + ", which has no dimension " +
                   std::to_string(dim));
}

void check_same_but_for(const std::vector<torch::Tensor>& tensors, const std::string& name, int64_t dim) {
  const auto& first = tensors.front();
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    const auto& tensor = tensors[i];
    bool same =
        tensor.scalar_type() == first.scalar_type() && tensor.dim() == first.dim() && tensor.device() == first.device();
    for (int64_t d = 0; same && d < first.dim(); ++d) same = d == dim || tensor.size(d) == first.size(d);
    if (same) continue;
    throw CollateError(i, "PadCollate: its tensor '" + name + "' is " + tensor_text(tensor) +
                              ", the batch's first sample's is " + tensor_text(first) + "; only dimension " +
                              std::to_string(dim) + " may differ");
  }
}

void check_value(const torch::Tensor& tensor, const std::string& name, double value) {
  if (tensor.is_floating_point() || tensor.is_complex()) return;
  double lowest = 0, end = 2;  // of bool
  if (tensor.scalar_type() != torch::kBool) {
    const bool is_unsigned = tensor.scalar_type() == torch::kByte;
    const int bits = static_cast<int>(8 * tensor.element_size()) - (is_unsigned ? 0 : 1);
    lowest = is_unsigned ? 0 : -std::ldexp(1.0, bits);
    end = std::ldexp(1.0, bits);
  }
  if (value == std::floor(value) && value >= lowest && value < end) return;
  throw UsageError("PadCollate: tensor '" + name + "' is of type " + c10::toString(tensor.scalar_type()) +
                   ", which cannot hold the padding value " + double_to_text(value));
}

/// Rows of `tensors` filled up along `dim` to `length`.
torch::Tensor filled_up(const std::vector<torch::Tensor>& tensors, const PadOptions& options, int64_t dim,
                        int64_t length) {
  auto sizes = tensors.front().sizes().vec();
  sizes[static_cast<std::size_t>(dim)] = length;
  sizes.insert(sizes.begin(), static_cast<int64_t>(tensors.size()));
  torch::Tensor out = at::full(sizes, options.value, tensors.front().options());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const int64_t own = tensors[i].size(dim);
    const int64_t first = options.side == PadSide::right ? 0 : length - own;
    out.select(0, static_cast<int64_t>(i)).narrow(dim, first, own).copy_(tensors[i]);
  }
  return out;
}

torch::Tensor elements_mask(const torch::Tensor& lengths, PadSide side, int64_t length) {
  const auto places = torch::arange(length).unsqueeze(0);
  const auto own = lengths.unsqueeze(1);
  return side == PadSide::right ? places < own : places >= length - own;
}

void add_named(Batch& batch, const std::string& name, torch::Tensor tensor) {
  if (std::ranges::find(batch.names(), name) != batch.names().end()) {
    throw UsageError("PadCollate is to add a tensor '" + name + "', but the samples have one of this name already");
  }
  batch.append(name, std::move(tensor));
}

}  // namespace

PadCollate::PadCollate(std::vector<PadOptions> padded) : padded_(std::move(padded)) {
  if (padded_.empty()) throw UsageError("PadCollate needs the name of at least one tensor to pad");
  std::set<std::string> names;
  for (const auto& options : padded_) {
    const std::string& name = options.tensor;
    if (name.empty()) throw UsageError("PadCollate pads tensors by their names, but one is empty");
    for (const std::string& each : {name, options.lengths, options.mask}) {
      if (each.empty() || names.insert(each).second) continue;
      throw UsageError("PadCollate: the name '" + each + "' comes twice");
    }
    if (options.multiple_of < 1) {
      throw UsageError("PadCollate: multiple_of = " + std::to_string(options.multiple_of) + " for tensor '" + name +
                       "' must be at least 1");
    }
  }
}

Batch PadCollate::operator()(std::vector<Batch> samples) const {
  if (samples.empty()) throw UsageError("PadCollate needs at least one sample");
  std::vector<std::pair<std::string, torch::Tensor>> padded, added;
  for (const auto& options : padded_) {
    const std::string& name = options.tensor;
    const auto tensors = taken_out(samples, name);
    const int64_t dim = padded_dim(tensors.front(), name, options.dim);
    check_same_but_for(tensors, name, dim);
    check_value(tensors.front(), name, options.value);
    const auto lengths = torch::empty({static_cast<int64_t>(tensors.size())}, torch::kInt64);
    int64_t length = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      lengths.data_ptr<int64_t>()[i] = tensors[i].size(dim);
      length = std::max(length, tensors[i].size(dim));
    }
    length = (length + options.multiple_of - 1) / options.multiple_of * options.multiple_of;
    padded.emplace_back(name, filled_up(tensors, options, dim, length));
    if (!options.lengths.empty()) added.emplace_back(options.lengths, lengths);
    if (!options.mask.empty()) added.emplace_back(options.mask, elements_mask(lengths, options.side, length));
  }
  Batch out = default_collate(std::move(samples));
  for (auto& [name, tensor] : padded) out[name] = std::move(tensor);
  for (auto& [name, tensor] : added) add_named(out, name, std::move(tensor));
  return out;
}

}  // namespace troupe
