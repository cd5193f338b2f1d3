// Which checkpoint "last", "best" and "auto" are, where others lie beside it; and what a module may hold that is to be
// stored in one.
#include "tests/support/lines.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <cstdlib>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

struct FoundNetOptions {
  int64_t hidden = 4;
  double lr = 0.01;
};
TROUPE_OPTIONS(FoundNetOptions, (hidden, "units"), (lr, "learning rate"))

class FoundNet : public ModuleWith<FoundNetOptions> {
 public:
  explicit FoundNet(FoundNetOptions options) : ModuleWith(options) {
    first_ = register_module("first", torch::nn::Linear(1, options.hidden));
    second_ = register_module("second", torch::nn::Linear(options.hidden, 1));
  }
  torch::Tensor forward(torch::Tensor x) override { return second_(torch::relu(first_(x))); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), batch[1]);
  }
  StepOutput test_step(const Batch& batch, int64_t) override {
    log("test_loss", torch::mse_loss(forward(batch[0]), batch[1]));
    return {};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), options().lr); }

 private:
  torch::nn::Linear first_{nullptr}, second_{nullptr};
};

/// Where the run began, in epochs: what is trained is `max_epochs` less that.
class FirstEpoch : public Callback {
 public:
  void on_train_start(RunContext& run, Module&) override { epoch = run.progress().epoch; }
  int64_t epoch = -1;
};

class TheFoundCheckpoint : public ::testing::Test {
 protected:
  TrainerOptions options(int64_t epochs) const {
    auto options = quiet(dir_);
    options.max_epochs = epochs;
    options.callbacks = {first_};
    return options;
  }
  /// The epoch that it began with.
  template <class M>
  int64_t fit(int64_t epochs, const typename M::Options& model, const std::string& from) {
    first_->epoch = -1;
    Trainer trainer(options(epochs));
    trainer.fit<M>(model, points(), {}, {.ckpt_path = from});
    run_dir_ = trainer.run_dir();
    return first_->epoch;
  }
  void rewrite(const std::function<void(nlohmann::json&)>& change) const {
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path())) {
      if (entry.path().extension() != ".safetensors") continue;
      auto checkpoint = read_checkpoint(entry.path());
      change(checkpoint.metadata);
      write_checkpoint(checkpoint, entry.path());
    }
  }

  const TempDir dir_;
  const std::shared_ptr<FirstEpoch> first_ = std::make_shared<FirstEpoch>();
  fs::path run_dir_;
};

TEST_F(TheFoundCheckpoint, IsOfARunOfTheSameName) {
  EXPECT_EQ(fit<Line>(1, {}, ""), 0);
  EXPECT_EQ(fit<FoundNet>(3, {}, "auto"), 0) << "the other program's run is none of its own";
  EXPECT_EQ(fit<Line>(2, {}, "auto"), 1);
  EXPECT_EQ(fit<FoundNet>(4, {}, "last"), 3);
  EXPECT_EQ(fit<Line>(3, {}, "last"), 2);
  Trainer trainer(options(1));
  trainer.test(std::make_shared<Line>(), points(), {.ckpt_path = "best"});
  trainer.test(std::make_shared<FoundNet>(FoundNetOptions{}), points(), {.ckpt_path = "best"});
  EXPECT_THAT(error_of([&] {
                auto named = options(1);
                named.name = "another";
                Trainer(named).fit<Line>({}, points(), {}, {.ckpt_path = "last"});
              }),
              AllOf(HasSubstr("there is no checkpoint of another below " + dir_.path().string()),
                    HasSubstr("there are runs of found_net, line (trainer.name says which is meant)")));
}

TEST_F(TheFoundCheckpoint, IsOfAModelOfTheSameSizes) {
  EXPECT_EQ(fit<FoundNet>(1, {.hidden = 4}, ""), 0);
  EXPECT_EQ(fit<FoundNet>(3, {.hidden = 8}, "auto"), 0) << "there is none that fits";
  testing::internal::CaptureStderr();
  EXPECT_EQ(fit<FoundNet>(2, {.hidden = 4}, "auto"), 1);
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      AllOf(
          HasSubstr("passed over"),
          HasSubstr("it belongs to another model: 3 that differ: first.bias is [8] in it and [4] here, first.weight")));
  // Other options of the same sizes are another matter: the newest it is.
  EXPECT_EQ(fit<FoundNet>(4, {.hidden = 8, .lr = 0.1}, "last"), 3);
  EXPECT_EQ(fit<FoundNet>(5, {.hidden = 8}, "last"), 4);
  Trainer trainer(options(1));
  for (const int64_t hidden : {4, 8}) {
    trainer.test(std::make_shared<FoundNet>(FoundNetOptions{.hidden = hidden}), points(), {.ckpt_path = "last"});
  }
  EXPECT_THAT(error_of([&] { fit<FoundNet>(4, {.hidden = 16}, "last"); }),
              AllOf(HasSubstr("there is no checkpoint of found_net that fits below"),
                    ContainsRegex("; [0-9]+ were passed over, the first of them .*: it belongs to another model: "
                                  "3 that differ: first.bias is \\[.\\] in it and \\[16\\] here")));
}

