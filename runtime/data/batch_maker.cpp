#include "troupe/runtime/data/batch_maker.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/random.hpp"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace troupe {

namespace {

// Keep the random states of a batch's parts apart.
constexpr uint64_t kBatchSalt = 0x6261746368;
constexpr uint64_t kCollateSalt = 0x636f6c6c617465;
constexpr uint64_t kStartSalt = 0x7374617274;

[[noreturn]] void throw_for_sample(int64_t index) {
  throw std::runtime_error("sample " + std::to_string(index) + ": " + current_exception_text());
}

std::string samples_text(const std::vector<int64_t>& samples) {
  constexpr std::size_t most_listed = 5;
  const auto first = std::span(samples).first(std::min(samples.size(), most_listed));
  const auto out = (samples.size() == 1 ? "sample " : "samples ") + joined(first);
  return samples.size() > most_listed ? out + ", ... (" + std::to_string(samples.size()) + " in all)" : out;
}

/// Joins samples whose indices are `indices`; errors name them.
Batch collated(const DataLoaderOptions& options, uint64_t seed, std::vector<Batch> samples,
               const std::vector<int64_t>& indices) {
  try {
    if (options.collate) seed_thread(seed);
    Batch batch = options.collate ? options.collate(std::move(samples)) : default_collate(std::move(samples));
    batch.set_made_of(static_cast<int64_t>(indices.size()));
    return batch;
  } catch (const CollateError& error) {
    if (error.position() >= indices.size()) throw;
    throw std::runtime_error("sample " + std::to_string(indices[error.position()]) + ": " + error.reason());
  } catch (...) {
    throw std::runtime_error("collate of " + samples_text(indices) + ": " + current_exception_text());
  }
}

bool pins(const DataLoaderOptions& options) {
  return options.pin_memory && at::hasCUDA();
}

}  // namespace

BatchMaker::BatchMaker(const DataLoader& loader, uint64_t seed)
    : dataset_(loader.dataset()), options_(loader.options()), seed_(seed), pin_(pins(options_)) {
  if (auto replica = dataset_->replicate()) dataset_ = std::move(replica);
}

bool BatchMaker::for_samples(const std::vector<int64_t>& samples, int64_t epoch, const Cancelled& cancelled,
                             const std::function<void(int64_t index)>& each) const {
  for (const int64_t index : samples) {
    if (cancelled && cancelled()) return false;
    seed_thread(mix(seed_, epoch, index));
    try {
      each(index);
    } catch (...) {
      throw_for_sample(index);
    }
  }
  return true;
}

std::optional<Batch> BatchMaker::make(int64_t epoch, int64_t position, const std::vector<int64_t>& samples,
                                      const Cancelled& cancelled) {
  const at::NoGradGuard no_grad;
  was_whole_ = false;
  if (!options_.collate) {
    seed_thread(mix(seed_, epoch, position, kBatchSalt));
    std::optional<Batch> whole;
    try {
      whole = dataset_->get_batch(samples);
    } catch (...) {
      throw std::runtime_error(samples_text(samples) + ": " + current_exception_text());
    }
    if (whole) {
      was_whole_ = true;
      whole->set_made_of(static_cast<int64_t>(samples.size()));
      return pin_ ? whole->pin_memory() : std::move(*whole);
    }
    if (auto memory = dataset_->batch_memory(static_cast<int64_t>(samples.size()))) {
      int64_t row = 0;
      const auto fill = [&](int64_t index) { dataset_->get_into(index, *memory, row++); };
      if (!for_samples(samples, epoch, cancelled, fill)) return std::nullopt;
      memory->set_made_of(row);
      return pin_ ? memory->pin_memory() : std::move(*memory);
    }
  }
  std::vector<Batch> parts;
  parts.reserve(samples.size());
  const auto take = [&](int64_t index) { parts.push_back(dataset_->get(index)); };
  if (!for_samples(samples, epoch, cancelled, take)) return std::nullopt;
  Batch batch = collated(options_, mix(seed_, epoch, position, kCollateSalt), std::move(parts), samples);
  return pin_ ? batch.pin_memory() : std::move(batch);
}

StreamReader::StreamReader(const DataLoader& loader, uint64_t seed, int64_t shard, int64_t shards)
    : stream_(loader.stream()),
      options_(loader.options()),
      seed_(shards > 1 ? mix(seed, shard) : seed),
      pin_(pins(options_)),
      shard_(shard),
      shards_(shards) {}

void StreamReader::open(int64_t epoch, int64_t position, const EpochOrigin& origin) {
  const at::NoGradGuard no_grad;
  epoch_ = epoch;
  position_ = samples_ = 0;
  ended_ = false;
  ahead_.clear();
  seed_thread(mix(seed_, epoch, kStartSalt));
  stream_->start(epoch, shard_, shards_);
  origin_ = origin;
  origin_.samples = share_of(origin.samples, shard_, shards_);
  const int64_t skipped = origin_.samples + (position - origin_.batches) * options_.batch_size;
  if (skipped > 0 && stream_->skip(skipped)) {
    samples_ = skipped;
  } else {
    while (samples_ < skipped && read_one()) ahead_.clear();
  }
  position_ = position;
}

bool StreamReader::read_one() {
  if (ended_) return false;
  seed_thread(mix(seed_, epoch_, samples_));
  std::optional<Batch> sample;
  try {
    sample = stream_->next();
  } catch (...) {
    throw_for_sample(samples_);
  }
  ended_ = !sample;
  if (ended_) return false;
  samples_ += 1;
  ahead_.push_back(std::move(*sample));
  return true;
}

StreamReader::Part StreamReader::end() {
  const int64_t samples = std::max<int64_t>(0, samples_ - origin_.samples);
  const bool partial = samples % options_.batch_size != 0 && !options_.drop_last;
  return {.batch = std::nullopt, .length = origin_.batches + samples / options_.batch_size + (partial ? 1 : 0)};
}

StreamReader::Part StreamReader::next(bool look_ahead, const Cancelled& cancelled) {
  const at::NoGradGuard no_grad;
  const auto batch_size = static_cast<std::size_t>(options_.batch_size);
  const auto read_until = [&](std::size_t samples) {
    while (ahead_.size() < samples && !(cancelled && cancelled()) && read_one()) {
    }
    return ahead_.size() >= samples || ended_;
  };
  if (!read_until(batch_size)) return {};
  if (ahead_.empty() || (options_.drop_last && ahead_.size() < batch_size)) return end();
  const std::size_t taken = std::min(batch_size, ahead_.size());
  if (look_ahead && !read_until(batch_size + (options_.drop_last ? batch_size : 1))) return {};

  std::vector<Batch> samples(std::make_move_iterator(ahead_.begin()),
                             std::make_move_iterator(ahead_.begin() + static_cast<std::ptrdiff_t>(taken)));
  ahead_.erase(ahead_.begin(), ahead_.begin() + static_cast<std::ptrdiff_t>(taken));
  std::vector<int64_t> indices;
  for (std::size_t i = 0; i < taken; ++i) {
    indices.push_back(position_ * options_.batch_size + static_cast<int64_t>(i));
  }
  Batch batch = collated(options_, mix(seed_, epoch_, position_, kCollateSalt), std::move(samples), indices);
  position_ += 1;
  Part part;
  part.batch = pin_ ? batch.pin_memory() : std::move(batch);
  const bool another = options_.drop_last ? ahead_.size() >= batch_size : !ahead_.empty();
  if (ended_ && !another) part.length = end().length;
  return part;
}

}  // namespace troupe
