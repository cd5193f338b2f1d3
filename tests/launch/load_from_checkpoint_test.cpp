#include "tests/support/lines.hpp"
#include "tests/support/python_output.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/weights/pth_writer.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

struct LoadedNetOptions {
  int64_t hidden = 4;
  std::string name = "net";
};
TROUPE_OPTIONS(LoadedNetOptions, (hidden, "units"), (name, "of the net"))

class LoadedNet : public ModuleWith<LoadedNetOptions> {
 public:
  explicit LoadedNet(LoadedNetOptions options) : ModuleWith(options) {
    first_ = register_module("first", torch::nn::Linear(1, options.hidden));
    second_ = register_module("second", torch::nn::Linear(options.hidden, 1));
  }
  torch::Tensor forward(torch::Tensor x) override { return second_(torch::relu(first_(x))); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.01); }
  void on_save_checkpoint(nlohmann::json& checkpoint) override { checkpoint["vocabulary"] = {"a", "b"}; }
  void on_load_checkpoint(const nlohmann::json& checkpoint) override {
    if (checkpoint.contains("vocabulary")) vocabulary = checkpoint["vocabulary"].get<std::vector<std::string>>();
  }
  std::vector<std::string> vocabulary;

 private:
  torch::nn::Linear first_{nullptr}, second_{nullptr};
};

// The same layers under another options struct.
struct OtherOptions {
  int64_t hidden_units = 4;
  std::string name = "other";
};
TROUPE_OPTIONS(OtherOptions, (hidden_units, "units"), (name, "of the net"))
class OtherNet : public ModuleWith<OtherOptions> {
 public:
  explicit OtherNet(OtherOptions options) : ModuleWith(options) {}
};

// One more layer and one hyper-parameter more than LoadedNet.
struct DeepOptions {
  int64_t hidden = 4;
  std::string name = "net";
  double dropout = 0.5;
};
TROUPE_OPTIONS(DeepOptions, (hidden, "units"), (name, "of the net"), (dropout, "share"))
class DeepNet : public ModuleWith<DeepOptions> {
 public:
  explicit DeepNet(DeepOptions options) : ModuleWith(options) {
    register_module("first", torch::nn::Linear(1, options.hidden));
    register_module("third", torch::nn::Linear(options.hidden, options.hidden));
  }
};

class LoadFromCheckpoint : public ::testing::Test {
 protected:
  // A trained LoadedNet of 6 hidden units.
  void SetUp() override {
    Trainer trainer(quiet(dir_));
    trained_ = trainer.fit<LoadedNet>({.hidden = 6, .name = "digits"}, points());
    path_ = trainer.run_dir() / "checkpoints/last.safetensors";
  }

  TempDir dir_;
  std::shared_ptr<LoadedNet> trained_;
  fs::path path_;
};

TEST_F(LoadFromCheckpoint, BuildsTheModelAsItWasTrained) {
  const auto loaded = load_from_checkpoint<LoadedNet>(path_);
  EXPECT_EQ(loaded->options().hidden, 6);
  EXPECT_EQ(loaded->options().name, "digits");
  EXPECT_EQ(loaded->hparams(), trained_->hparams());
  EXPECT_THAT(loaded->vocabulary, ElementsAre("a", "b"));
  const auto x = torch::randn({5, 1});
  EXPECT_TRUE(torch::equal((*loaded)(x), (*trained_)(x)));
  EXPECT_TRUE(loaded->parameters()[0].requires_grad());
}

TEST_F(LoadFromCheckpoint, ServesInferenceWithoutATrainer) {
  const auto model = load_from_checkpoint<LoadedNet>(path_);
  model->freeze();
  EXPECT_FALSE(model->is_training());
  EXPECT_FALSE((*model)(torch::ones({2, 1})).requires_grad());
}

TEST_F(LoadFromCheckpoint, OverridesWinOverTheCheckpoint) {
  EXPECT_EQ(load_from_checkpoint<LoadedNet>(path_, {.hparams = {{"name", "other"}}})->options().name, "other");
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<LoadedNet>(path_, {.hparams = {{"hidden", 5}}});
              }),
              AllOf(HasSubstr("another model"), HasSubstr("first.weight is [6, 1]")));
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<LoadedNet>(path_, {.hparams = {{"hiden", 5}}});
              }),
              AllOf(HasSubstr("'hiden'"), HasSubstr("did you mean hidden?")));
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<LoadedNet>(path_, {.hparams = {{"hidden", "many"}}});
              }),
              HasSubstr("hparams.hidden"));
  EXPECT_THAT(error_of([&] { load_from_checkpoint<LoadedNet>(path_, {.hparams = {1, 2}}); }), HasSubstr("JSON object"));
}

