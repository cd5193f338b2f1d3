#include "troupe/runtime/replica/data_setup.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/callbacks/gradient_accumulation_scheduler.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/distributed/step_votes.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

namespace {

const char* loader_hook(Stage stage) {
  switch (stage) {
    case Stage::fit:
    case Stage::validate: return "val_dataloader";
    case Stage::test: return "test_dataloader";
    case Stage::predict: return "predict_dataloader";
  }
  return "";
}

// Of an epoch over a dataset.
int64_t samples_of(const DataLoader& loader) {
  const int64_t size = loader.dataset()->size();
  const auto& sampler = loader.options().sampler;
  return sampler ? sampler->count(size) : size;
}

[[noreturn]] void refuse_empty(const std::string& kind, const DataLoader& loader) {
  const int64_t size = loader.dataset() ? loader.dataset()->size() : 0;
  const int64_t samples = loader.dataset() ? samples_of(loader) : 0;
  std::string why = "its dataset is empty";
  if (samples > 0) {
    why = "its " + std::to_string(samples) +
          " samples are fewer than batch_size = " + std::to_string(loader.options().batch_size) +
          ", and drop_last leaves such a batch out";
  } else if (size > 0) {
    why = "its sampler gives none of the " + std::to_string(size) + " samples";
  }
  throw UsageError("the " + kind + " loader has no batch: " + why);
}

// Filled up, the epoch would be copies of samples for some ranks.
void refuse_too_many_ranks(const DataLoader& loader, int64_t ranks) {
  if (!loader.dataset()) return;
  const int64_t samples = samples_of(loader);
  if (samples <= 0 || samples >= ranks) return;
  throw UsageError("the train loader has " + std::to_string(samples) + " sample(s) for " + std::to_string(ranks) +
                   " ranks, and each needs one of its own: use " + std::to_string(samples) + " rank(s) at most");
}

std::vector<std::optional<int64_t>> train_lengths(const ReplicaCore& core) {
  const During during(core.pulse, "train_dataloader");  // whose datasets are asked for their sizes
  std::vector<std::optional<int64_t>> lengths;
  for (const auto& loader : core.setup.train_loaders) {
    if (core.options().use_distributed_sampler) refuse_too_many_ranks(loader, core.place().world_size);
    lengths.push_back(loader.batch_count(core.options().use_distributed_sampler ? core.place().world_size : 1));
    if (lengths.back() == 0 && loader.batch_count() == 0) refuse_empty("train", loader);
  }
  return lengths;
}

// The epoch's batches are a number that all ranks know, where each knows its own.
void agree_on_length(const ReplicaCore& core, DataFacts& facts) {
  Peers* peers = core.peers();
  if (!peers || core.setup.stage != Stage::fit) return;
  const auto policy = core.options().uneven_data;
  if (policy == UnevenData::join && (!core.module->automatic_optimization || core.module->truncated_bptt_steps > 0)) {
    throw UsageError(std::string("trainer.uneven_data = join cannot take the part of a rank without a batch with ") +
                     (core.module->automatic_optimization ? "truncated_bptt_steps" : "automatic_optimization = false") +
                     ", since nobody knows how many steps the others make of theirs; use stop or cycle");
  }
  std::optional<int64_t> agreed;
  bool is_known = true;
  for (const auto& said : peers->all_gather_bytes(std::to_string(facts.train_batches.value_or(-1)))) {
    const int64_t length = std::stoll(said);
    is_known &= length >= 0;
    if (!agreed) agreed = length;
    agreed = policy == UnevenData::stop ? std::min(*agreed, length) : std::max(*agreed, length);
  }
  facts.train_batches = is_known ? agreed : std::nullopt;
}

const Amount& evaluation_limit(const TrainerOptions& options, Stage stage) {
  switch (stage) {
    case Stage::test: return options.limit_test_batches;
    case Stage::predict: return options.limit_predict_batches;
    default: return options.limit_val_batches;
  }
}

std::string evaluation_limit_name(Stage stage) {
  const char* kind = stage == Stage::test ? "test" : stage == Stage::predict ? "predict" : "val";
  return "trainer.limit_" + std::string(kind) + "_batches";
}

void add_evaluation_facts(ReplicaCore& core, DataFacts& facts) {
  const Stage stage = core.setup.stage;
  const Amount& limit = evaluation_limit(core.options(), stage);
  const bool has_loaders = !core.setup.eval_loaders.empty();
  const bool has_step =
      stage == Stage::predict || core.is_used(stage == Stage::test ? Hook::test_step : Hook::validation_step);
  if (stage == Stage::fit) {
    const bool is_off = limit.is_none();  // then nobody expects any
    if (has_loaders && !has_step && !is_off)
      facts.warnings.push_back(
          "there is a validation loader but validation_step is not overridden: nothing is validated");
    if (!has_loaders && has_step && !is_off)
      facts.warnings.push_back("validation_step is overridden but there is no validation loader: nothing is validated");
    if (!has_loaders || !has_step) {
      core.setup.eval_loaders = DataLoaders();
      return;
    }
  } else if (!has_loaders) {
    throw UsageError("there is nothing to " + std::string(to_string(stage)) +
                     " on: give the Trainer a loader, or override " + loader_hook(stage));
  } else if (!has_step) {
    throw UsageError(std::string(stage == Stage::test ? "test_step" : "validation_step") + " is not overridden");
  }
  for (const auto& loader : core.setup.eval_loaders) {
    const auto count = loader.batch_count();
    if (count == 0)
      refuse_empty(stage == Stage::fit || stage == Stage::validate ? "validation" : std::string(to_string(stage)),
                   loader);
    facts.eval_batches.push_back(limit.of(count, evaluation_limit_name(stage)));
  }
  facts.has_evaluation = !limit.is_none();
}

void add_transfer_warnings(const ReplicaCore& core, DataFacts& facts) {
  if (!core.setup.datamodule.type_is_known()) return;
  for (const Hook hook : hook_order::transfer) {
    if (!core.is_used(hook) || !core.setup.datamodule.overrides(hook)) continue;
    facts.warnings.push_back(std::string(to_string(hook)) +
                             " is overridden in the module and in the data module: the data module's is used");
  }
}

}  // namespace

