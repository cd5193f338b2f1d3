#include "troupe/runtime/terminal/progress_bar.hpp"

#include "troupe/base/text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <sstream>

namespace troupe {
namespace {

ProgressState training(int64_t batch, int64_t epoch = 3) {
  return {.activity = Activity::train,
          .epoch = epoch,
          .max_epochs = 10,
          .batch = batch,
          .total_batches = 125,
          .elapsed = 12.4,
          .batches_per_second = 4.61,
          .metrics = {{"train_loss", 0.2314}, {"val_acc", 0.951}}};
}

ProgressState validation(int64_t batch) {
  return {.activity = Activity::validate,
          .epoch = 3,
          .max_epochs = 10,
          .batch = batch,
          .total_batches = 16,
          .elapsed = 1,
          .batches_per_second = 16,
          .metrics = {}};
}

/// A bar of so many cells, of which so many are full and the next one in part.
std::string bar_of(int cells, int full, int eighths) {
  constexpr std::array<const char*, 8> part{" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  std::string bar;
  for (int i = 0; i < full; ++i) bar += "█";
  bar += part[static_cast<std::size_t>(eighths)];
  return bar + std::string(static_cast<std::size_t>(cells - full - 1), ' ');
}

TEST(ProgressLine, FillsTheWidthWithTheBar) {
  EXPECT_EQ(render_bar(training(56), 91),
            "Epoch 3/9:  45%|████▍     | 56/125 [00:12<00:14, 4.61it/s, train_loss=0.231, val_acc=0.951]");
}

TEST(ProgressLine, NeverPassesTheWidth) {
  for (int width = 0; width < 120; ++width) EXPECT_LE(columns(render_bar(training(56), width)), width);
  auto wide = training(56);
  wide.metrics = {{"損失\n🎭", 1}, {"bad\xFF", 2}};
  for (int width = 0; width < 120; ++width) EXPECT_LE(columns(render_bar(wide, width)), width);
}

TEST(ProgressLine, DropsTheBarThenMetricsFromTheLastOne) {
  EXPECT_EQ(render_bar(training(56), 80),
            "Epoch 3/9:  45% 56/125 [00:12<00:14, 4.61it/s, train_loss=0.231, val_acc=0.951]");
  EXPECT_EQ(render_bar(training(56), 70), "Epoch 3/9:  45% 56/125 [00:12<00:14, 4.61it/s, train_loss=0.231, …]");
  EXPECT_EQ(render_bar(training(56), 12), "Epoch 3/9:");
  EXPECT_EQ(render_bar(training(56), 4), "Epoc");
}

TEST(ProgressLine, ShowsTheTimeLeftOfTheRunBesideThatOfTheEpoch) {
  auto state = training(56);
  state.run_seconds_left = 185;
  EXPECT_EQ(render_bar(state, 200), "Epoch 3/9:  45%|" + bar_of(108, 48, 3) +
                                        "| 56/125 [00:12<00:14, run<03:05, 4.61it/s, train_loss=0.231, val_acc=0.951]");
  state.run_seconds_left = 20;
  EXPECT_NE(render_plain(state).find("00:12<00:14, run<00:20, 4.61it/s"), std::string::npos);
}

TEST(ProgressLine, EndsAnEpochWithItsRun) {
  auto state = training(56);
  state.run_seconds_left = 3;  // by max_time
  EXPECT_NE(render_plain(state).find("[00:12<00:03, run<00:03, 4.61it/s"), std::string::npos) << render_plain(state);
  state.max_epochs = 1;
  EXPECT_NE(render_plain(state).find("[00:12<00:03, 4.61it/s"), std::string::npos) << "it says so once";
  state.run_seconds_left = 185;  // with its validation
  EXPECT_NE(render_plain(state).find("[00:12<00:14, 4.61it/s"), std::string::npos) << render_plain(state);
  state.total_batches.reset();
  EXPECT_NE(render_plain(state).find("[00:12<03:05, 4.61it/s"), std::string::npos) << "a stream, by max_time";
}

TEST(ProgressLine, KeepsWhatMattersMostOnANarrowTerminal) {
  auto state = training(56);
  state.run_seconds_left = 185;
  EXPECT_EQ(render_bar(state, 80), "Epoch 3/9:  45% 56/125 [00:12<00:14, run<03:05, 4.61it/s, train_loss=0.231, …]");
  EXPECT_EQ(render_bar(state, 60), "Epoch 3/9:  45% 56/125 [run<03:05, train_loss=0.231, …]");
  EXPECT_EQ(render_bar(state, 40), "Epoch 3/9:  45% 56/125 [run<03:05, …]");
  EXPECT_EQ(render_bar(state, 20), "Epoch 3/9:  45%");
  state.metrics = {{"loss", 0.5}, {"acc", 0.25}};
  EXPECT_EQ(render_bar(state, 40), "Epoch 3/9:  45% [run<03:05, loss=0.500]");
  EXPECT_EQ(render_bar(state, 20), "Epoch 3/9:  45%");
  state.run_seconds_left.reset();
  EXPECT_EQ(render_bar(state, 40), "Epoch 3/9:  45% 56/125 [00:12<00:14, …]");
  EXPECT_EQ(render_bar(validation(4), 20), "Validation:  25%");
}

TEST(ProgressLine, CountsTheColumnsOfWideAndCombiningCharacters) {
  auto state = training(56);
  state.run_seconds_left = 185;
  state.metrics = {{"損失", 0.5}, {"précis", 0.25}};  // the second e has its accent as a character of its own
  EXPECT_EQ(render_bar(state, 40), "Epoch 3/9:  45% [run<03:05, 損失=0.500]");
  EXPECT_EQ(columns(render_bar(state, 40)), 39);
  EXPECT_EQ(render_bar(state, 38), "Epoch 3/9:  45% 56/125 [run<03:05, …]");
  EXPECT_EQ(render_bar(state, 80), "Epoch 3/9:  45% 56/125 [00:12<00:14, run<03:05, 4.61it/s, 損失=0.500, …]");
  EXPECT_EQ(render_bar(state, 86),
            "Epoch 3/9:  45% 56/125 [00:12<00:14, run<03:05, 4.61it/s, 損失=0.500, précis=0.250]");
}

TEST(ProgressLine, ShowsAQuestionMarkForWhatIsUnknown) {
  ProgressState state{.activity = Activity::train,
                      .epoch = 2,
                      .max_epochs = {},
                      .batch = 56,
                      .total_batches = {},
                      .elapsed = 3700,
                      .batches_per_second = 0,
                      .metrics = {}};
  EXPECT_EQ(render_bar(state, 80), "Epoch 2: 56/? [1:01:40<?, ?it/s]");
  for (double odd : {std::nan(""), std::numeric_limits<double>::infinity(), -1.0, 1e300, 1e-300}) {
    state.elapsed = state.batches_per_second = odd;
    state.total_batches = std::signbit(odd) ? -5 : 100;
    EXPECT_LE(columns(render_bar(state, 80)), 80);
  }
}

TEST(ProgressLine, SurvivesOddCounts) {
  auto state = training(130);
  EXPECT_EQ(render_plain(state), "Epoch 3/9: 100% 130/125 [00:12<00:00, 4.61it/s, train_loss=0.231, val_acc=0.951]");
  state.total_batches = 0;
  state.batch = 0;
  EXPECT_EQ(render_bar(state, 40), "Epoch 3/9: 0/0 [00:12<?, 4.61it/s, …]");
}

TEST(ProgressLine, SaysHundredPercentOnlyAtTheEnd) {
  auto state = training(9999);
  state.total_batches = 10000;
  EXPECT_NE(render_plain(state).find(" 99% 9999/10000"), std::string::npos);
}

TEST(ProgressLine, KeepsMetricsToFiveCharacters) {
  auto state = training(1);
  state.metrics = {{"a", 1}, {"b", 12.3}, {"c", 123456}, {"d", std::nan("")}, {"e", 0}, {"f", -INFINITY}};
  EXPECT_NE(render_plain(state).find("a=1.000, b=12.30, c=1.23e+05, d=nan, e=0.000, f=-inf]"), std::string::npos)
      << render_plain(state);
}

TEST(ProgressLine, CountsSecondsABatchWhereBatchesAreSlow) {
  auto state = training(100);
  state.batches_per_second = 0.25;
  EXPECT_NE(render_plain(state).find("[00:12<01:40, 4.00s/it"), std::string::npos);
}

/// A terminal that understands what the bar writes to it.
std::vector<std::string> screen_after(const std::string& written) {
  std::vector<std::string> lines(1);
  std::size_t row = 0, begin = 0;
  bool at_start = true;  // a column other than the first is only ever the end of the line
  auto erase = [&](bool below) {
    if (at_start) lines[row].clear();
    if (below) lines.resize(row + 1);
  };
  for (; begin < written.size(); ++begin) {
    std::string_view rest = std::string_view(written).substr(begin);
    if (rest.starts_with("\x1b[1A")) {
      --row, begin += 3;
    } else if (rest.starts_with("\x1b[K") || rest.starts_with("\x1b[J")) {
      erase(rest[2] == 'J');
      begin += 2;
    } else if (rest[0] == '\r') {
      at_start = true;
    } else if (rest[0] == '\n') {
      if (++row == lines.size()) lines.emplace_back();
      at_start = true;
    } else {
      if (at_start) lines[row].clear();
      at_start = false;
      lines[row] += rest[0];
    }
  }
  return lines;
}

class ProgressBarTest : public testing::Test {
 protected:
  ProgressBar make(bool is_terminal, ProgressBarOptions options = {}) {
    return {out, is_terminal, [this] { return width; }, [this] { return now; }, options};
  }
  std::vector<std::string> screen() const { return screen_after(out.str()); }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::istringstream in(out.str());
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  /// What was written since the last call.
  std::string written() {
    std::string text = out.str().substr(seen);
    seen = out.str().size();
    return text;
  }

  std::ostringstream out;
  std::size_t seen = 0;
  double now = 100;
  int width = 100;
};

TEST_F(ProgressBarTest, DrawsAtMostTenTimesASecond) {
  auto bar = make(true);
  int drawings = 0;
  for (int64_t batch = 0; batch < 1000; ++batch) {
    now = 100 + static_cast<double>(batch) / 1024;
    bar.update(training(batch));
    drawings += !written().empty();
  }
  EXPECT_LE(drawings, 10);
  EXPECT_GE(drawings, 9);
}

TEST_F(ProgressBarTest, AlwaysDrawsTheLastStateOfAStage) {
  auto bar = make(true);
  bar.update(training(124));
  bar.update(training(125));
  EXPECT_EQ(screen().back(), render_bar(training(124), 99));
  bar.finish();
  EXPECT_EQ(screen().back(), render_bar(training(125), 99));
}

TEST_F(ProgressBarTest, ShowsValidationBelowTrainingUntilItIsFinished) {
  auto bar = make(true);
  bar.update(training(56));
  now += 1;
  bar.update(validation(4));
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(training(56), 99), render_bar(validation(4), 99)}));
  now += 1;
  bar.update(validation(8));
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(training(56), 99), render_bar(validation(8), 99)}));
  bar.finish();
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(training(56), 99)}));
  bar.update(training(57));
  bar.finish();
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(training(57), 99)}));
}

