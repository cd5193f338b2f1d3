#include "troupe/runtime/report/phase_advice.hpp"

#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/runtime/data/tensor_dataset.hpp"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <memory>
#include <string>

namespace troupe {
namespace {

using ::testing::HasSubstr;

// Of 100 s, `seconds` in this phase and the rest in forward.
PhaseReport mostly(const std::string& name, double seconds) {
  PhaseReport report;
  report.stage = "fit";
  report.seconds = 100;
  report.phases = {{name, seconds, 10, seconds}, {"forward", 100 - seconds, 1000, 1}};
  return report;
}

AdviceFacts facts_with(TrainerOptions options = {}) {
  AdviceFacts facts;
  facts.processors = 8;
  facts.prefetch = 8;
  facts.options = std::move(options);
  return facts;
}

TEST(PhaseAdvice, WantsMoreFetchersWhereTrainingWaitsForData) {
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts_with()),
            "62 % waiting for data: raise num_workers (DataLoaderOptions) from 0");
}

TEST(PhaseAdvice, SpellsTheOptionAsTheProgramsUsersDo) {
  auto facts = facts_with();
  facts.num_workers_option = "data.num_workers";
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts), "62 % waiting for data: raise data.num_workers from 0");
  EXPECT_THAT(advice_of(mostly("between epochs", 62), facts), HasSubstr("(data.num_workers = 0)"));
}

TEST(PhaseAdvice, SaysWhatElseHelpsIfSomeFetch) {
  auto facts = facts_with();
  facts.num_workers = 2;
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts),
            "62 % waiting for data: raise num_workers (DataLoaderOptions) from 2 (there are 8 processors); make whole"
            " batches at once (Dataset::get_batch), or do less in transforms");
  facts.prefetch = 1;
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts),
            "62 % waiting for data: raise prefetch (DataLoaderOptions) from 1 to 2 at least: it says how many of the 2"
            " fetchers are busy");
}

TEST(PhaseAdvice, WantsLessWorkIfAllProcessorsFetch) {
  auto facts = facts_with();
  facts.num_workers = 8;
  facts.num_workers_option = "data.num_workers";
  facts.prefetch_option = "data.prefetch";
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts),
            "62 % waiting for data: make whole batches at once (Dataset::get_batch), or do less in transforms;"
            " data.num_workers = 8 is enough for 8 processors, and a greater prefetch helps if few batches take long"
            " (raise data.prefetch from 8)");
  facts.options.devices = 2;
  EXPECT_THAT(advice_of(mostly("waiting for data", 62), facts), HasSubstr("for 8 processors per worker"));
}

TEST(PhaseAdvice, DoesNotAskOneProcessorForMoreFetchers) {
  auto facts = facts_with();
  facts.processors = 1;
  EXPECT_THAT(
      advice_of(mostly("waiting for data", 62), facts),
      HasSubstr("there is one processor, so that raising num_workers (DataLoaderOptions) from 0 helps only if"));
}

TEST(PhaseAdvice, DoesNotAskForMoreFetchersOfAStream) {
  auto facts = facts_with();
  facts.has_stream = true;
  facts.num_workers = 1;
  EXPECT_EQ(advice_of(mostly("waiting for data", 62), facts),
            "62 % waiting for data: a stream is read by one fetcher, whatever num_workers (DataLoaderOptions) (now 1)"
            " is: do less for each sample, or read a Dataset");
}

TEST(PhaseAdvice, WantsFewerCheckpoints) {
  auto facts = facts_with();
  EXPECT_EQ(advice_of(mostly("checkpoint", 40), facts),
            "40 % checkpoint: write fewer, by every_n_epochs (ModelCheckpointOptions)");
  facts.every_n_train_steps = 5;
  EXPECT_EQ(advice_of(mostly("checkpoint", 40), facts),
            "40 % checkpoint: raise every_n_train_steps (ModelCheckpointOptions) from 5, or set"
            " trainer.checkpoint_backpressure = skip (now wait)");
}

TEST(PhaseAdvice, WantsLessLogging) {
  EXPECT_EQ(advice_of(mostly("logging", 40), facts_with({.log_every_n_steps = 1})),
            "40 % logging: raise trainer.log_every_n_steps from 1");
}

TEST(PhaseAdvice, NamesAHookThatTakesTheTime) {
  EXPECT_EQ(advice_of(mostly("Slow.on_train_batch_end", 40), facts_with()),
            "40 % Slow.on_train_batch_end: a hook, called 10 times: do less there, or less often");
}

TEST(PhaseAdvice, WantsFewerValidations) {
  EXPECT_THAT(advice_of(mostly("validation", 40), facts_with()),
              HasSubstr("40 % validation: raise trainer.check_val_every_n_epoch from 1"));
  EXPECT_EQ(advice_of(mostly("validation", 40), facts_with({.val_check_interval = 0.25})),
            "40 % validation: raise trainer.val_check_interval from 0.25");
  EXPECT_THAT(advice_of(mostly("validation", 40), facts_with({.val_check_interval = 10})),
              HasSubstr("raise trainer.val_check_interval from 10"));
}

TEST(PhaseAdvice, SaysWhatAValidationSpendsItsTimeOn) {
  auto report = mostly("validation", 40);
  report.parts_of_validation = {{"waiting for data", 30, 10, 3}, {"forward", 10, 10, 1}};
  EXPECT_EQ(advice_of(report, facts_with()),
            "40 % validation: most of it waiting for data: raise num_workers (DataLoaderOptions) from 0");
  report.parts_of_validation.front().name = "Slow.on_validation_end";
  EXPECT_EQ(advice_of(report, facts_with()), "40 % validation: most of it in Slow.on_validation_end");
}