TEST_F(TheFoundCheckpoint, DrawsNoRandomNumberOfTheCallers) {
  fit<FoundNet>(1, {.hidden = 4}, "");
  torch::manual_seed(3);
  const auto expected = torch::rand(4);
  torch::manual_seed(3);
  EXPECT_EQ(fit<FoundNet>(2, {.hidden = 4, .lr = 0.1}, "auto"), 1);
  EXPECT_TRUE(torch::equal(torch::rand(4), expected));
}

TEST_F(TheFoundCheckpoint, IsThatOfTheLaunchWhereOneStartsTheRunAgain) {
  const auto launched = [](const char* id) { setenv("TROUPE_LAUNCH_ID", id, 1); };
  launched("first");
  EXPECT_EQ(fit<FoundNet>(1, {}, "auto"), 0);
  // A clock that is behind that of the machine that started it does no harm.
  rewrite([](nlohmann::json& metadata) { metadata["saved_at"] = 1.5e9; });
  launched("second");
  EXPECT_EQ(fit<FoundNet>(3, {}, "auto"), 0);
  launched("first");
  EXPECT_EQ(fit<FoundNet>(2, {}, "auto"), 1);
  EXPECT_EQ(fit<FoundNet>(4, {}, "last"), 2) << "what is asked for by name need not be of the launch";
  unsetenv("TROUPE_LAUNCH_ID");
}

TEST_F(TheFoundCheckpoint, IsTheOneThatWentOnFromAFileOfTheFuture) {
  EXPECT_EQ(fit<FoundNet>(1, {}, ""), 0);
  static constexpr double in_2040 = 2.2e9;
  rewrite([](nlohmann::json& metadata) { metadata["saved_at"] = in_2040; });
  testing::internal::CaptureStderr();
  EXPECT_EQ(fit<FoundNet>(2, {}, "auto"), 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("says that it was saved more than a day from now"));
  EXPECT_EQ(fit<FoundNet>(3, {}, "auto"), 2);
  EXPECT_EQ(fit<FoundNet>(4, {}, "last"), 3);
  const auto saved_at = read_checkpoint_metadata(run_dir_ / "checkpoints/last.safetensors").at("saved_at");
  EXPECT_GT(saved_at, in_2040);
  EXPECT_LT(saved_at, in_2040 + 1);
}

TEST_F(TheFoundCheckpoint, MayLieBehindALink) {
  const TempDir elsewhere;
  fs::create_directory_symlink(elsewhere.path(), dir_ / "found_net");
  EXPECT_EQ(fit<FoundNet>(1, {}, "auto"), 0);
  EXPECT_EQ(fit<FoundNet>(2, {}, "auto"), 1);
  EXPECT_EQ(fit<FoundNet>(3, {}, "last"), 2);
  Trainer(options(1)).test(std::make_shared<FoundNet>(FoundNetOptions{}), points(), {.ckpt_path = "best"});
  EXPECT_TRUE(fs::exists(elsewhere / "version_2/checkpoints/last.safetensors"));
}

// --- What a module holds ---

class Holder : public Module {
 public:
  explicit Holder(std::vector<std::pair<std::string, torch::Tensor>> buffers) {
    weight_ = register_parameter("w", torch::ones(1));
    for (auto& [name, buffer] : buffers) register_buffer(name, buffer);
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    ++steps;
    return (weight_ * batch[0]).mean();
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }
  int steps = 0;

 private:
  torch::Tensor weight_;
};

std::vector<std::pair<std::string, torch::Tensor>> buffers_of_all_types(int64_t value) {
  const auto number = torch::full({2}, value);
  return {{"complex", torch::complex(torch::full({2}, static_cast<float>(value)), torch::ones(2))},
          {"uint16", number.to(torch::kUInt16)},
          {"uint32", number.to(torch::kUInt32)},
          {"uint64", number.to(torch::kUInt64)},
          {"float8", number.to(torch::kFloat8_e4m3fn)},
          {"float8_e5m2", number.to(torch::kFloat8_e5m2)},
          {"expanded", torch::full({1, 3}, static_cast<float>(value)).expand({2, 3})}};
}

void expect_buffers(const Module& module, int64_t value) {
  for (const auto& [name, expected] : buffers_of_all_types(value)) {
    const auto found = module.named_buffers()[name];
    EXPECT_EQ(found.scalar_type(), expected.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(found.to(torch::kComplexDouble), expected.to(torch::kComplexDouble))) << name;
  }
}

