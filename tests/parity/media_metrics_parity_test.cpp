// Metrics of retrieval, text and images against torchmetrics'.
#include "tests/parity/metric_cases.hpp"
#include "troupe/modules/metrics/image.hpp"
#include "troupe/modules/metrics/retrieval.hpp"
#include "troupe/modules/metrics/text.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <sstream>

namespace troupe {
namespace {

MetricCases& media_cases() {
  static MetricCases all("media_metrics.py");
  return all;
}

// --- Retrieval ---

MetricCases::Feed queries(const std::string& data) {
  return [data](Metric& metric, int64_t batch, bool alone) {
    auto& retrieval = dynamic_cast<metrics::RetrievalMetric&>(metric);
    const auto input = [&](const char* which) { return media_cases().input(data, which, batch); };
    if (alone) return retrieval(input("preds"), input("target"), input("indexes"));
    retrieval.update(input("preds"), input("target"), input("indexes"));
    return torch::Tensor();
  };
}

struct Asked {
  std::string data, action;
  std::optional<int64_t> k, ignore_index;

  std::string text() const { return data + "/" + std::to_string(k.value_or(0)) + "," + action; }
  template <class Options>
  Options options() const {
    return {.empty_target_action = named<metrics::EmptyTargetAction>(action), .ignore_index = ignore_index, .top_k = k};
  }
};

template <class M, class Options = metrics::RetrievalOptions>
void compare_retrieval(const char* name, const Asked& asked) {
  media_cases().compare(name + ("/" + asked.text()), MetricCases::make<M>(asked.options<Options>()),
                        queries(asked.data));
}

TEST(MediaMetricsParity, RetrievalIsTorchmetrics) {
  using namespace metrics;
  for (const std::string data : {"queries", "query_logits", "query_ignored", "queries_without"}) {
    const auto ignore_index = data == "query_ignored" ? std::optional<int64_t>(-1) : std::nullopt;
    for (const std::optional<int64_t> k :
         {std::optional<int64_t>(), std::optional<int64_t>(1), std::optional<int64_t>(3)}) {
      for (const std::string action : {"neg", "pos", "skip"}) {
        const Asked asked{data, action, k, ignore_index};
        compare_retrieval<RetrievalMRR>("RetrievalMRR", asked);
        compare_retrieval<RetrievalMAP>("RetrievalMAP", asked);
        compare_retrieval<RetrievalNormalizedDCG>("RetrievalNormalizedDCG", asked);
        compare_retrieval<RetrievalRecall>("RetrievalRecall", asked);
        compare_retrieval<RetrievalPrecision, RetrievalPrecisionOptions>("RetrievalPrecision", asked);
        compare_retrieval<RetrievalHitRate>("RetrievalHitRate", asked);
        compare_retrieval<RetrievalFallOut, RetrievalFallOutOptions>("RetrievalFallOut", asked);
      }
    }
    auto& cases = media_cases();
    cases.compare("RetrievalPrecision/" + data + "/adaptive",
                  MetricCases::make<RetrievalPrecision>(
                      RetrievalPrecisionOptions{.ignore_index = ignore_index, .top_k = 3, .adaptive_k = true}),
                  queries(data));
    cases.compare("RetrievalRPrecision/" + data + "/",
                  MetricCases::make<RetrievalRPrecision>(RetrievalRPrecisionOptions{.ignore_index = ignore_index}),
                  queries(data));
    for (const std::string aggregation : {"median", "min", "max"}) {
      cases.compare("RetrievalMRR/" + data + "/" + aggregation,
                    MetricCases::make<RetrievalMRR>(
                        RetrievalOptions{.ignore_index = ignore_index, .aggregation = named<Aggregation>(aggregation)}),
                    queries(data));
    }
  }
  for (const std::string data : {"gains", "tied_gains"}) {
    for (const std::optional<int64_t> k : {std::optional<int64_t>(), std::optional<int64_t>(3)}) {
      media_cases().compare("RetrievalNormalizedDCG/" + data + "/" + std::to_string(k.value_or(0)),
                            MetricCases::make<RetrievalNormalizedDCG>(RetrievalOptions{.top_k = k}), queries(data));
    }
  }
}

// --- Text ---

std::vector<std::string> cut(const std::string& text, char end) {
  std::vector<std::string> parts;
  std::istringstream stream(text + end);
  for (std::string part; std::getline(stream, part, end);) parts.push_back(part);
  return parts;
}

MetricCases::Feed texts(const std::string& data) {
  return [data](Metric& metric, int64_t batch, bool alone) {
    auto& scored = dynamic_cast<metrics::TextMetric&>(metric);
    const auto lines = [&](const char* which) {
      const auto bytes = media_cases().input(data, which, batch).contiguous();
      const auto* first = static_cast<const char*>(bytes.const_data_ptr());
      return cut(std::string(first, static_cast<std::size_t>(bytes.numel()) - 1), '\x1e');
    };
    std::vector<metrics::Texts> targets;
    for (const auto& line : lines("target")) targets.push_back(cut(line, '\t'));
    if (alone) return scored(lines("preds"), targets);
    scored.update(lines("preds"), targets);
    return torch::Tensor();
  };
}

template <class M, class Options>
void compare_texts(const std::string& name, const std::string& data, const std::string& key, Options options) {
  media_cases().compare(name + "/" + data + "/" + key, MetricCases::make<M>(std::move(options)), texts(data));
}

void compare_rouge(const std::string& data, const std::string& key) {
  for (const std::string accumulate : {"best", "avg"}) {
    for (const std::string statistic : {"fmeasure", "precision", "recall"}) {
      compare_texts<metrics::ROUGEScore>(
          "ROUGEScore", data, key + "," + accumulate + "," + statistic,
          metrics::ROUGEScoreOptions{.rouge_key = named<metrics::RougeKey>(key),
                                     .statistic = named<metrics::RougeStatistic>(statistic),
                                     .accumulate = named<metrics::RougeAccumulate>(accumulate)});
    }
  }
}

TEST(MediaMetricsParity, TextIsTorchmetrics) {
  using namespace metrics;
  compare_rouge("paragraphs", "rougeLsum");
  compare_texts<WordErrorRate>("WordErrorRate", "sentences", "", WordErrorRateOptions{});
  compare_texts<CharErrorRate>("CharErrorRate", "sentences", "", CharErrorRateOptions{});
  compare_texts<MatchErrorRate>("MatchErrorRate", "sentences", "", MatchErrorRateOptions{});
  for (const std::string reduction : {"mean", "sum", "none"}) {
    for (const int64_t cost : {1, 2}) {
      compare_texts<EditDistance>(
          "EditDistance", "sentences", reduction + "," + std::to_string(cost),
          EditDistanceOptions{.substitution_cost = cost, .reduction = named<Reduction>(reduction)});
    }
  }
  for (const std::string data : {"sentences", "references"}) {
    for (const int64_t n : {1, 2, 4}) {
      for (const bool smooth : {false, true}) {
        compare_texts<BLEUScore>("BLEUScore", data, std::to_string(n) + (smooth ? ",1" : ",0"),
                                 BLEUScoreOptions{.n_gram = n, .smooth = smooth});
      }
    }
    compare_texts<BLEUScore>("BLEUScore", data, "weights",
                             BLEUScoreOptions{.n_gram = 2, .weights = std::vector<double>{0.7, 0.3}});
    compare_texts<CHRFScore>("CHRFScore", data, "", CHRFScoreOptions{});
    compare_texts<CHRFScore>("CHRFScore", data, "words",
                             CHRFScoreOptions{.n_char_order = 3, .n_word_order = 0, .beta = 1});
    compare_texts<CHRFScore>("CHRFScore", data, "all", CHRFScoreOptions{.lowercase = true, .whitespace = true});
    for (const std::string key : {"rouge1", "rouge2", "rougeL", "rougeLsum"}) compare_rouge(data, key);
  }
}

// --- Images ---

TEST(MediaMetricsParity, ImagesAreTorchmetrics) {
  using namespace metrics;
  using Similarity = StructuralSimilarityIndexMeasure;
  using SimilarityOptions = StructuralSimilarityIndexMeasureOptions;
  auto& cases = media_cases();
  for (const std::string data : {"images", "same_images"}) {
    const auto ratio = "PeakSignalNoiseRatio/" + data + "/";
    cases.compare_pairs<PeakSignalNoiseRatio>(ratio, PeakSignalNoiseRatioOptions{.data_range = 1.0}, data);
    cases.compare_pairs<PeakSignalNoiseRatio>(ratio + "clamped",
                                              PeakSignalNoiseRatioOptions{.data_range = {0.2, 0.8}, .base = 2}, data);
    for (const std::string reduction : {"elementwise_mean", "sum", "none"}) {
      const auto similarity = "StructuralSimilarityIndexMeasure/" + data + "/" + reduction;
      cases.compare_pairs<Similarity>(
          similarity + ",one",
          SimilarityOptions{.reduction = named<Reduction>(reduction), .data_range = DataRange(1.0)}, data);
      cases.compare_pairs<Similarity>(
          similarity + ",clamped",
          SimilarityOptions{.sigma = 0.8, .reduction = named<Reduction>(reduction), .data_range = DataRange(0.1, 0.9)},
          data);
      cases.compare_pairs<Similarity>(similarity + ",flat",
                                      SimilarityOptions{.gaussian_kernel = false,
                                                        .kernel_size = 7,
                                                        .reduction = named<Reduction>(reduction),
                                                        .data_range = DataRange(1.0),
                                                        .k1 = 0.02},
                                      data);
    }
  }
  const std::string volumes = "StructuralSimilarityIndexMeasure/volumes/";
  cases.compare_pairs<Similarity>(volumes + "gaussian", SimilarityOptions{.data_range = DataRange(1.0)}, "volumes");
  cases.compare_pairs<Similarity>(volumes + "clamped", SimilarityOptions{.data_range = DataRange(0.1, 0.9)}, "volumes");
  cases.compare_pairs<Similarity>(
      volumes + "flat", SimilarityOptions{.gaussian_kernel = false, .kernel_size = 5, .data_range = DataRange(1.0)},
      "volumes");
  cases.compare_pairs<Similarity>("StructuralSimilarityIndexMeasure/images/own", SimilarityOptions{}, "images");
}

TEST(MediaMetricsParity, FrechetInceptionDistanceIsTorchmetrics) {
  auto& cases = media_cases();
  metrics::FrechetInceptionDistance whole({.num_features = 4}), first({.num_features = 4}), second({.num_features = 4});
  for (int64_t batch = 0; batch < MetricCases::batches; ++batch) {
    const auto &real = cases.input("features", "preds", batch), &fake = cases.input("features", "target", batch);
    auto& part = batch % 2 == 0 ? first : second;
    for (auto* metric : {&whole, &part}) {
      metric->update(real, true);
      metric->update(fake, false);
    }
  }
  const double value = cases.epoch_of("FrechetInceptionDistance/features").item<double>();
  EXPECT_NEAR(whole.compute().item<double>(), value, 1e-6 * value);
  first.load_states(merged({first.states(), second.states()}));
  EXPECT_NEAR(first.compute().item<double>(), value, 1e-6 * value);
}

// Runs last.
TEST(MediaMetricsParity, NoCaseIsLeftOut) {
  media_cases().expect_none_left_out();
}

}  // namespace
}  // namespace troupe
