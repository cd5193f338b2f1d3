// The ways of training that are combined with each other, so that every two of them meet at least once.
#pragma once

#include "troupe/modules/options/precision.hpp"
#include "troupe/modules/options/trainer_choices.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe::matrix {

enum class Optimization { automatic, several, manual, manual_several };
enum class Extra { none, averages, finetuning, early_stopping };
/// How a run ends in the middle of an epoch, before it is resumed.
enum class Stop { max_steps, request, signal, checkpoint };

struct Combination {
  Precision precision;
  Optimization optimization;
  int64_t accumulate;  ///< batches per optimizer step; an epoch has five
  Strategy strategy;   ///< ddp, zero or fsdp
  int64_t devices;     ///< of each process
  Extra extra;
  Stop stop;

  bool is_manual() const {
    return optimization == Optimization::manual || optimization == Optimization::manual_several;
  }
  bool has_several() const {
    return optimization == Optimization::several || optimization == Optimization::manual_several;
  }
};

/// As a name of a test: "bf16_mixed_several_by2_zero2_averages_request".
inline std::string name_of(const Combination& c) {
  constexpr std::array optimizations = {"automatic", "several", "manual", "manual_several"};
  constexpr std::array extras = {"plain", "averages", "finetuning", "early_stopping"};
  constexpr std::array stops = {"max_steps", "request", "signal", "checkpoint"};
  std::string precision = name_of(c.precision);
  std::ranges::replace(precision, '-', '_');
  return precision + "_" + optimizations[static_cast<std::size_t>(c.optimization)] + "_by" +
         std::to_string(c.accumulate) + "_" + name_of(c.strategy) + std::to_string(c.devices) + "_" +
         extras[static_cast<std::size_t>(c.extra)] + "_" + stops[static_cast<std::size_t>(c.stop)];
}

/// For GoogleTest's messages.
inline std::ostream& operator<<(std::ostream& out, const Combination& c) {
  return out << name_of(c);
}

/// One value per dimension, as indices.
using Choice = std::vector<std::size_t>;

/// Choices in which every two values of different dimensions stand together at least once, found greedily: of all
/// choices the one with the most new pairs comes next.
inline std::vector<Choice> pairwise(const std::vector<std::size_t>& sizes) {
  using Pair = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t>;  // dimension and value, twice
  std::set<Pair> missing;
  for (std::size_t a = 0; a < sizes.size(); ++a) {
    for (std::size_t b = a + 1; b < sizes.size(); ++b) {
      for (std::size_t i = 0; i < sizes[a]; ++i) {
        for (std::size_t j = 0; j < sizes[b]; ++j) missing.emplace(a, i, b, j);
      }
    }
  }
  const auto pairs_of = [](const Choice& choice) {
    std::vector<Pair> pairs;
    for (std::size_t a = 0; a < choice.size(); ++a) {
      for (std::size_t b = a + 1; b < choice.size(); ++b) pairs.emplace_back(a, choice[a], b, choice[b]);
    }
    return pairs;
  };
  std::vector<Choice> all = {{}};
  for (const std::size_t size : sizes) {
    std::vector<Choice> longer;
    for (const auto& choice : all) {
      for (std::size_t value = 0; value < size; ++value) {
        longer.push_back(choice);
        longer.back().push_back(value);
      }
    }
    all = std::move(longer);
  }
  std::vector<Choice> chosen;
  while (!missing.empty()) {
    const auto news = [&](const Choice& choice) {
      return std::ranges::count_if(pairs_of(choice), [&](const Pair& pair) { return missing.contains(pair); });
    };
    const auto best = std::ranges::max_element(all, {}, news);
    for (const auto& pair : pairs_of(*best)) missing.erase(pair);
    chosen.push_back(*best);
  }
  return chosen;
}

/// Where a run takes place: strategy and devices per process.
using Place = std::pair<Strategy, int64_t>;

inline std::vector<Combination> combinations(const std::vector<Place>& places) {
  const std::vector<Precision> precisions = {Precision::float32, Precision::float64, Precision::bfloat16_mixed,
                                             Precision::float16_mixed, Precision::bfloat16_true};
  const std::vector<int64_t> windows = {1, 2, 4};
  std::vector<Combination> out;
  for (const auto& c : pairwise({precisions.size(), 4, windows.size(), places.size(), 4, 4})) {
    out.push_back({precisions[c[0]], static_cast<Optimization>(c[1]), windows[c[2]], places[c[3]].first,
                   places[c[3]].second, static_cast<Extra>(c[4]), static_cast<Stop>(c[5])});
  }
  return out;
}

}  // namespace troupe::matrix