DataFacts collect_loaders(ReplicaCore& core, CombinedEpoch& combined) {
  DataFacts facts;
  const auto& options = core.options();
  DataModule* data = core.setup.datamodule.get();
  const Stage stage = core.setup.stage;
  // Given to the Trainer, else the data module's, else the module's.
  const auto fill = [&](DataLoaders& loaders, const char* name, auto of_data, auto of_module) {
    const During during(core.pulse, name);
    if (loaders.empty() && data) {
      const auto lock = core.lock_data();
      loaders = of_data();
    }
    if (loaders.empty()) loaders = of_module();
  };
  if (stage == Stage::fit) {
    fill(
        core.setup.train_loaders, "train_dataloader", [&] { return data->train_dataloader(); },
        [&] { return core.module->train_dataloader(); });
    if (core.setup.train_loaders.empty()) {
      throw UsageError("there is nothing to train on: give fit a train loader, or override train_dataloader");
    }
    auto lengths = train_lengths(core);
    const auto mode = options.multiple_trainloader_mode;
    facts.train_batches =
        options.limit_train_batches.of(CombinedEpoch(mode, lengths).length(), "trainer.limit_train_batches");
    agree_on_length(core, facts);
    combined = CombinedEpoch(mode, std::move(lengths), facts.train_batches.value_or(-1));
    facts.has_training = !options.limit_train_batches.is_none();
  }
  fill(
      core.setup.eval_loaders, loader_hook(stage),
      [&] {
        if (stage == Stage::test) return data->test_dataloader();
        return stage == Stage::predict ? data->predict_dataloader() : data->val_dataloader();
      },
      [&] {
        if (stage == Stage::test) return core.module->test_dataloader();
        return stage == Stage::predict ? core.module->predict_dataloader() : core.module->val_dataloader();
      });
  {
    const During during(core.pulse, loader_hook(stage));
    add_evaluation_facts(core, facts);
  }
  add_transfer_warnings(core, facts);
  return facts;
}

std::optional<int64_t> windows_of_run(const ReplicaCore& core, const DataFacts& facts) {
  const int64_t epochs = core.options().max_epochs.value_or(1000);
  if (!facts.train_batches || epochs < 0) return std::nullopt;
  std::map<int64_t, int64_t> lengths = {{0, core.options().accumulate_grad_batches}};  // from each epoch on
  for (const auto& callback : core.callbacks) {
    const auto* scheduler = dynamic_cast<const GradientAccumulationScheduler*>(callback.get());
    for (const auto& [epoch, length] : scheduler ? scheduler->scheduling() : decltype(lengths)()) {
      lengths[epoch] = length;
    }
  }
  int64_t windows = 0;
  for (auto from = lengths.begin(); from != lengths.end() && from->first < epochs; ++from) {
    const int64_t until = std::next(from) == lengths.end() ? epochs : std::min(epochs, std::next(from)->first);
    windows += (*facts.train_batches + from->second - 1) / from->second * (until - from->first);
  }
  return windows;
}

}  // namespace troupe
