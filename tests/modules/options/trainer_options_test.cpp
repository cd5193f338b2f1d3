#include "troupe/modules/options/trainer_options.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string refusal(const TrainerOptions& options) {
  return troupe::refusal([&] { validate(options); });
}

TEST(TrainerOptions, DefaultsAreValidAndDescribed) {
  EXPECT_EQ(refusal({}), "accepted");
  EXPECT_EQ(describe_options<TrainerOptions>().size(), 77u);
}

std::string refusal_of(const char* name, const char* text) {
  TrainerOptions options;
  return troupe::refusal([&] { set_option(options, name, text, "trainer"); });
}

TEST(TrainerOptions, APortIsOneOfThisMachine) {
  EXPECT_EQ(refusal({.metrics_port = 0}), "accepted");
  EXPECT_EQ(
      refusal({.metrics_port = 70000}),
      "trainer.metrics_port = 70000 is not valid; use a port of 127.0.0.1 from 1 to 65535, 0 for any that is free, "
      "or none");
  EXPECT_THAT(refusal_of("metrics_port", "0.0.0.0:9100"), HasSubstr("metrics_port = 0.0.0.0:9100"));
  EXPECT_THAT(refusal_of("attach", "controll"), HasSubstr("did you mean control? (off, view, control)"));
}

TEST(TrainerOptions, UnknownChoicesNameTheNearest) {
  EXPECT_EQ(refusal_of("accelerator", "gpu"),
            "trainer.accelerator = gpu is not valid; did you mean cuda? (auto, cpu, cuda)");
  EXPECT_THAT(refusal_of("accelerator", "cpuu"), HasSubstr("did you mean cpu?"));
  EXPECT_EQ(refusal_of("gradient_clip_algorithm", "vaule"),
            "trainer.gradient_clip_algorithm = vaule is not valid; did you mean value? (norm, value)");
  EXPECT_EQ(refusal_of("strategy", "dpd"),
            "trainer.strategy = dpd is not valid; did you mean ddp? (auto, ddp, zero, zero2, fsdp, dp, "
            "ddp2, local_sgd, diloco)");
  EXPECT_THAT(refusal_of("uneven_data", "joint"), HasSubstr("did you mean join? (stop, cycle, join)"));
  EXPECT_THAT(refusal_of("nonfinite", "stopp"), HasSubstr("did you mean stop? (continue, stop, skip)"));
  EXPECT_THAT(refusal_of("gradient_compression", "bf61"), HasSubstr("did you mean bf16? (none, fp16, bf16, powersgd)"));
  EXPECT_THAT(refusal_of("multiple_trainloader_mode", "min_sise"), HasSubstr("did you mean min_size?"));
  EXPECT_THAT(refusal_of("precision", "bf16-mixd"), HasSubstr("did you mean bf16-mixed?"));
}

TEST(TrainerOptions, PrecisionIsReadFromLightningsNamesAndWrittenByTheLongerOnes) {
  TrainerOptions options;
  for (const auto& [text, precision, written] : {std::tuple{"64", Precision::float64, "64-true"},
                                                 {"bf16", Precision::bfloat16_mixed, "bf16-mixed"},
                                                 {"16-true", Precision::float16_true, "16-true"}}) {
    set_option(options, "precision", text);
    EXPECT_EQ(options.precision, precision) << text;
    EXPECT_EQ(to_json_object(options)["precision"], written);
  }
}

TEST(TrainerOptions, ANumberThatIsNoChoiceIsRefused) {
  EXPECT_EQ(refusal({.nonfinite = static_cast<NonFinite>(7)}),
            "trainer.nonfinite = 7 is not one of continue, stop, skip");
}