TEST(PhaseAdvice, NamesTheOptionsOfTheReduction) {
  EXPECT_EQ(advice_of(mostly("reduction", 40), facts_with()),
            "40 % reduction: set trainer.gradient_compression = bf16 (now none), or try another trainer.bucket_cap_mb"
            " than 25.0");
  EXPECT_THAT(advice_of(mostly("reduction", 40), facts_with({.find_unused_parameters = true})),
              HasSubstr("set trainer.find_unused_parameters = false"));
  EXPECT_THAT(advice_of(mostly("reduction", 40), facts_with({.gradient_compression = GradientCompression::bf16})),
              HasSubstr("raise trainer.accumulate_grad_batches from 1"));
}

TEST(PhaseAdvice, NamesTheRankThatOthersWaitFor) {
  auto report = mostly("waiting for other ranks", 40);
  EXPECT_THAT(advice_of(report, facts_with()), HasSubstr("trainer.straggler_ratio"));
  report.ranks = {{"waiting for other ranks", 10, 40, 0}, {"forward", 50, 90, 3}};
  EXPECT_EQ(advice_of(report, facts_with()), "40 % waiting for other ranks: rank 3 takes longest for forward");
}

TEST(PhaseAdvice, WantsLongerEpochs) {
  EXPECT_THAT(advice_of(mostly("between epochs", 40), facts_with()), HasSubstr("make epochs longer"));
}

TEST(PhaseAdvice, SpeaksOfAStartUpThatIsLong) {
  EXPECT_THAT(advice_of(mostly("start-up", 40), facts_with()), HasSubstr("40 % start-up: it comes once"));
  PhaseReport brief{"fit", 4, 1, {{"start-up", 3.6, 1, 3.6}, {"forward", 0.4, 1, 0.4}}, {}, {}, ""};
  EXPECT_EQ(advice_of(brief, facts_with()), "");
}

TEST(PhaseAdvice, WantsAnotherOptimizerWhereItTakesMoreThanHalf) {
  auto facts = facts_with();
  EXPECT_THAT(advice_of(mostly("optimizer", 57), facts), HasSubstr("57 % optimizer: step less often"));
  facts.has_torch_optimizer = true;
  EXPECT_EQ(advice_of(mostly("optimizer", 57), facts),
            "57 % optimizer: take it from troupe::optim, which steps with fused kernels");
  EXPECT_EQ(advice_of(mostly("optimizer", 45), facts), "");
}

TEST(PhaseAdvice, IsSilentWhereTheStepTakesTheTime) {
  EXPECT_EQ(advice_of(mostly("waiting for data", 33), facts_with()), "");
  EXPECT_EQ(advice_of(mostly("backward", 60), facts_with()), "");
  EXPECT_EQ(advice_of(PhaseReport{}, facts_with()), "");
  PhaseReport brief{"fit", 0.5, 1, {{"checkpoint", 0.4, 1, 0.4}, {"forward", 0.1, 1, 0.1}}, {}, {}, ""};
  EXPECT_EQ(advice_of(brief, facts_with()), "");
}

TEST(PhaseAdvice, TakesItsFactsFromTheSlowestLoaderTheCheckpointsAndTheOptimizers) {
  const auto data = std::make_shared<TensorDataset>(torch::zeros({4, 1}));
  const DataLoaders loaders = {DataLoader(data, {.num_workers = 2}),
                               DataLoader(data, {.num_workers = 1, .prefetch = 3})};
  TrainerOptions options;
  options.callbacks = {std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.every_n_train_steps = 7})};
  Optimizers optimizers = torch::optim::SGD({torch::zeros({1})}, 0.1);
  const auto facts = advice_facts(options, loaders, optimizers);
  EXPECT_EQ(facts.num_workers, 1);
  EXPECT_EQ(facts.prefetch, 3);
  EXPECT_EQ(facts.every_n_train_steps, 7);
  EXPECT_TRUE(facts.has_torch_optimizer);
  Optimizers fused = optim::adam({torch::zeros({1})});
  EXPECT_FALSE(advice_facts(options, loaders, fused).has_torch_optimizer);
  EXPECT_EQ(advice_facts(options, {}, fused).num_workers, 0);
}

TEST(PhaseAdvice, FindsTheProgramsOptionThatTheLoaderHasItsValueFrom) {
  const DataLoaders loaders = {DataLoader(std::make_shared<TensorDataset>(torch::zeros({4, 1})), {.num_workers = 2})};
  const Optimizers optimizers = optim::adam({torch::zeros({1})});
  const nlohmann::json given = {{"model", {{"num_workers", 2}}}, {"data", {{"train_num_workers", 2}, {"prefetch", 3}}}};
  const auto facts = advice_facts({}, loaders, optimizers, given);
  EXPECT_EQ(facts.num_workers_option, "data.train_num_workers");
  EXPECT_EQ(facts.prefetch_option, "") << "the loader's prefetch is 8, so that it comes from somewhere else";
  EXPECT_FALSE(facts.has_stream);
  EXPECT_EQ(advice_facts({}, loaders, optimizers, {{"data", nullptr}}).num_workers_option, "");
}

TEST(PhaseAdvice, DividesTheProcessorsAmongTheWorkers) {
  const Optimizers optimizers = optim::adam({torch::zeros({1})});
  EXPECT_EQ(advice_facts({.devices = 100'000}, {}, optimizers).processors, 1);
  EXPECT_GE(advice_facts({}, {}, optimizers).processors, 1);
}

}  // namespace
}  // namespace troupe
