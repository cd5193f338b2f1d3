#include "troupe/modules/metrics/text.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace troupe::metrics {

namespace {

// Characters, or words as numbers.
using Sequence = std::u32string;
using Counts = std::unordered_map<std::u32string_view, int64_t>;

// What str.isspace of Python says.
bool is_white(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::vector<Sequence> split(const Sequence& text) {
  std::vector<Sequence> words;
  for (std::size_t end = 0; end < text.size();) {
    const auto first = std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), is_white);
    const auto last = std::find_if(first, text.end(), is_white);
    if (first != last) words.emplace_back(first, last);
    end = static_cast<std::size_t>(last - text.begin());
  }
  return words;
}

// Gives each different word a number.
class Vocabulary {
 public:
  Sequence numbers(const std::vector<Sequence>& words) {
    Sequence out;
    for (const auto& word : words) out += ids_.emplace(word, static_cast<char32_t>(ids_.size())).first->second;
    return out;
  }

 private:
  std::unordered_map<Sequence, char32_t> ids_;
};

// How often each n-gram is there; they are views of `sequence`.
Counts ngrams(const Sequence& sequence, std::size_t n) {
  Counts counts;
  const std::u32string_view all = sequence;
  for (std::size_t i = 0; i + n <= all.size(); ++i) ++counts[all.substr(i, n)];
  return counts;
}

int64_t number_of_ngrams(const Sequence& sequence, std::size_t n) {
  return sequence.size() < n ? 0 : static_cast<int64_t>(sequence.size() - n + 1);
}

int64_t common(const Counts& a, const Counts& b) {
  int64_t all = 0;
  for (const auto& [ngram, count] : a) {
    if (const auto other = b.find(ngram); other != b.end()) all += std::min(count, other->second);
  }
  return all;
}

