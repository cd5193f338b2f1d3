// Tuner::find_batch_size: the largest batch that fits.
#include "troupe/base/number_text.hpp"
#include "troupe/launch/tuner_trials.hpp"
#include "troupe/runtime/capture/offered_memory.hpp"
#include "troupe/runtime/process/memory_limit.hpp"
#include "troupe/runtime/report/finding.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace troupe {

namespace {

void check_sizes(const ScaleBatchSizeOptions& how) {
  finders::require_at_least("scale_batch_size.steps_per_trial", how.steps_per_trial, 1);
  finders::require_at_least("scale_batch_size.init_val", how.init_val, 1);
  finders::require_at_least("scale_batch_size.max_trials", how.max_trials, 1);
  finders::require_at_least("scale_batch_size.max_val", how.max_val, how.init_val);
  if (!(how.margin >= 0 && how.margin < 1)) {
    finders::refuse("scale_batch_size.margin", double_to_text(how.margin),
                    "is no part of the size; use 0 to less than 1");
  }
}

// Sizes to try, one after the other.
class BatchSizeSearch {
 public:
  explicit BatchSizeSearch(const ScaleBatchSizeOptions& how) : how_(how), next_(how.init_val) {}

  bool is_over() const { return is_over_ || tried_ == how_.max_trials; }
  int64_t next() const { return next_; }
  int64_t best() const { return best_; }
  bool has_failed() const { return smallest_failed_ > 0; }
  int64_t smallest_failed() const { return smallest_failed_; }

  /// Of the size next(). `has_more`: the data would fill larger batches.
  void take(bool fits, bool has_more) {
    ++tried_;
    if (fits) best_ = std::max(best_, next_);
    if (!fits) smallest_failed_ = has_failed() ? std::min(smallest_failed_, next_) : next_;
    if (how_.mode == BatchSizeMode::power || !has_failed()) {
      is_over_ = fits ? has_failed() || !has_more || next_ == how_.max_val : best_ > 0 || next_ == 1;
      next_ = fits ? std::min(next_ * 2, how_.max_val) : next_ / 2;
    }
    if (how_.mode == BatchSizeMode::binsearch && has_failed()) {
      is_over_ = smallest_failed_ - best_ <= 1 || (fits && !has_more);
      next_ = (smallest_failed_ + best_) / 2;
    }
  }

 private:
  const ScaleBatchSizeOptions& how_;
  int64_t next_, best_ = 0, smallest_failed_ = 0, tried_ = 0;
  bool is_over_ = false;
};

constexpr int64_t mebibyte = 1 << 20;

// Beyond what the process has; nothing: no limit.
std::optional<int64_t> bytes_to_take(const ScaleBatchSizeOptions& how, bool is_on_cpu) {
  if (how.memory_limit_mb) {
    const int64_t has = resident_memory();
    const double left = *how.memory_limit_mb * static_cast<double>(mebibyte) - static_cast<double>(has);
    if (!(left > 0)) {
      finders::refuse("scale_batch_size.memory_limit_mb", double_to_text(*how.memory_limit_mb),
                      "is less than the " + std::to_string(has / mebibyte + 1) +
                          " MiB that the process has already; use more than those");
    }
    return static_cast<int64_t>(std::min(left, 9e18));
  }
  const auto available = is_on_cpu ? available_memory() : std::nullopt;
  return available ? std::optional(*available / 10 * 9) : std::nullopt;
}

Finding batch_size_finding(const BatchSizeResult& result) {
  Finding finding{.name = "scale_batch_size", .title = "Batch size", .says = result.says, .x_is_logarithmic = true};
  finding.columns = {{"batch_size", {}}, {"samples_per_second", {}}, {"seconds_per_batch", {}}, {"fits", {}}};
  for (const auto& trial : result.trials) {
    const auto size = static_cast<double>(trial.batch_size);
    const double seconds = trial.fits ? trial.seconds_per_batch : std::nan("");
    const std::array<double, 4> row = {size, size / seconds, seconds, trial.fits ? 1.0 : 0.0};
    for (std::size_t i = 0; i < row.size(); ++i) finding.columns[i].values.push_back(row[i]);
    if (trial.batch_size == result.batch_size) finding.chosen = finding.columns[0].values.size() - 1;
  }
  return finding;
}

// What came of the trials, in words; and the size to take.
void conclude(BatchSizeResult& result, const BatchSizeSearch& search, const ScaleBatchSizeOptions& how, int64_t samples,
              bool memory_was_out) {
  result.batch_size = search.best();
  result.says = "Batches of " + std::to_string(search.best()) + " fit, ";
  if (samples > 0) {
    result.batch_size = std::min(search.best(), samples);
    result.says += "and an epoch has " + std::to_string(samples) + " samples.";
  } else if (search.has_failed()) {
    result.says += "those of " + std::to_string(search.smallest_failed()) +
                   (memory_was_out ? " do not: memory is out." : " are larger than an epoch.");
    if (how.mode == BatchSizeMode::binsearch && memory_was_out && how.margin > 0) {
      const auto kept = static_cast<int64_t>(static_cast<double>(search.best()) * (1 - how.margin));
      result.batch_size = std::max<int64_t>(1, kept);
      result.says += " " + std::to_string(result.batch_size) + " leaves a margin.";
    }
  } else {
    result.says += search.best() == how.max_val ? "and scale_batch_size.max_val allows no larger ones."
                                                : "and scale_batch_size.max_trials allows no further trial.";
  }
}

}  // namespace