TEST_F(ProgressBarTest, LetsTheNextEpochTakeThePlaceOfTheLast) {
  auto bar = make(true);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    bar.update(training(125, epoch));
    bar.finish();
  }
  bar.close();
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(training(125, 2), 99), ""}));
}

TEST_F(ProgressBarTest, LeavesEveryEpochWhenAskedTo) {
  auto bar = make(true, {.leave = true});
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    bar.update(training(125, epoch));
    bar.finish();
  }
  bar.close();
  EXPECT_EQ(screen(),
            (std::vector<std::string>{render_bar(training(125, 0), 99), render_bar(training(125, 1), 99), ""}));
}

TEST_F(ProgressBarTest, RemovesTheSanityCheckWhenItIsDone) {
  auto bar = make(true);
  auto sanity = validation(1);
  sanity.activity = Activity::sanity_check;
  bar.update(sanity);
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(sanity, 99)}));
  bar.finish();
  EXPECT_EQ(screen(), (std::vector<std::string>{""}));
}

TEST_F(ProgressBarTest, KeepsValidationThatIsRunByItself) {
  auto bar = make(true);
  bar.update(validation(16));
  bar.finish();
  bar.close();
  EXPECT_EQ(screen(), (std::vector<std::string>{render_bar(validation(16), 99), ""}));
}