int64_t distance(const Sequence& from, const Sequence& to, int64_t substitution_cost = 1) {
  std::vector<int64_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) {
    int64_t diagonal = std::exchange(row[0], static_cast<int64_t>(i) + 1);
    for (std::size_t j = 0; j < to.size(); ++j) {
      const int64_t replaced = diagonal + (from[i] == to[j] ? 0 : substitution_cost);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

int64_t longest_common_subsequence(const Sequence& a, const Sequence& b) {
  std::vector<int64_t> row(b.size() + 1);
  for (const char32_t x : a) {
    int64_t diagonal = 0;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const int64_t above = row[j + 1];
      row[j + 1] = x == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return row.back();
}

// Both texts as numbers of their words.
std::pair<Sequence, Sequence> numbered(const std::string& pred, const std::string& target) {
  Vocabulary vocabulary;
  auto first = vocabulary.numbers(split(characters(pred)));
  return {std::move(first), vocabulary.numbers(split(characters(target)))};
}

}  // namespace

// --- TextMetric ---

TextMetric::TextMetric(const char* name, int64_t counts, bool several, bool keeps_all)
    : name_(name), size_(static_cast<std::size_t>(counts)), several_(several), keeps_all_(keeps_all) {
  counts_ = keeps_all ? add_list("counts", torch::kFloat64)
                      : add_state("counts", torch::zeros({counts}, torch::kFloat64), Combine::sum);
}

std::vector<Texts> TextMetric::one_each(const Texts& target) {
  std::vector<Texts> all;
  for (const auto& text : target) all.push_back({text});
  return all;
}

torch::Tensor TextMetric::counted(const Texts& preds, const std::vector<Texts>& targets) const {
  if (preds.size() != targets.size()) {
    throw UsageError(c10::str(name_, ": there are ", preds.size(), " preds and ", targets.size(), " targets"));
  }
  std::vector<double> all(keeps_all_ ? 0 : size_, 0.0);
  for (std::size_t i = 0; i < preds.size(); ++i) {
    if (targets[i].empty()) throw UsageError(c10::str(name_, ": text ", i, " has no target"));
    if (!several_ && targets[i].size() > 1) {
      throw UsageError(c10::str(name_, ": text ", i, " has ", targets[i].size(), " targets; give one"));
    }
    const auto own = count(preds[i], targets[i]);
    if (keeps_all_) all.insert(all.end(), own.begin(), own.end());
    for (std::size_t k = 0; !keeps_all_ && k < size_; ++k) all[k] += own[k];
  }
  return torch::tensor(all, torch::kFloat64).to(device());
}

void TextMetric::add(const torch::Tensor& counts) {
  if (keeps_all_) {
    append(counts_, counts);
  } else {
    at(counts_) += counts;
  }
}

void TextMetric::update(const Texts& preds, const std::vector<Texts>& targets) {
  refuse_text();
  gather({counted(preds, targets)}, [this](const Inputs& inputs) { add(inputs[0]); });
}

torch::Tensor TextMetric::operator()(const Texts& preds, const std::vector<Texts>& targets) {
  refuse_text();
  return gather_batch({counted(preds, targets)}, [this](const Inputs& inputs) { add(inputs[0]); });
}

// --- Error rates ---

torch::Tensor ErrorRate::result() const {
  return counts()[0] / counts()[1];
}

WordErrorRate::WordErrorRate(WordErrorRateOptions) : ErrorRate("WordErrorRate") {}

std::vector<double> WordErrorRate::count(const std::string& pred, const Texts& targets) const {
  const auto [words, right] = numbered(pred, targets[0]);
  return {static_cast<double>(distance(words, right)), static_cast<double>(right.size())};
}

CharErrorRate::CharErrorRate(CharErrorRateOptions) : ErrorRate("CharErrorRate") {}

std::vector<double> CharErrorRate::count(const std::string& pred, const Texts& targets) const {
  const auto right = characters(targets[0]);
  return {static_cast<double>(distance(characters(pred), right)), static_cast<double>(right.size())};
}

MatchErrorRate::MatchErrorRate(MatchErrorRateOptions) : ErrorRate("MatchErrorRate") {}

std::vector<double> MatchErrorRate::count(const std::string& pred, const Texts& targets) const {
  const auto [words, right] = numbered(pred, targets[0]);
  return {static_cast<double>(distance(words, right)), static_cast<double>(std::max(words.size(), right.size()))};
}

// --- EditDistance ---

EditDistance::EditDistance(EditDistanceOptions options)
    : TextMetric("EditDistance", 2, /*several=*/false, options.reduction == Reduction::none), options_(options) {
  check_at_least("EditDistance", "substitution_cost", options_.substitution_cost, 0);
}

std::vector<double> EditDistance::count(const std::string& pred, const Texts& targets) const {
  const auto cost = static_cast<double>(distance(characters(pred), characters(targets[0]), options_.substitution_cost));
  if (options_.reduction == Reduction::none) return {cost};
  return {cost, 1};
}

torch::Tensor EditDistance::result() const {
  if (options_.reduction == Reduction::none) return counts();
  return options_.reduction == Reduction::sum ? counts()[0] : counts()[0] / counts()[1];
}

// --- BLEUScore ---

// Counts: words of preds, of targets, then n-grams that a target has, and all n-grams, of each length.
BLEUScore::BLEUScore(BLEUScoreOptions options)
    : TextMetric("BLEUScore", 2 + 2 * std::max<int64_t>(options.n_gram, 0), /*several=*/true),
      options_(std::move(options)) {
  check_at_least("BLEUScore", "n_gram", options_.n_gram, 1);
  if (options_.weights && std::ssize(*options_.weights) != options_.n_gram) {
    throw UsageError(c10::str("BLEUScore: there are ", options_.weights->size(),
                              " weights; give one of each n up to n_gram = ", options_.n_gram));
  }
}

std::vector<double> BLEUScore::count(const std::string& pred, const Texts& targets) const {
  Vocabulary vocabulary;
  const auto words = vocabulary.numbers(split(characters(pred)));
  std::vector<Sequence> right;
  for (const auto& target : targets) right.push_back(vocabulary.numbers(split(characters(target))));
  const auto off = [&](const Sequence& target) {
    return std::abs(static_cast<int64_t>(words.size()) - static_cast<int64_t>(target.size()));
  };
  const auto nearest_length =
      std::ranges::min_element(right, [&](const auto& a, const auto& b) { return off(a) < off(b); })->size();
  const auto longest = static_cast<std::size_t>(options_.n_gram);
  std::vector<double> counts(2 + 2 * longest);
  counts[0] = static_cast<double>(words.size());
  counts[1] = static_cast<double>(nearest_length);
  for (std::size_t n = 1; n <= longest; ++n) {
    Counts most;
    for (const auto& target : right) {
      for (const auto& [ngram, count] : ngrams(target, n)) most[ngram] = std::max(most[ngram], count);
    }
    counts[1 + n] = static_cast<double>(common(ngrams(words, n), most));
    counts[1 + longest + n] = static_cast<double>(number_of_ngrams(words, n));
  }
  return counts;
}

torch::Tensor BLEUScore::result() const {
  const auto all = counts();
  const auto matches = all.slice(0, 2, 2 + options_.n_gram), possible = all.slice(0, 2 + options_.n_gram);
  auto precision = matches / possible;
  if (options_.smooth) precision = torch::cat({precision.slice(0, 0, 1), ((matches + 1) / (possible + 1)).slice(0, 1)});
  const auto n = static_cast<std::size_t>(options_.n_gram);
  const auto weights =
      torch::tensor(options_.weights.value_or(std::vector<double>(n, 1 / static_cast<double>(n))), all.options());
  const auto mean = (weights * precision.log()).sum().exp();
  const auto penalty = torch::where(all[0] > all[1], 1.0, (1 - all[1] / all[0]).exp());
  return torch::where(matches.min() == 0, 0.0, penalty * mean);
}

// --- CHRFScore ---

namespace {

constexpr double smallest_divisor = 1e-16;  // torchmetrics' and sacrebleu's

// Words, of which a mark at one end is a word of its own.
std::vector<Sequence> words_and_marks(const Sequence& text) {
  const auto is_mark = [](char32_t c) {
    return std::u32string_view(U"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").find(c) != std::u32string_view::npos;
  };
  std::vector<Sequence> out;
  for (const auto& word : split(text)) {
    if (word.size() > 1 && is_mark(word.back())) {
      out.push_back(word.substr(0, word.size() - 1));
      out.push_back(word.substr(word.size() - 1));
    } else if (word.size() > 1 && is_mark(word.front())) {
      out.push_back(word.substr(0, 1));
      out.push_back(word.substr(1));
    } else {
      out.push_back(word);
    }
  }
  return out;
}

Sequence without_spaces(const Sequence& text) {
  const auto first = std::ranges::find_if_not(text, is_white);
  const auto last = std::find_if_not(text.rbegin(), std::make_reverse_iterator(first), is_white).base();
  Sequence out(first, last);
  std::erase(out, U' ');
  return out;
}

}  // namespace

// Counts, of each length of characters and then of words: n-grams of preds, of targets, and those of both.
CHRFScore::CHRFScore(CHRFScoreOptions options)
    : TextMetric("CHRFScore",
                 3 * (std::max<int64_t>(options.n_char_order, 0) + std::max<int64_t>(options.n_word_order, 0)),
                 /*several=*/true),
      options_(options) {
  check_at_least("CHRFScore", "n_char_order", options_.n_char_order, 1);
  check_at_least("CHRFScore", "n_word_order", options_.n_word_order, 0);
  if (!(options_.beta >= 0) || !std::isfinite(options_.beta)) {
    throw UsageError("CHRFScore: beta = " + double_to_text(options_.beta) + "; use a number from 0 on");
  }
}

double CHRFScore::score(const std::vector<double>& counts) const {
  const double squared = options_.beta * options_.beta;
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); i += 3) {
    const double precision = counts[i] > 0 ? counts[i + 2] / counts[i] : 0;
    const double recall = counts[i + 1] > 0 ? counts[i + 2] / counts[i + 1] : 0;
    sum += (1 + squared) * precision * recall / std::max(squared * precision + recall, smallest_divisor);
  }
  return 3 * sum / static_cast<double>(counts.size());
}