BatchSizeResult Tuner::find_batch_size(const TunedModule& module, const TunedData& data,
                                       const ScaleBatchSizeOptions& how) {
  check_sizes(how);
  finders::require_one_process("the batch size finder");
  const auto* owner = data.loaders.empty() ? &owner_of_option(how.batch_arg_name, "the batch size (batch_arg_name)",
                                                              data.options, module.options)
                                           : nullptr;
  finders::ChangedOption option(owner, how.batch_arg_name);
  const Trials trials(trainer_, module, data);
  if (trials.options().capture_step != CaptureStep::off) capture::prepare_for_offers();
  std::optional<MemoryLimit> limit;
  if (const auto bytes = bytes_to_take(how, trials.is_on_cpu())) limit.emplace(*bytes);

  BatchSizeResult result;
  BatchSizeSearch search(how);
  int64_t samples = 0;  // of an epoch, once a batch had fewer than it could
  std::string shortage;
  while (!search.is_over()) {
    const int64_t size = search.next();
    option.set(size);
    const auto probe =
        std::make_shared<finders::SpeedProbe>(how.steps_per_trial * trials.options().accumulate_grad_batches);
    bool fits = true, has_more = true;
    try {
      trials.run(finders::options_of_trial(trials.options(), how.steps_per_trial), probe,
                 data.loaders.changed([size](DataLoaderOptions& of) { of.batch_size = size; }));
      has_more = probe->largest_batch() >= size;
      if (!has_more) samples = probe->largest_batch();
    } catch (const RunError& error) {
      const auto& message = error.failure().message;
      const bool has_too_few = message.find("are fewer than batch_size") != std::string::npos;  // with drop_last
      if (!is_out_of_memory(message) && !(has_too_few && search.best() > 0)) throw;
      fits = false;
      if (is_out_of_memory(message)) shortage = message;
    }
    result.trials.push_back({size, fits, finders::quantile(probe->steps(), 0.5)});
    search.take(fits, has_more);
  }
  limit.reset();
  if (search.best() == 0) {
    throw UsageError("no batch size fits into memory, and even " + std::to_string(search.smallest_failed()) +
                     " sample(s) per batch are too many (" + shortage +
                     "): use a smaller model, or a larger scale_batch_size.memory_limit_mb if that is the limit");
  }
  conclude(result, search, how, samples, !shortage.empty());
  option.put_back();  // the folder has the options that were given
  record(module.source(), batch_size_finding(result));
  option.keep(result.batch_size);
  return result;
}

}  // namespace troupe