TEST(TrainerOptions, BucketsAndTimeoutsAreMoreThanNothing) {
  EXPECT_EQ(refusal({.bucket_cap_mb = 0}), "trainer.bucket_cap_mb = 0.0 is not valid; use more than 0");
  EXPECT_THAT(refusal({.first_bucket_mb = -1}), HasSubstr("trainer.first_bucket_mb = -1.0"));
  EXPECT_THAT(refusal({.bucket_cap_mb = 1e9}), HasSubstr("use at most 1048576"));
  EXPECT_THAT(refusal({.max_skipped_steps = 0}), HasSubstr("trainer.max_skipped_steps = 0"));
  EXPECT_THAT(refusal({.loss_spike_zscore = -1}), HasSubstr("trainer.loss_spike_zscore = -1.0"));
  EXPECT_THAT(refusal({.collective_timeout = 0}), HasSubstr("trainer.collective_timeout = 0.0"));
  EXPECT_THAT(refusal({.collective_timeout = 1e12}), HasSubstr("a year"));
  EXPECT_THAT(refusal({.watchdog_factor = 1.5}), HasSubstr("trainer.watchdog_factor = 1.5"));
  EXPECT_EQ(refusal({.watchdog_factor = 0}), "accepted");
  EXPECT_THAT(refusal({.watchdog_floor = 0}), HasSubstr("trainer.watchdog_floor = 0.0"));
  EXPECT_THAT(refusal({.watchdog_floor = 1e12}), HasSubstr("a year"));
}

TEST(TrainerOptions, WhatIsSentLittleIsSaidInFull) {
  const auto compressed = [](TrainerOptions options) {
    options.gradient_compression = GradientCompression::powersgd;
    return refusal(options);
  };
  EXPECT_EQ(compressed({.powersgd_rank = 4, .powersgd_start_step = 0, .powersgd_warm_start = false}), "accepted");
  EXPECT_THAT(compressed({.powersgd_rank = 0}), HasSubstr("trainer.powersgd_rank = 0 is not valid; use at least 1"));
  EXPECT_THAT(compressed({.powersgd_start_step = -1}), HasSubstr("trainer.powersgd_start_step = -1"));
  for (const auto strategy : {Strategy::zero, Strategy::zero2, Strategy::fsdp, Strategy::dp, Strategy::diloco}) {
    EXPECT_THAT(compressed({.strategy = strategy}), HasSubstr("with strategy = " + name_of(strategy)));
    EXPECT_THAT(compressed({.strategy = strategy}), HasSubstr("trainer.gradient_compression = powersgd"));
  }
  EXPECT_EQ(compressed({.strategy = Strategy::ddp2}), "accepted");
  EXPECT_THAT(compressed({.precision = Precision::float16_mixed}), HasSubstr("use precision = bf16-mixed"));
  EXPECT_THAT(compressed({.elastic = "2:8"}), HasSubstr("with trainer.elastic every process would send its errors"));

  EXPECT_EQ(refusal({.strategy = Strategy::local_sgd, .local_steps = 1}), "accepted");
  EXPECT_EQ(refusal({.strategy = Strategy::diloco, .outer_lr = 1, .outer_momentum = 0}), "accepted");
  EXPECT_THAT(refusal({.strategy = Strategy::diloco, .local_steps = 0}), HasSubstr("trainer.local_steps = 0"));
  EXPECT_THAT(refusal({.strategy = Strategy::diloco, .outer_lr = 0}), HasSubstr("trainer.outer_lr = 0.0"));
  EXPECT_THAT(refusal({.strategy = Strategy::diloco, .outer_momentum = 1}), HasSubstr("and less than 1.0"));
  EXPECT_THAT(refusal({.strategy = Strategy::diloco, .sync_batchnorm = true}),
              HasSubstr("it exchanges in every batch, which strategy = diloco is there to avoid"));
  EXPECT_THAT(refusal({.strategy = Strategy::local_sgd, .elastic = "2:8"}), HasSubstr("use ddp"));

  EXPECT_EQ(refusal({.powersgd_rank = 2}),
            "trainer.powersgd_rank = 2 does nothing with trainer.gradient_compression = none; use powersgd");
  EXPECT_THAT(refusal({.powersgd_error_feedback = false}), HasSubstr("trainer.powersgd_error_feedback = false does"));
  EXPECT_EQ(refusal({.strategy = Strategy::ddp, .local_steps = 10}),
            "trainer.local_steps = 10 does nothing with trainer.strategy = ddp; use local_sgd or diloco");
  EXPECT_EQ(refusal({.strategy = Strategy::local_sgd, .outer_lr = 0.5}),
            "trainer.outer_lr = 0.5 does nothing with trainer.strategy = local_sgd; use diloco");
}

