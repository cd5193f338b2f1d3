// Checkpoints whose checksums are right and whose contents are not: each value of the metadata is replaced and left
// out, each tensor given another type, shape or value, and a run is asked to go on from every one of them. It may
// refuse the file with an error of the library's, or train; nothing else.
#include "tests/support/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <limits>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t batches_allowed = 200;

// Has something of each kind that a checkpoint may hold.
class Everything : public Net {
 public:
  explicit Everything(NetOptions options = {}) : Net(options) {
    error_ = register_metric("error", metrics::MeanSquaredError());
    register_buffer("seen", torch::zeros({1}, torch::kFloat64));
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    // Hostile counts may make a run long, which is no fault of the reader's: it ends here.
    if (++batches_ == batches_allowed) throw UsageError("enough");
    error_.update(forward(batch[0]).detach(), batch[1]);
    log("train_error", error_, {.on_step = false, .on_epoch = true});
    return Net::training_step(batch, batch_idx);
  }
  Optimizers configure_optimizers() override {
    auto optimizer = optim::adamw(parameters(), {.lr = options().lr, .amsgrad = true});
    return {optimizer, lr_schedulers::step(optimizer, {.step_size = 1, .gamma = 0.5})};
  }

 private:
  MetricHolder<metrics::MeanSquaredError> error_;
  int64_t batches_ = 0;
};

TrainerOptions everything(const TempDir& dir, int64_t devices) {
  auto options = exact(dir, devices);
  options.max_epochs = 2;
  options.accumulate_grad_batches = 4;
  options.val_check_interval = 3;
  options.loss_spike_zscore = 50;
  options.callbacks = {
      std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.monitor = "val_loss", .save_top_k = -1}),
      std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_loss", .patience = 30}),
      std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9}),
  };
  return options;
}

void fit_from(const TrainerOptions& options, const std::string& from = {}) {
  RunArguments arguments;
  if (!from.empty()) arguments.ckpt_path = from;
  const DataLoader train(samples(40), {.batch_size = 4, .shuffle = true}), validation(samples(8), {.batch_size = 4});
  Trainer(options).fit<Everything>({}, train, validation, arguments);
}

// In the second epoch, within a window of accumulation.
Checkpoint written_by_a_run(int64_t devices) {
  const TempDir dir;
  fit_from(everything(dir, devices));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    auto checkpoint = read_checkpoint(entry.path());
    const auto& progress = checkpoint.metadata.at("progress");
    if (progress.at("epoch") == 1 && progress.at("batch_idx") == 3) return checkpoint;
  }
  throw std::runtime_error("the run wrote no such checkpoint");
}

struct Outcomes {
  int64_t refused = 0, trained = 0;
};

class HostileCheckpoints : public ::testing::TestWithParam<int64_t> {
 protected:
  void try_it(const Checkpoint& checkpoint, const std::string& what) {
    const TempDir dir;
    const auto path = dir / "hostile.safetensors";
    write_checkpoint(checkpoint, path);
    try {
      fit_from(everything(dir, GetParam()), path);
      outcomes_.trained += 1;
    } catch (const RunError& error) {
      take_refusal(error.what(), what);
    } catch (const UsageError& error) {  // before anything runs
      take_refusal(error.what(), what);
    } catch (const std::exception& error) {
      ADD_FAILURE() << what << " threw " << typeid(error).name() << ": " << error.what();
    }
  }

  // In a sentence of this library's own, not of one below.
  void take_refusal(const std::string& why, const std::string& what) {
    for (const char* foreign : {"json.exception", "INTERNAL ASSERT", "Exception raised from", "can't be cast",
                                "vector::", "basic_string", "bad_alloc", "std::"}) {
      EXPECT_THAT(why, Not(HasSubstr(foreign))) << what;
    }
    outcomes_.refused += 1;
  }

  Outcomes outcomes_;
};

// Calls `visit` with the place of each value in `json`.
void walk_values(const nlohmann::json& json, const nlohmann::json::json_pointer& at,
                 const std::function<void(const nlohmann::json::json_pointer&)>& visit) {
  if (!at.empty()) visit(at);
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) walk_values(value, at / key, visit);
  } else if (json.is_array()) {
    for (std::size_t i = 0; i < json.size() && i < 2; ++i) walk_values(json[i], at / i, visit);
  }
}

TEST_P(HostileCheckpoints, WithOtherMetadataAreRefusedOrTrainedFrom) {
  const auto good = written_by_a_run(2);
  std::vector<nlohmann::json> odd = {nullptr, std::numeric_limits<uint64_t>::max(), "text"};
  if (GetParam() == 1) {
    odd.insert(odd.end(), {-1, int64_t{1} << 40, 0.5, nlohmann::json::array({1, "a", nullptr}), {{"a", 1}}});
  }
  walk_values(good.metadata, nlohmann::json::json_pointer(), [&](const auto& at) {
    for (const auto& value : odd) {
      auto bad = good;
      bad.metadata[at] = value;
      try_it(bad, at.to_string() + " = " + value.dump());
    }
    auto less = good;
    auto& parent = less.metadata[at.parent_pointer()];
    if (parent.is_object()) {
      parent.erase(at.back());
      try_it(less, at.to_string() + " left out");
    }
  });
  std::cout << outcomes_.refused << " refused, " << outcomes_.trained << " trained from" << std::endl;
  EXPECT_GT(outcomes_.refused, 100);
  EXPECT_GT(outcomes_.trained, 20);
}

TEST_P(HostileCheckpoints, WithOtherTensorsAreRefusedOrTrainedFrom) {
  const auto good = written_by_a_run(2);
  const auto replaced = [&](std::size_t i, const torch::Tensor& tensor, const char* what) {
    auto bad = good;
    bad.tensors[i].second = tensor;
    try_it(bad, bad.tensors[i].first + " " + what);
  };
  for (std::size_t i = 0; i < good.tensors.size(); ++i) {
    const torch::Tensor tensor = good.tensors[i].second;
    replaced(i, tensor.to(torch::kInt64), "of integers");
    replaced(i, tensor.to(torch::kBFloat16), "of another precision");
    replaced(i, tensor.to(torch::kBool), "of booleans");
    replaced(i, tensor.unsqueeze(0), "with one dimension more");
    replaced(i, torch::empty({0}, tensor.options()), "empty");
    replaced(i, torch::zeros({3, 1}, tensor.options()), "of another shape");
    if (tensor.numel() > 0) replaced(i, tensor.flatten().slice(0, 1), "one element short");
    replaced(i, torch::full_like(tensor, tensor.is_floating_point() ? NAN : 77), "of odd values");
    auto less = good;
    less.tensors.erase(less.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    try_it(less, good.tensors[i].first + " left out");
  }
  std::cout << outcomes_.refused << " refused, " << outcomes_.trained << " trained from" << std::endl;
  EXPECT_GT(outcomes_.refused, 100);
  EXPECT_GT(outcomes_.trained, 20);
}

INSTANTIATE_TEST_SUITE_P(Devices, HostileCheckpoints, ::testing::Values(1, 2));

}  // namespace
}  // namespace troupe