TEST_F(ProgressBarTest, PrintsLinesAboveTheBar) {
  auto bar = make(true);
  bar.print_line("before");
  bar.update(training(56));
  now += 1;
  bar.update(validation(4));
  bar.print_line("two\nlines");
  EXPECT_EQ(screen(), (std::vector<std::string>{"before", "two", "lines", render_bar(training(56), 99),
                                                render_bar(validation(4), 99)}));
}

TEST_F(ProgressBarTest, FollowsTheTerminalsWidthAndSurvivesNone) {
  auto bar = make(true);
  width = 50;
  bar.update(training(56));
  EXPECT_LT(columns(screen().back()), 50);
  width = 0;
  now += 1;
  bar.update(training(57));
  EXPECT_EQ(screen().back(), render_bar(training(57), 79));
}

TEST_F(ProgressBarTest, PrintsPlainLinesAtMostEveryFiveSecondsWithoutATerminal) {
  auto bar = make(false);
  for (int64_t batch = 1; batch <= 125; ++batch) {
    now += 0.1;
    bar.update(training(batch));
  }
  bar.finish();
  bar.close();
  EXPECT_EQ(lines().size(), 3u) << out.str();
  EXPECT_EQ(lines().back(), render_plain(training(125)));
  EXPECT_EQ(out.str().find('\r'), std::string::npos);
  EXPECT_EQ(out.str().find('\x1b'), std::string::npos);
}