TEST(TrainerOptions, NumbersOutOfRangeNameTheNearestValidOne) {
  EXPECT_EQ(refusal({.devices = 0}), "trainer.devices = 0 is not valid; use at least 1");
  EXPECT_EQ(refusal({.max_epochs = -2}), "trainer.max_epochs = -2 is not valid; use at least -1 (-1: without end)");
  EXPECT_EQ(refusal({.min_epochs = -1}), "trainer.min_epochs = -1 is not valid; use at least 0");
  EXPECT_THAT(refusal({.max_steps = -2}), HasSubstr("trainer.max_steps = -2 is not valid"));
  EXPECT_THAT(refusal({.min_steps = -1}), HasSubstr("trainer.min_steps = -1 is not valid"));
  EXPECT_THAT(refusal({.fast_dev_run = -1}), HasSubstr("trainer.fast_dev_run = -1 is not valid"));
  EXPECT_THAT(refusal({.num_sanity_val_steps = -2}), HasSubstr("trainer.num_sanity_val_steps = -2 is not valid"));
  EXPECT_THAT(refusal({.check_val_every_n_epoch = 0}), HasSubstr("use at least 1, or none"));
  EXPECT_THAT(refusal({.log_every_n_steps = -1}), HasSubstr("use at least 0 (0: never)"));
  EXPECT_THAT(refusal({.accumulate_grad_batches = 0}), HasSubstr("use at least 1"));
  EXPECT_THAT(refusal({.gradient_clip_val = -0.5}), HasSubstr("trainer.gradient_clip_val = -0.5 is not valid"));
  EXPECT_THAT(refusal({.num_threads = -1}), HasSubstr("trainer.num_threads = -1 is not valid"));
  EXPECT_EQ(refusal({.log_every_n_steps = 0}), "accepted");
}

TEST(TrainerOptions, AmountsMustBeCountsOrFractions) {
  EXPECT_EQ(refusal({.limit_train_batches = -1}),
            "trainer.limit_train_batches = -1 is not a count of at least 0 or a fraction from 0.0 to 1.0");
  EXPECT_THAT(refusal({.limit_val_batches = 1.5}), HasSubstr("trainer.limit_val_batches = 1.5"));
  EXPECT_THAT(refusal({.limit_test_batches = std::nan("")}), HasSubstr("trainer.limit_test_batches = nan"));
  EXPECT_THAT(refusal({.overfit_batches = -0.5}), HasSubstr("trainer.overfit_batches = -0.5"));
}

TEST(TrainerOptions, NanIsRefused) {
  EXPECT_EQ(refusal({.gradient_clip_val = std::nan("")}),
            "trainer.gradient_clip_val = nan is not a finite number, or none");
}

TEST(TrainerOptions, ValidationIntervalMustBeMoreThanNothing) {
  EXPECT_THAT(refusal({.val_check_interval = 0}), HasSubstr("trainer.val_check_interval = 0 is not valid; use 1 "));
  EXPECT_THAT(refusal({.val_check_interval = 0.0}), HasSubstr("trainer.val_check_interval = 0.0 is not valid"));
  EXPECT_THAT(refusal({.check_val_every_n_epoch = std::nullopt}),
              HasSubstr("use a count of batches or a time where check_val_every_n_epoch is none"));
  EXPECT_EQ(refusal({.val_check_interval = 100, .check_val_every_n_epoch = std::nullopt}), "accepted");
}

TEST(TrainerOptions, RunFolderIsOneFolder) {
  for (const char* name : {"..", ".", "a/b", "/tmp"}) {
    EXPECT_THAT(refusal({.name = name}), HasSubstr("it is the name of one folder")) << name;
  }
  EXPECT_THAT(refusal({.default_root_dir = ""}), HasSubstr("use . for the current folder"));
}

TEST(TrainerOptions, NullCallbacksAndSinksAreRefused) {
  EXPECT_EQ(refusal({.callbacks = {std::make_shared<Callback>(), nullptr}}),
            "trainer.callbacks[1] = null is not valid; leave it out");
  EXPECT_THAT(refusal({.sinks = {nullptr}}), HasSubstr("trainer.sinks[0] = null"));
}

