#include "troupe/runtime/data/mixture.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/keyed_permutation.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/weights.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <string>
#include <utility>

namespace troupe {

namespace {

// Short periods are repeated up to this length before their items are exchanged.
constexpr int64_t kLeastPeriod = 4096;
constexpr uint64_t kExchangeSalt = 0x6d697874757265;

std::vector<double> mixture_shares(const std::vector<double>& weights) {
  if (weights.empty()) throw UsageError("a mixture needs at least one weight");
  if (weights.size() > std::numeric_limits<uint16_t>::max()) {
    throw UsageError("a mixture of " + std::to_string(weights.size()) + " sources; at most 65535 are possible");
  }
  const double sum = checked_sum_of_weights(weights, "mixture", "a mixture");
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

/// The least number of parts of which each share is a whole number, but for the rounding of doubles; 0: more than the
/// most.
int64_t exact_parts(const std::vector<double>& shares, int64_t most) {
  const auto is_whole = [](double share, int64_t parts) {
    const double value = share * static_cast<double>(parts);
    return share == 0 || (std::round(value) > 0 && std::abs(value - std::round(value)) < 1e-9);
  };
  for (int64_t parts = 1; parts <= most; ++parts) {
    if (std::ranges::all_of(shares, [&](double share) { return is_whole(share, parts); })) {
      return parts;
    }
  }
  return 0;
}

/// How many of `parts` each source gets: the nearest whole numbers that add up to them (largest remainders).
std::vector<int64_t> parts_of(const std::vector<double>& shares, int64_t parts) {
  std::vector<int64_t> out;
  std::vector<std::pair<double, std::size_t>> remainders;
  int64_t left = parts;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double exact = shares[i] * static_cast<double>(parts);
    const double whole = std::floor(exact + 1e-9);
    out.push_back(static_cast<int64_t>(whole));
    remainders.emplace_back(whole - exact, i);
    left -= out.back();
  }
  std::ranges::sort(remainders);
  for (std::size_t i = 0; left > 0; ++i, --left) out[remainders[i].second] += 1;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] <= 0 || out[i] > 0) continue;
    throw UsageError("mixture: weight " + std::to_string(i) + " is " + double_to_text(shares[i]) +
                     " of all, less than one of " + std::to_string(parts) +
                     " parts; give it more, or 0 to leave it out");
  }
  return out;
}

/// The positions at which an item of a source with `parts` of `period` may be.
struct ItemWindow {
  ItemWindow(int64_t item, int64_t parts, int64_t period)
      : first(item * period / parts), last(((item + 1) * period + parts - 1) / parts - 1) {}
  bool has(int64_t position) const { return position >= first && position <= last; }
  int64_t first, last;
};

struct ScheduledItem {
  std::size_t source = 0;
  int64_t item = 0;
};

/// The earliest deadline first, among the items whose window has begun. There is always one: the parts add up to the
/// period.
std::vector<ScheduledItem> fair_schedule(const std::vector<int64_t>& parts, int64_t period, int64_t length) {
  using Entry = std::pair<int64_t, ScheduledItem>;
  const auto later = [](const Entry& a, const Entry& b) {
    return std::pair(a.first, a.second.source) > std::pair(b.first, b.second.source);
  };
  std::priority_queue<Entry, std::vector<Entry>, decltype(later)> waiting(later), begun(later);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] > 0) waiting.emplace(0, ScheduledItem{i, 0});
  }
  std::vector<ScheduledItem> out;
  for (int64_t position = 0; position < length; ++position) {
    while (!waiting.empty() && waiting.top().first <= position) {
      const ScheduledItem next = waiting.top().second;
      waiting.pop();
      begun.emplace(ItemWindow(next.item, parts[next.source], period).last, next);
    }
    const ScheduledItem now = begun.top().second;
    begun.pop();
    out.push_back(now);
    const ScheduledItem next{now.source, now.item + 1};
    waiting.emplace(ItemWindow(next.item, parts[next.source], period).first, next);
  }
  return out;
}

/// Exchanges items that stay within their windows.
void exchange_items(std::vector<ScheduledItem>& items, const std::vector<int64_t>& parts, int64_t period) {
  const auto window = [&](const ScheduledItem& item) { return ItemWindow(item.item, parts[item.source], period); };
  constexpr int rounds = 4;
  uint64_t draw = kExchangeSalt;
  for (int round = 0; round < rounds; ++round) {
    for (int64_t here = 0; here < static_cast<int64_t>(items.size()); ++here) {
      auto& mine = items[static_cast<std::size_t>(here)];
      const ItemWindow own = window(mine);
      const auto there =
          own.first + static_cast<int64_t>(hashed_below(++draw, static_cast<uint64_t>(own.last - own.first + 1)));
      auto& other = items[static_cast<std::size_t>(there)];
      if (other.source != mine.source && window(other).has(here)) std::swap(mine, other);
    }
  }
}