TEST_F(LoadFromCheckpoint, NamesAHyperParameterThatTheClassDoesNotKnow) {
  EXPECT_THAT(error_of([&] { load_from_checkpoint<OtherNet>(path_); }),
              AllOf(HasSubstr("'hidden'"), HasSubstr("did you mean hidden_units?"), HasSubstr(path_.string())));
}

TEST_F(LoadFromCheckpoint, NamesAHyperParameterThatTheCheckpointLacks) {
  EXPECT_THAT(error_of([&] { load_from_checkpoint<DeepNet>(path_); }),
              AllOf(HasSubstr("'dropout' is missing"), HasSubstr("LoadOptions::hparams")));
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<DeepNet>(path_, {.hparams = {{"dropout", 0.1}}});
              }),
              AllOf(HasSubstr("2 missing in it: third.weight, third.bias"),
                    HasSubstr("2 left over in it: second.weight, second.bias")));
}

TEST_F(LoadFromCheckpoint, NotStrictTakesWhatFitsAndSaysWhatDoesNot) {
  IncompatibleKeys keys;
  const auto deep = load_from_checkpoint<DeepNet>(path_, {.strict = false, .incompatible_keys = &keys});
  EXPECT_THAT(keys.missing_keys, ElementsAre("third.weight", "third.bias"));
  EXPECT_THAT(keys.unexpected_keys, ElementsAre("second.weight", "second.bias"));
  EXPECT_EQ(deep->options().dropout, 0.5);
  EXPECT_TRUE(torch::equal(deep->named_parameters()["first.weight"], trained_->named_parameters()["first.weight"]));
}

TEST_F(LoadFromCheckpoint, FillsAModuleThatIsThere) {
  LoadedNet net({.hidden = 6});
  load_from_checkpoint(path_, net);
  EXPECT_TRUE(torch::equal(net(torch::ones({1, 1})), (*trained_)(torch::ones({1, 1}))));
  Line line;
  const auto before = line.weight();
  EXPECT_THAT(error_of([&] { load_from_checkpoint(path_, line); }), HasSubstr("layer.weight"));
  EXPECT_EQ(line.weight(), before);
}

TEST_F(LoadFromCheckpoint, TakesWeightsThatPythonWrote) {
  const auto path = dir_ / "python.safetensors";
  python_output("safetensors_file.py", "line " + path.string());
  Line line;
  load_from_checkpoint(path, line);
  EXPECT_EQ(line.weight(), 2.5);
  EXPECT_EQ(line.bias(), 0.5);
  EXPECT_EQ(load_from_checkpoint<Line>(path)->weight(), 2.5);
  Trainer trainer(quiet(dir_));
  auto module = std::make_shared<Line>();
  trainer.test(module, points(), {.ckpt_path = path.string()});
  EXPECT_EQ(module->weight(), 2.5);
}

TEST_F(LoadFromCheckpoint, TakesDefaultOptionsWithWeightsThatHaveNone) {
  const LoadedNet source({.hidden = 4, .name = "anything"});
  const auto path = dir_ / "weights.pth";
  write_pth(named_model_tensors(source), path);
  const auto loaded = load_from_checkpoint<LoadedNet>(path);
  EXPECT_EQ(loaded->options().name, "net");
  EXPECT_TRUE(torch::equal(loaded->parameters()[0], source.parameters()[0]));
  EXPECT_THAT(error_of([&] {
                load_from_checkpoint<LoadedNet>(path, {.hparams = {{"hidden", 5}}});
              }),
              HasSubstr("first.weight is [4, 1]"));
}

TEST_F(LoadFromCheckpoint, RefusesWhatIsNoCheckpoint) {
  EXPECT_THAT(error_of([&] { load_from_checkpoint<LoadedNet>(dir_ / "missing.safetensors"); }),
              HasSubstr("missing.safet"));
  fs::resize_file(path_, fs::file_size(path_) - 1);
  EXPECT_THAT(error_of([&] { load_from_checkpoint<LoadedNet>(path_); }), HasSubstr(path_.string()));
}

}  // namespace
}  // namespace troupe