std::vector<double> CHRFScore::count(const std::string& pred, const Texts& targets) const {
  Vocabulary vocabulary;
  const auto prepared = [&](const std::string& text) {
    const auto all = characters(options_.lowercase ? small_letters(text) : text);
    return std::pair{options_.whitespace ? all : without_spaces(all), vocabulary.numbers(words_and_marks(all))};
  };
  const auto own = prepared(pred);
  const auto compare = [&](const std::pair<Sequence, Sequence>* target) {
    std::vector<double> counts;
    const auto compare_lengths = [&](const Sequence& a, const Sequence* b, int64_t longest) {
      for (std::size_t n = 1; n <= static_cast<std::size_t>(longest); ++n) {
        counts.push_back(static_cast<double>(number_of_ngrams(a, n)));
        counts.push_back(b ? static_cast<double>(number_of_ngrams(*b, n)) : 0);
        counts.push_back(b ? static_cast<double>(common(ngrams(a, n), ngrams(*b, n))) : 0);
      }
    };
    compare_lengths(own.first, target ? &target->first : nullptr, options_.n_char_order);
    compare_lengths(own.second, target ? &target->second : nullptr, options_.n_word_order);
    return counts;
  };
  // As in torchmetrics a text that has nothing in common with any target is compared with an empty one.
  auto best = compare(nullptr);
  double highest = 0;
  for (const auto& text : targets) {
    const auto target = prepared(text);
    auto counts = compare(&target);
    if (const double own_score = score(counts); own_score > highest) {
      highest = own_score;
      best = std::move(counts);
    }
  }
  return best;
}