TEST_F(ProgressBarTest, PrintsOneLineForAShortStageWithoutATerminal) {
  auto bar = make(false);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    bar.update(training(124, epoch));
    bar.update(validation(8));
    bar.update(validation(16));
    bar.finish();
    bar.update(training(125, epoch));
    bar.finish();
  }
  bar.close();
  EXPECT_EQ(lines(), (std::vector<std::string>{render_plain(validation(16)), render_plain(training(125, 0)),
                                               render_plain(validation(16)), render_plain(training(125, 1))}));
}

TEST_F(ProgressBarTest, FinishesAStageThatTheNextOneInterrupts) {
  for (bool is_terminal : {true, false}) {
    auto bar = make(is_terminal);
    auto test = validation(16);
    test.activity = Activity::test;
    bar.update(training(7));
    bar.update(test);
    bar.close();
    EXPECT_NE(out.str().find("7/125"), std::string::npos);
    EXPECT_NE(out.str().find("Testing"), std::string::npos);
  }
}

TEST_F(ProgressBarTest, DoesNothingWhenThereIsNothingToFinish) {
  auto bar = make(true);
  bar.finish();
  bar.close();
  EXPECT_EQ(out.str(), "");
}

TEST_F(ProgressBarTest, IgnoresAStreamThatCannotBeWritten) {
  auto bar = make(true);
  out.setstate(std::ios::badbit);
  EXPECT_NO_THROW(bar.update(training(1)));
  EXPECT_NO_THROW(bar.close());
}

}  // namespace
}  // namespace troupe