void check_mixture(const char* what, std::size_t sources, std::size_t weights, std::optional<int64_t> num_samples) {
  if (sources != weights) {
    throw UsageError(std::string(what) + ": " + std::to_string(weights) + " weights for " + std::to_string(sources) +
                     "; give one for each");
  }
  if (num_samples && *num_samples < 1) {
    throw UsageError("mixture: num_samples = " + std::to_string(*num_samples) + " must be at least 1");
  }
}

class MixtureOrder : public IndexOrder {
 public:
  MixtureOrder(std::shared_ptr<const MixtureSchedule> schedule, const std::vector<int64_t>& sizes, int64_t count,
               uint64_t seed, int64_t epoch, bool shuffle)
      : schedule_(std::move(schedule)), count_(count), shuffle_(shuffle) {
    const auto per_epoch = schedule_->counts(count);
    int64_t offset = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      datasets_.push_back({KeyedPermutation(sizes[i]), offset, epoch * per_epoch[i], mix(seed, i)});
      offset += sizes[i];
    }
  }
  int64_t size() const override { return count_; }
  int64_t at(int64_t position) const override {
    const auto slot = schedule_->at(position);
    const Part& part = datasets_[slot.source];
    const int64_t size = part.permutation.size();
    const int64_t item = part.before + slot.index;
    const int64_t place = item % size;
    return part.offset + (shuffle_ ? part.permutation.at(place, mix(part.seed, item / size)) : place);
  }

 private:
  struct Part {
    KeyedPermutation permutation;
    int64_t offset = 0;  // of the dataset, in the indices of all
    int64_t before = 0;  // items served in the epochs before
    uint64_t seed = 0;
  };
  std::shared_ptr<const MixtureSchedule> schedule_;
  std::vector<Part> datasets_;
  int64_t count_;
  bool shuffle_;
};

}  // namespace

MixtureSchedule::MixtureSchedule(const std::vector<double>& weights) {
  const auto wanted = mixture_shares(weights);
  const int64_t exact = exact_parts(wanted, kMostParts);
  const int64_t period = exact > 0 ? exact : kMostParts;
  const auto parts = parts_of(wanted, period);
  const int64_t repeats = (kLeastPeriod + period - 1) / period;
  auto items = fair_schedule(parts, period, period * repeats);
  exchange_items(items, parts, period);
  per_period_.assign(weights.size(), 0);
  for (const auto& item : items) {
    sources_.push_back(static_cast<uint16_t>(item.source));
    indices_.push_back(static_cast<uint32_t>(per_period_[item.source]++));
  }
}

MixtureSchedule::Slot MixtureSchedule::at(int64_t position) const {
  const auto period = static_cast<int64_t>(sources_.size());
  const auto place = static_cast<std::size_t>(position % period);
  const std::size_t source = sources_[place];
  return {source, position / period * per_period_[source] + indices_[place]};
}

std::vector<int64_t> MixtureSchedule::counts(int64_t positions) const {
  const auto period = static_cast<int64_t>(sources_.size());
  auto out = per_period_;
  for (auto& count : out) count *= positions / period;
  for (int64_t place = 0; place < positions % period; ++place) out[sources_[static_cast<std::size_t>(place)]] += 1;
  return out;
}

std::vector<double> MixtureSchedule::shares() const {
  std::vector<double> out;
  for (const int64_t count : per_period_) {
    out.push_back(static_cast<double>(count) / static_cast<double>(sources_.size()));
  }
  return out;
}

MixtureSampler::MixtureSampler(std::vector<int64_t> sizes, const std::vector<double>& weights,
                               MixtureSamplerOptions options)
    : sizes_(std::move(sizes)), shuffle_(options.shuffle) {
  check_mixture("MixtureSampler: datasets", sizes_.size(), weights.size(), options.num_samples);
  schedule_ = std::make_shared<const MixtureSchedule>(weights);
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    if (sizes_[i] < 0 || (sizes_[i] == 0 && weights[i] > 0)) {
      throw UsageError("MixtureSampler: dataset " + std::to_string(i) + " has " + std::to_string(sizes_[i]) +
                       " samples and a weight of " + double_to_text(weights[i]) +
                       "; give it samples, or a weight of 0 to leave it out");
    }
    all_ += sizes_[i];
  }
  num_samples_ = options.num_samples.value_or(all_);
}