TEST(TrainerOptions, MaxTimeIsDaysHoursMinutesSeconds) {
  using std::chrono::seconds;
  EXPECT_EQ(max_time_of({}), std::nullopt);
  EXPECT_EQ(max_time_of({.max_time = "01:02:03:04"}), seconds(86400 + 2 * 3600 + 3 * 60 + 4));
  EXPECT_EQ(max_time_of({.max_time = "00:00:00:00"}), seconds(0));
  EXPECT_EQ(max_time_of({.max_time = "01:02:03"}), seconds(3600 + 2 * 60 + 3));
  EXPECT_EQ(max_time_of({.max_time = "90m"}), seconds(5400));
  for (const char* bad : {"1", "01:02", "1 h", "-5s", "01:02:03:04:05", "-1:00:00:00", "00:00:00:0x", ":00:00:00",
                          "0:0:0:0", "99999999999999999999:00:00:00", "00:00:00:+1"}) {
    EXPECT_THAT(refusal({.max_time = bad}),
                StartsWith("trainer.max_time = " + std::string(bad) +
                           " is not valid; use DD:HH:MM:SS, for example 00:12:00:00 for half a day, or a number with a"
                           " unit, such as "));
  }
}

TEST(TrainerOptions, IntervalsMayBeTimes) {
  using std::chrono::milliseconds;
  TrainerOptions options;
  for (const auto& [text, time] : {std::pair{"00:05:00", milliseconds(300'000)},
                                   {"1:00:00:00", milliseconds(86'400'000)},
                                   {"250ms", milliseconds(250)},
                                   {"1.5m", milliseconds(90'000)}}) {
    set_option(options, "val_check_interval", text);
    EXPECT_EQ(options.val_check_interval, Interval(time)) << text;
    const auto again = options_from_json<TrainerOptions>(to_json_object(options));
    EXPECT_EQ(again.val_check_interval, options.val_check_interval) << text;
    EXPECT_EQ(Interval::from_text(options.val_check_interval.to_text()), options.val_check_interval) << text;
  }
  for (const char* bad : {"5 s", "5x", "s", "1:2:3", "::", "00:00", "-5s", "1e9s", "9999999:00:00:00"}) {
    EXPECT_THROW(set_option(options, "val_check_interval", bad), UsageError) << bad;
  }
  const auto said = [&](const char* text) {
    try {
      set_option(options, "val_check_interval", text);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  // The nearest time, whatever the unit was called.
  for (const auto& [text, time] : {std::pair{"5min", "5m"},
                                   {"30 seconds", "30s"},
                                   {"2Hours", "2h"},
                                   {"100millis", "100ms"},
                                   {"2 weeks", "14d"},
                                   {"1:30", "00:01:30"},
                                   {"5x", "5s"},
                                   {"1e9s", "1s"},
                                   {"later", "30s"}}) {
    EXPECT_EQ(said(text),
              "val_check_interval = " + std::string(text) +
                  " is not a count of at least 0, a fraction from 0.0 to 1.0, or a time such as 00:00:30 or " + time +
                  " (ms, s, m, h or d)");
    EXPECT_THAT(refusal({.log_every = text}), HasSubstr("use a time such as " + std::string(time) + ", 500ms or "));
  }
  EXPECT_THAT(refusal({.max_time = "5min"}), HasSubstr("a number with a unit, such as 5m (ms, s, m, h or d)"));
  EXPECT_THAT(refusal({.val_check_interval = milliseconds(0)}), HasSubstr("trainer.val_check_interval = 00:00:00:00"));
  EXPECT_EQ(log_every_of({.log_every = "5s"}), milliseconds(5000));
  EXPECT_FALSE(log_every_of({}));
  EXPECT_EQ(refusal({.log_every = "5"}),
            "trainer.log_every = 5 is not valid; use a time such as 5s, 500ms or 00:01:00;"
            " log_every_n_steps takes a number of steps");
  EXPECT_EQ(refusal({.log_every_n_steps = 10, .log_every = "5s"}),
            "trainer.log_every_n_steps = 10 is not valid; with log_every = 5s it would not count: give one of the two");
  EXPECT_EQ(refusal({.log_every_n_steps = 50, .log_every = "5s"}), "accepted");
}

TEST(TrainerOptions, FastDevRunLimitsEverything) {
  const auto sinks = std::vector<std::shared_ptr<Sink>>(1);
  const auto options = resolved({.max_epochs = 9, .fast_dev_run = 3, .val_check_interval = 5, .sinks = sinks});
  for (const Amount& limit : {options.limit_train_batches, options.limit_val_batches, options.limit_test_batches,
                              options.limit_predict_batches}) {
    EXPECT_EQ(limit, Amount(3));
  }
  EXPECT_EQ(options.max_epochs, 1);
  EXPECT_EQ(options.max_steps, 3);
  EXPECT_EQ(options.val_check_interval, Amount(1.0));
  EXPECT_EQ(options.check_val_every_n_epoch, 1);
  EXPECT_EQ(options.num_sanity_val_steps, 0);
  EXPECT_FALSE(options.enable_checkpointing);
  EXPECT_FALSE(options.logger);
  EXPECT_TRUE(options.sinks.empty());
}

TEST(TrainerOptions, OverfitBatchesLimitTrainingAndValidation) {
  const auto options = resolved({.overfit_batches = 4});
  EXPECT_EQ(options.limit_train_batches, Amount(4));
  EXPECT_EQ(options.limit_val_batches, Amount(4));
  EXPECT_EQ(options.limit_test_batches, Amount(1.0));
}

TEST(TrainerOptions, EpochLimitsThatAreUnsetFollowTheOtherLimits) {
  EXPECT_EQ(resolved({}).max_epochs, 1000);
  EXPECT_TRUE(resolved({}).enable_progress_bar && resolved({}).enable_model_summary);
  EXPECT_FALSE(resolved({.quiet = true}).enable_progress_bar);
  EXPECT_EQ(resolved({.max_steps = 10}).max_epochs, -1);
  EXPECT_EQ(resolved({.max_time = "00:01:00:00"}).max_epochs, -1);
  EXPECT_EQ(resolved({.max_epochs = 3, .max_steps = 10}).max_epochs, 3);
  EXPECT_EQ(resolved({.min_steps = 10}).min_epochs, 1);
  EXPECT_EQ(resolved({}).min_epochs, 0);
}

TEST(TrainerOptions, ResolvingTwiceChangesNothingMore) {
  const auto once = resolved({.min_steps = 1, .fast_dev_run = 2, .overfit_batches = 0.5});
  EXPECT_EQ(to_json_object(resolved(once)), to_json_object(once));
}

TEST(TrainerOptions, ElasticIsTheFewestAndTheMostProcesses) {
  EXPECT_FALSE(elastic_of({}));
  const auto range = elastic_of({.elastic = "2:8"});
  ASSERT_TRUE(range);
  EXPECT_EQ(range->least, 2);
  EXPECT_EQ(range->most, 8);
  const auto refusal = [](const TrainerOptions& options) -> std::string {
    try {
      validate(options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  for (const char* text : {"2", "2-8", ":8", "2:", "0:8", "a:b", "1:2:3", "99999999999999999999:1"}) {
    EXPECT_NE(refusal({.elastic = text}).find("use the fewest and the most processes, as 2:8"), std::string::npos)
        << text << ": " << refusal({.elastic = text});
  }
  EXPECT_NE(refusal({.elastic = "8:2"}).find("use 2:8"), std::string::npos);
  EXPECT_NE(refusal({.elastic_every_n_steps = 0}).find("use at least 1"), std::string::npos);
  for (const auto strategy : {Strategy::zero, Strategy::zero2, Strategy::fsdp, Strategy::dp, Strategy::ddp2}) {
    EXPECT_NE(refusal({.strategy = strategy, .elastic = "2:8"}).find("must have the whole state: use ddp"),
              std::string::npos)
        << refusal({.strategy = strategy, .elastic = "2:8"});
  }
}

TEST(TrainerOptions, ProfileStepsAreABatchOrARangeOfThem) {
  EXPECT_FALSE(profile_steps_of({}));
  const auto range = profile_steps_of({.profile_steps = "100-120"});
  ASSERT_TRUE(range);
  EXPECT_EQ(range->first, 100);
  EXPECT_EQ(range->last, 120);
  const auto one = profile_steps_of({.profile_steps = "7"});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->first, 7);
  EXPECT_EQ(one->last, 7);
}

TEST(TrainerOptions, OtherProfileStepsAreRefusedInASentence) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      TrainerOptions options;
      options.profile_steps = text;
      options.profiler = Profiler::trace;
      validate(options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  for (const char* text : {"-", "-5", "5-", "a-b", "1-2-3", "1 - 2", "1.5", "99999999999999999999", "100:120"}) {
    EXPECT_NE(refusal(text).find("use two numbers of training batches from 0 on, as 100-120, or one, as 100"),
              std::string::npos)
        << text << ": " << refusal(text);
  }
  EXPECT_NE(refusal("120-100").find("use 100-120"), std::string::npos) << refusal("120-100");
}

TEST(TrainerOptions, OptionsThatDoNothingWithoutAnotherOneAreRefused) {
  TrainerOptions steps{.profile_steps = "100-120"};
  EXPECT_EQ(refusal(steps),
            "trainer.profile_steps = 100-120 does nothing with trainer.profiler = off; use trace or operators");
  steps.profiler = Profiler::simple;
  EXPECT_THAT(refusal(steps), HasSubstr("does nothing with trainer.profiler = simple"));
  EXPECT_EQ(refusal({.capture_step_programs = 5}),
            "trainer.capture_step_programs = 5 does nothing with trainer.capture_step = off; use auto");
  EXPECT_THAT(refusal({.capture_step_dump = "steps.txt"}), HasSubstr("trainer.capture_step_dump = steps.txt does"));
  EXPECT_EQ(refusal({.capture_step = CaptureStep::automatic, .capture_step_check_every = 5}),
            "trainer.capture_step_check_every = 5 does nothing with trainer.capture_step = auto; use check");
  EXPECT_EQ(refusal({.max_skipped_steps = 5}),
            "trainer.max_skipped_steps = 5 does nothing with trainer.nonfinite = continue; use skip");
  EXPECT_EQ(refusal({.gradient_clip_algorithm = GradientClipAlgorithm::value}),
            "trainer.gradient_clip_algorithm = value does nothing with trainer.gradient_clip_val = none; use a bound,"
            " as 0.5");
  EXPECT_EQ(refusal({.mlflow = {.uri = "http://ann:secret@host:5000"}}),
            "mlflow.uri = host:5000 does nothing with trainer.loggers = csv,tensorboard; use csv,tensorboard,mlflow");
  EXPECT_THAT(refusal({.trackio = {.project = "mlp"}}), HasSubstr("use csv,tensorboard,trackio"));
}

TEST(TrainerOptions, OptionsAreKeptBesideWhatTheyNeedAndBesideWhatWasSwitchedOff) {
  EXPECT_EQ(refusal({.capture_step = CaptureStep::check,
                     .capture_step_programs = 5,
                     .capture_step_check_every = 5,
                     .capture_step_dump = "steps.txt",
                     .gradient_clip_val = 0.5,
                     .gradient_clip_algorithm = GradientClipAlgorithm::value,
                     .nonfinite = NonFinite::skip,
                     .max_skipped_steps = 5,
                     .profiler = Profiler::operators,
                     .profile_steps = "100-120",
                     .loggers = {"mlflow"},
                     .mlflow = {.uri = "http://host:5000"}}),
            "accepted");
  EXPECT_EQ(refusal({.watchdog_timeout = 0, .watchdog_stacks = true}), "accepted");
  EXPECT_EQ(refusal({.enable_checkpointing = false, .checkpoint_failure = CheckpointFailure::proceed}), "accepted");
  EXPECT_EQ(refusal({.logger = false, .mlflow = {.uri = "http://host:5000"}}), "accepted");
  EXPECT_EQ(refusal({.loggers = {"csv"}, .mlflow = {.uri = "http://host:5000"}}), "accepted");
}

}  // namespace
}  // namespace troupe