TEST_F(TheFoundCheckpoint, HoldsBuffersOfEveryType) {
  Trainer(options(1)).fit(std::make_shared<Holder>(buffers_of_all_types(7)), points());
  const auto resumed = std::make_shared<Holder>(buffers_of_all_types(1));
  Trainer(options(2)).fit(resumed, points(), {}, {.ckpt_path = "last"});
  EXPECT_EQ(first_->epoch, 1);
  expect_buffers(*resumed, 7);
}

struct MixedOptions {
  int64_t value = 7;
};
TROUPE_OPTIONS(MixedOptions, (value, "of all buffers"))

class Mixed : public ModuleWith<MixedOptions> {
 public:
  explicit Mixed(MixedOptions options) : ModuleWith(options) {
    weight_ = register_parameter("w", torch::ones(1));
    for (const auto& [name, buffer] : buffers_of_all_types(options.value)) register_buffer(name, buffer);
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return (weight_ * batch[0]).mean(); }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }

 private:
  torch::Tensor weight_;
};

TEST_F(TheFoundCheckpoint, HoldsThemOnTwoDevices) {
  const auto fit_on_two = [&](int64_t epochs, int64_t value, const std::string& from) {
    auto both = options(epochs);
    both.devices = 2;
    both.accelerator = Accelerator::cpu;
    return Trainer(both).fit<Mixed>({.value = value}, points(), {}, {.ckpt_path = from});
  };
  fit_on_two(1, 7, "");
  expect_buffers(*fit_on_two(2, 1, "auto"), 7);
}

TEST_F(TheFoundCheckpoint, AndAveragedWeightsTakeThem) {
  auto averaging = options(2);
  averaging.callbacks.push_back(std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9}));
  Trainer trainer(averaging);
  EXPECT_EQ(error_of([&] {
              trainer.fit(std::make_shared<Holder>(std::vector<std::pair<std::string, torch::Tensor>>{
                              {"expanded", torch::ones({1, 3}).expand({2, 3})}}),
                          points());
            }),
            "");
}

TEST_F(TheFoundCheckpoint, CannotHoldTheseWhichIsSaidBeforeTheFirstBatch) {
  const std::vector<std::pair<std::string, torch::Tensor>> buffers = {
      {"sparse", torch::eye(2).to_sparse()},
      {"rows", torch::eye(2).to_sparse_csr()},
      {"quantized", torch::quantize_per_tensor(torch::ones(2), 0.1, 0, torch::kQInt8)},
      {"wide", torch::ones(2, torch::kComplexDouble)}};
  for (const auto& buffer : buffers) {
    const auto module = std::make_shared<Holder>(std::vector<std::pair<std::string, torch::Tensor>>{buffer});
    EXPECT_THAT(error_of([&] { Trainer(options(1)).fit(module, points()); }),
                AllOf(HasSubstr("tensor 'model." + buffer.first + "' cannot be stored in a checkpoint: it is"),
                      HasSubstr("trainer.enable_checkpointing = false")));
    EXPECT_EQ(module->steps, 0);
    auto without = options(1);
    without.enable_checkpointing = false;
    EXPECT_EQ(error_of([&] { Trainer(without).fit(module, points()); }), "") << buffer.first;
    EXPECT_EQ(module->steps, 4);
  }
  const auto empty = std::make_shared<Holder>(
      std::vector<std::pair<std::string, torch::Tensor>>{{"empty", torch::empty(2, torch::kMeta)}});
  testing::internal::CaptureStderr();
  EXPECT_THAT(error_of([&] { Trainer(options(1)).fit(empty, points()); }),
              HasSubstr("'empty' has no values (it is on the device meta)"));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("meta tensor")));
  EXPECT_EQ(empty->steps, 0);
}

// Of complex weights: y = w x, as two real numbers.
class Rotation : public Module {
 public:
  Rotation() { weight_ = register_parameter("w", torch::ones(1, torch::kComplexFloat)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto turned = weight_ * batch[0].to(torch::kComplexFloat);
    return torch::view_as_real(turned - torch::complex(torch::zeros(1), torch::ones(1)) * batch[0]).pow(2).mean();
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.1}); }
  torch::Tensor weight() const { return torch::view_as_real(weight_.detach()).flatten(); }

 private:
  torch::Tensor weight_;
};

TEST_F(TheFoundCheckpoint, HoldsComplexParametersAndTheStateOfTheirOptimizer) {
  const auto straight = std::make_shared<Rotation>(), first = std::make_shared<Rotation>(),
             second = std::make_shared<Rotation>();
  {
    const TempDir elsewhere;
    auto whole = options(4);
    whole.default_root_dir = elsewhere.path();
    Trainer(whole).fit(straight, points());
  }
  Trainer(options(2)).fit(first, points());
  Trainer(options(4)).fit(second, points(), {}, {.ckpt_path = "last"});
  EXPECT_TRUE(torch::equal(second->weight(), straight->weight())) << second->weight() << straight->weight();
  EXPECT_FALSE(torch::equal(first->weight(), straight->weight()));
}

}  // namespace
}  // namespace troupe