std::unique_ptr<const IndexOrder> MixtureSampler::order(int64_t size, uint64_t seed, int64_t epoch) const {
  if (size != all_) {
    throw UsageError("MixtureSampler has datasets of " + std::to_string(all_) + " samples in all for a dataset of " +
                     std::to_string(size) + "; make it of the ConcatDataset that the loader has");
  }
  return std::make_unique<const MixtureOrder>(schedule_, sizes_, num_samples_, seed, epoch, shuffle_);
}

MixtureStream::MixtureStream(std::vector<std::shared_ptr<IterableDataset>> streams, std::vector<double> weights,
                             MixtureStreamOptions options)
    : streams_(std::move(streams)), weights_(std::move(weights)), options_(options) {
  check_mixture("MixtureStream: streams", streams_.size(), weights_.size(), options_.num_samples);
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (!streams_[i]) throw UsageError("MixtureStream: stream " + std::to_string(i) + " is null");
  }
  schedule_ = std::make_shared<const MixtureSchedule>(weights_);
}

MixtureStream::MixtureStream(std::vector<std::shared_ptr<IterableDataset>> streams, std::vector<double> weights,
                             MixtureStreamOptions options, std::shared_ptr<const MixtureSchedule> schedule)
    : streams_(std::move(streams)), weights_(std::move(weights)), options_(options), schedule_(std::move(schedule)) {}

void MixtureStream::start_pass(std::size_t stream, int64_t pass) {
  constexpr int64_t kPassStep = int64_t{1} << 32;
  passes_[stream] = pass;
  streams_[stream]->start(epoch_ + pass * kPassStep, shard_, shards_);
}

void MixtureStream::start(int64_t epoch, int64_t shard, int64_t shards) {
  epoch_ = epoch;
  shard_ = shard;
  shards_ = shards;
  position_ = 0;
  ended_ = false;
  passes_.assign(streams_.size(), 0);
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (weights_[i] > 0) start_pass(i, 0);
  }
}

std::optional<Batch> MixtureStream::next() {
  if (ended_ || (options_.num_samples && position_ >= length().value())) return std::nullopt;
  const std::size_t source = schedule_->at(position_).source;
  auto sample = streams_[source]->next();
  if (!sample && options_.num_samples) {
    start_pass(source, passes_[source] + 1);
    sample = streams_[source]->next();
    if (!sample) {
      throw UsageError("MixtureStream: stream " + std::to_string(source) + " gives no samples to shard " +
                       std::to_string(shard_) + " of " + std::to_string(shards_) +
                       "; give it more, or a weight of 0 to leave it out");
    }
  }
  ended_ = !sample;
  if (sample) position_ += 1;
  return sample;
}

// A stream that does not know its length might have begun anew on the way.
bool MixtureStream::skip_in(std::size_t stream, int64_t samples) {
  if (samples == 0) return true;
  const auto length = streams_[stream]->length();
  if (!length || *length < 1) return false;
  // The pass that ends exactly here is gone through: the next one begins when it is asked for more.
  const int64_t pass = options_.num_samples ? (samples - 1) / *length : 0;
  const int64_t within = std::min(samples - pass * *length, *length);
  if (pass > 0) start_pass(stream, pass);
  return streams_[stream]->skip(within);
}

bool MixtureStream::skip(int64_t samples) {
  const auto counts = schedule_->counts(samples);
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (skip_in(i, counts[i])) continue;
    start(epoch_, shard_, shards_);  // some have moved
    return false;
  }
  position_ = samples;
  return true;
}

std::optional<int64_t> MixtureStream::length() const {
  if (!options_.num_samples) return std::nullopt;
  return share_of(*options_.num_samples, shard_, shards_);
}

std::shared_ptr<IterableDataset> MixtureStream::replicate() const {
  std::vector<std::shared_ptr<IterableDataset>> replicas;
  for (const auto& stream : streams_) {
    replicas.push_back(stream->replicate());
    if (!replicas.back()) return nullptr;
  }
  return std::shared_ptr<MixtureStream>(new MixtureStream(std::move(replicas), weights_, options_, schedule_));
}

}  // namespace troupe