torch::Tensor CHRFScore::result() const {
  const auto all = counts().reshape({-1, 3});
  const auto preds = all.select(1, 0), targets = all.select(1, 1), both = all.select(1, 2);
  const double squared = options_.beta * options_.beta;
  const auto precision = torch::where(preds > 0, both / preds, 0.0);
  const auto recall = torch::where(targets > 0, both / targets, 0.0);
  return ((1 + squared) * precision * recall / (squared * precision + recall).clamp_min(smallest_divisor)).mean();
}

// --- ROUGEScore ---

namespace {

std::vector<Sequence> letters_and_digits(const std::string& text) {
  std::vector<Sequence> words(1);
  for (const char c : small_letters(text)) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      words.back() += static_cast<char32_t>(c);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// The words of each line, as numbers.
std::vector<Sequence> sentences_of(const std::string& text, Vocabulary& vocabulary) {
  std::vector<Sequence> all;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    all.push_back(vocabulary.numbers(letters_and_digits(text.substr(begin, end - begin))));
    begin = end + 1;
  }
  return all;
}

// Marks the words of `target` that are in a longest common subsequence with `pred`: of several such, the one with the
// words that come last.
void mark_common(const Sequence& pred, const Sequence& target, std::vector<bool>& marks) {
  const std::size_t width = pred.size() + 1;
  std::vector<int64_t> lengths((target.size() + 1) * width);
  const auto length = [&](std::size_t j, std::size_t i) -> int64_t& { return lengths[j * width + i]; };
  for (std::size_t j = 1; j <= target.size(); ++j) {
    for (std::size_t i = 1; i <= pred.size(); ++i) {
      length(j, i) =
          target[j - 1] == pred[i - 1] ? length(j - 1, i - 1) + 1 : std::max(length(j - 1, i), length(j, i - 1));
    }
  }
  for (std::size_t i = pred.size(), j = target.size(); i > 0 && j > 0;) {
    if (pred[i - 1] == target[j - 1]) {
      marks[j - 1] = true;
      --i, --j;
    } else if (length(j, i - 1) > length(j - 1, i)) {
      --i;
    } else {
      --j;
    }
  }
}

// Words of the target's sentences that are in the text's (Lin 2004, 3.2), each word as often as it is in both.
int64_t union_of_subsequences(const std::vector<Sequence>& pred, const std::vector<Sequence>& target) {
  std::unordered_map<char32_t, int64_t> in_pred, in_target;
  for (const auto& sentence : pred) std::ranges::for_each(sentence, [&](char32_t word) { ++in_pred[word]; });
  for (const auto& sentence : target) std::ranges::for_each(sentence, [&](char32_t word) { ++in_target[word]; });
  int64_t hits = 0;
  for (const auto& sentence : target) {
    std::vector<bool> marks(sentence.size());
    for (const auto& other : pred) mark_common(other, sentence, marks);
    for (std::size_t j = 0; j < sentence.size(); ++j) {
      if (!marks[j] || in_pred[sentence[j]] == 0 || in_target[sentence[j]] == 0) continue;
      --in_pred[sentence[j]], --in_target[sentence[j]];
      ++hits;
    }
  }
  return hits;
}

int64_t number_of_words(const std::vector<Sequence>& sentences) {
  return std::accumulate(sentences.begin(), sentences.end(), int64_t{0},
                         [](int64_t sum, const Sequence& each) { return sum + std::ssize(each); });
}

// In the order of RougeStatistic.
std::array<double, 3> rouge_shares(int64_t hits, int64_t of_preds, int64_t of_target) {
  if (hits == 0) return {0, 0, 0};
  const double precision = static_cast<double>(hits) / static_cast<double>(of_preds);
  const double recall = static_cast<double>(hits) / static_cast<double>(of_target);
  return {2 * precision * recall / (precision + recall), precision, recall};
}

}  // namespace

