// How near texts are to the texts that they should be: error rates of recognition, BLEU, chrF and ROUGE.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::metrics {

using Texts = std::vector<std::string>;

/// A metric of texts, UTF-8: preds, and for each of them a target, or several of which any will do. It counts on the
/// host and adds the counts up (state counts, on the metric's device), so that it costs a copy of a few numbers per
/// update. Texts are cut into words at white space as Python's str.split cuts them; bytes that are not UTF-8 are one
/// character each, all the same. A captured step refuses it (trainer.capture_step).
class TextMetric : public Metric {
 public:
  /// Adds a batch. Throws UsageError if there are not as many targets as preds, or none for one of them.
  void update(const Texts& preds, const std::vector<Texts>& targets);
  void update(const Texts& preds, const Texts& target) { update(preds, one_each(target)); }
  void update(const std::string& pred, const std::string& target) { update(Texts{pred}, Texts{target}); }
  /// Adds a batch and returns its value alone.
  torch::Tensor operator()(const Texts& preds, const std::vector<Texts>& targets);
  torch::Tensor operator()(const Texts& preds, const Texts& target) { return (*this)(preds, one_each(target)); }
  torch::Tensor operator()(const std::string& pred, const std::string& target) {
    return (*this)(Texts{pred}, Texts{target});
  }

 protected:
  /// `several`: a text may have more than one target. `keeps_all`: the counts are joined instead of summed.
  TextMetric(const char* name, int64_t counts, bool several, bool keeps_all = false);

  /// The counts of one text and its targets, of which there is one at least.
  virtual std::vector<double> count(const std::string& pred, const Texts& targets) const = 0;
  /// float64, [counts], or those of all texts one after the other.
  torch::Tensor counts() const { return at(counts_); }

 private:
  static std::vector<Texts> one_each(const Texts& target);
  torch::Tensor counted(const Texts& preds, const std::vector<Texts>& targets) const;
  void add(const torch::Tensor& counts);

  const char* name_;
  std::size_t size_;
  bool several_, keeps_all_;
  State counts_;
};

/// Errors over a length. Errors are insertions, deletions and replacements (Levenshtein 1966).
class ErrorRate : public TextMetric {
 protected:
  explicit ErrorRate(const char* name) : TextMetric(name, 2, /*several=*/false) {}
  torch::Tensor result() const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/word_error_rate.html
struct WordErrorRateOptions {};

/// Wrong words over words of the targets; 0 is best, and it may be above 1. NaN if targets have no word.
class WordErrorRate : public ErrorRate {
 public:
  explicit WordErrorRate(WordErrorRateOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/char_error_rate.html
struct CharErrorRateOptions {};

/// Wrong characters over characters of the targets. NaN if targets have none.
class CharErrorRate : public ErrorRate {
 public:
  explicit CharErrorRate(CharErrorRateOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/match_error_rate.html
struct MatchErrorRateOptions {};

/// Wrong words over the words of the longer of each two texts, 0 to 1. NaN if there is no word.
class MatchErrorRate : public ErrorRate {
 public:
  explicit MatchErrorRate(MatchErrorRateOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/edit.html
struct EditDistanceOptions {
  int64_t substitution_cost = 1;  ///< of a replaced character, at least 0; one that is inserted or deleted costs 1
  Reduction reduction = Reduction::mean;  ///< over texts
};

/// The least cost of turning preds into targets, character by character (Levenshtein 1966).
class EditDistance : public TextMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit EditDistance(EditDistanceOptions options = {});
  bool is_scalar() const override { return options_.reduction != Reduction::none; }

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
  torch::Tensor result() const override;

 private:
  EditDistanceOptions options_;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/bleu_score.html
struct BLEUScoreOptions {
  int64_t n_gram = 4;                                         ///< the longest n-grams, at least 1
  bool smooth = false;                                        ///< adds 1 to the counts above n = 1 (Lin and Och 2004)
  std::optional<std::vector<double>> weights = std::nullopt;  ///< of each n; none: all alike
};

/// The geometric mean of the shares of n-grams of words that a target has too, less a penalty for texts that are too
/// short, over all texts together (Papineni et al. 2002), 0 to 1. 0 if no n-gram of one length is in a target.
class BLEUScore : public TextMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit BLEUScore(BLEUScoreOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
  torch::Tensor result() const override;

 private:
  BLEUScoreOptions options_;
};

/// https://lightning.ai/docs/torchmetrics/stable/text/chrf_score.html
struct CHRFScoreOptions {
  int64_t n_char_order = 6;  ///< the longest n-grams of characters, at least 1
  int64_t n_word_order = 2;  ///< and of words, 0 for none: 2 is chrF++
  double beta = 2.0;         ///< how much more recall counts than precision, at least 0
  bool lowercase = false;    ///< A to Z count as a to z
  bool whitespace = false;   ///< spaces count among characters
};

/// The F-score of n-grams of characters and words, the mean over lengths, over all texts together (Popovic 2015, 2017),
/// 0 to 1. Of several targets a text is compared with the one that gives it the highest score.
class CHRFScore : public TextMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit CHRFScore(CHRFScoreOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
  torch::Tensor result() const override;

 private:
  double score(const std::vector<double>& counts) const;

  CHRFScoreOptions options_;
};

/// What of two texts is compared: n-grams of n words, or common subsequences.
enum class RougeKey {
  rouge1 = 1,
  rouge2,
  rouge3,
  rouge4,
  rouge5,
  rouge6,
  rouge7,
  rouge8,
  rouge9,
  rougeL,     ///< the longest common subsequence of the texts
  rougeLsum,  ///< those of their sentences
};
TROUPE_CHOICES(RougeKey, {rouge1, "rouge1"}, {rouge2, "rouge2"}, {rouge3, "rouge3"}, {rouge4, "rouge4"},
               {rouge5, "rouge5"}, {rouge6, "rouge6"}, {rouge7, "rouge7"}, {rouge8, "rouge8"}, {rouge9, "rouge9"},
               {rougeL, "rougeL"}, {rougeLsum, "rougeLsum"})

/// Which share is the value. ROUGEScore keeps their sums in this order.
enum class RougeStatistic { fmeasure, precision, recall };
TROUPE_CHOICES(RougeStatistic, {fmeasure, "fmeasure"}, {precision, "precision"}, {recall, "recall"})

/// What counts of several targets.
enum class RougeAccumulate {
  best,  ///< the one with the highest F-measure
  avg,   ///< the mean of all
};
TROUPE_CHOICES(RougeAccumulate, {best, "best"}, {avg, "avg"})

/// https://lightning.ai/docs/torchmetrics/stable/text/rouge_score.html
struct ROUGEScoreOptions {
  RougeKey rouge_key = RougeKey::rougeL;
  RougeStatistic statistic = RougeStatistic::fmeasure;
  RougeAccumulate accumulate = RougeAccumulate::best;
};

/// The mean over texts of the share of n-grams of words, or of the longest common subsequence, that a text has with its
/// target (Lin 2004), 0 to 1. Words are made of letters a to z, in either case, and digits; there is no stemmer. With
/// rougeLsum a word of a sentence of the target counts if it is in a longest common subsequence with any sentence of
/// the text; a sentence is a line.
class ROUGEScore : public TextMetric {
 public:
  explicit ROUGEScore(ROUGEScoreOptions options = {});

 protected:
  std::vector<double> count(const std::string& pred, const Texts& targets) const override;
  torch::Tensor result() const override;

 private:
  ROUGEScoreOptions options_;
};

}  // namespace troupe::metrics
