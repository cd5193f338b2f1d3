#include "troupe/modules/data/data_loader.hpp"

#include "troupe/base/text.hpp"

#include <algorithm>
#include <sstream>
#include <utility>

namespace troupe {

namespace {

std::string shape_text(const torch::Tensor& tensor) {
  std::ostringstream out;
  out << tensor.sizes();
  return out.str();
}

/// Stacks tensor `position` of every sample.
torch::Tensor stacked(const std::vector<Batch>& samples, std::size_t position) {
  const auto& first = samples.front().tensors()[position];
  const std::string which = "tensor " + std::to_string(position);
  std::vector<torch::Tensor> parts;
  parts.reserve(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto& tensor = samples[i].tensors()[position];
    if (tensor.defined() != first.defined()) {
      throw CollateError(i, which + " is " + (tensor.defined() ? "defined" : "undefined") +
                                ", unlike in the first sample of the batch");
    }
    if (!tensor.defined()) continue;
    if (tensor.sizes() != first.sizes()) {
      throw CollateError(i, which + " has shape " + shape_text(tensor) + ", the batch's first sample has " +
                                shape_text(first) + "; samples of several shapes need a collate function");
    }
    if (tensor.scalar_type() != first.scalar_type()) {
      throw CollateError(i, which + " is of type " + c10::toString(tensor.scalar_type()) +
                                ", the batch's first sample has " + c10::toString(first.scalar_type()));
    }
    parts.push_back(tensor);
  }
  return first.defined() ? torch::stack(parts) : torch::Tensor();
}

std::string names_text(const Batch& sample) {
  if (sample.names().empty()) return "no names";
  return joined_as(sample.names(), [](const std::string& name) { return name.empty() ? "(none)" : name; });
}

// Each is a thread; more are a slip of the finger.
constexpr int64_t kMostWorkers = 1024;

void check(const DataLoaderOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value >= least) return;
    throw UsageError(std::string("DataLoader: ") + name + " = " + std::to_string(value) + " must be at least " +
                     std::to_string(least));
  };
  at_least("batch_size", options.batch_size, 1);
  at_least("num_workers", options.num_workers, 0);
  at_least("prefetch", options.prefetch, 1);
  if (options.num_workers > kMostWorkers) {
    throw UsageError("DataLoader: num_workers = " + std::to_string(options.num_workers) + " must be at most " +
                     std::to_string(kMostWorkers));
  }
  if (options.shuffle && options.sampler) {
    throw UsageError("DataLoader: shuffle = true together with a sampler; the sampler gives the order, leave one out");
  }
}

}  // namespace

CollateError::CollateError(std::size_t position, const std::string& what)
    : UsageError("sample at position " + std::to_string(position) + " of the batch: " + what),
      position_(position),
      reason_(what) {}

Batch default_collate(std::vector<Batch> samples) {
  if (samples.empty()) throw UsageError("default_collate needs at least one sample");
  const Batch& first = samples.front();
  bool extras = false;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].tensor_count() != first.tensor_count()) {
      throw CollateError(i, "it has " + std::to_string(samples[i].tensor_count()) +
                                " tensors, the batch's first sample has " + std::to_string(first.tensor_count()));
    }
    if (samples[i].names() != first.names()) {
      throw CollateError(
          i, "its tensors are named " + names_text(samples[i]) + ", the batch's first sample's " + names_text(first));
    }
    extras = extras || samples[i].extra.has_value();
  }
  Batch out;
  for (std::size_t position = 0; position < first.tensor_count(); ++position) {
    out.append(first.names().empty() ? std::string() : first.names()[position], stacked(samples, position));
  }
  if (extras) {
    std::vector<std::any> values;
    values.reserve(samples.size());
    for (auto& sample : samples) values.push_back(std::move(sample.extra));
    out.extra = std::move(values);
  }
  return out;
}

DataLoader::DataLoader(std::shared_ptr<Dataset> dataset, DataLoaderOptions options)
    : dataset_(std::move(dataset)), options_(std::move(options)) {
  if (!dataset_) throw UsageError("DataLoader: dataset is null; it needs a Dataset");
  check(options_);
}

DataLoader::DataLoader(std::shared_ptr<IterableDataset> dataset, DataLoaderOptions options)
    : stream_(std::move(dataset)), options_(std::move(options)) {
  if (!stream_) throw UsageError("DataLoader: dataset is null; it needs an IterableDataset");
  check(options_);
  if (options_.shuffle || options_.sampler) {
    throw UsageError(std::string("DataLoader: ") + (options_.shuffle ? "shuffle = true" : "a sampler") +
                     " cannot order a stream; leave it out and let the stream give its own order");
  }
}

std::optional<int64_t> DataLoader::batch_count(int64_t ranks) const {
  if (stream_) return std::nullopt;
  const int64_t size = std::max<int64_t>(0, dataset_->size());
  const int64_t all = options_.sampler ? options_.sampler->count(size) : size;
  const int64_t samples = (all + ranks - 1) / ranks;
  return samples / options_.batch_size + (!options_.drop_last && samples % options_.batch_size != 0 ? 1 : 0);
}

}  // namespace troupe