// Counts: the sums of F-measures, precisions and recalls, and the texts.
ROUGEScore::ROUGEScore(ROUGEScoreOptions options) : TextMetric("ROUGEScore", 4, /*several=*/true), options_(options) {}

std::vector<double> ROUGEScore::count(const std::string& pred, const Texts& targets) const {
  Vocabulary vocabulary;
  const auto words = vocabulary.numbers(letters_and_digits(pred));
  std::array<double, 3> best{}, sum{};
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto right = vocabulary.numbers(letters_and_digits(targets[i]));
    std::array<double, 3> shares{};
    if (options_.rouge_key == RougeKey::rougeLsum) {
      const auto all = sentences_of(pred, vocabulary), others = sentences_of(targets[i], vocabulary);
      shares = rouge_shares(union_of_subsequences(all, others), number_of_words(all), number_of_words(others));
    } else if (options_.rouge_key == RougeKey::rougeL) {
      shares = rouge_shares(longest_common_subsequence(words, right), std::ssize(words), std::ssize(right));
    } else {
      const auto n = static_cast<std::size_t>(options_.rouge_key);
      shares = rouge_shares(common(ngrams(words, n), ngrams(right, n)), number_of_ngrams(words, n),
                            number_of_ngrams(right, n));
    }
    if (i == 0 || shares[0] > best[0]) best = shares;
    for (std::size_t k = 0; k < 3; ++k) sum[k] += shares[k] / static_cast<double>(targets.size());
  }
  const auto& kept = options_.accumulate == RougeAccumulate::best ? best : sum;
  return {kept[0], kept[1], kept[2], 1};
}

torch::Tensor ROUGEScore::result() const {
  return counts()[static_cast<int64_t>(options_.statistic)] / counts()[3];
}

}  // namespace troupe::metrics
