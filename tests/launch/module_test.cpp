// What a module may use and say, in whole runs.
#include "tests/support/lines.hpp"
#include "tests/support/one_weight.hpp"
#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// --- Hyper-parameters ---

class FromJson : public Line {
 public:
  explicit FromJson(const nlohmann::json& hparams) {
    save_hyperparameters(hparams, {.ignore = {"secret"}});
    save_hyperparameters({{"derived", hparams.value("layers", 0) * 2}}, {.logger = false});
  }
  Optimizers configure_optimizers() override {
    return torch::optim::SGD(parameters(), hparams()["rate"].get<double>());
  }
};

const nlohmann::json given = {{"layers", 3}, {"rate", 0.2}, {"secret", "x"}};

TEST(Hyperparameters, OfAnyNamesAreKeptInCheckpointsAndBuildTheModuleAgain) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto module = trainer.fit(std::make_shared<FromJson>(given), points());
  // Those of Line's own options are there too.
  EXPECT_EQ(module->hparams(), (nlohmann::json{{"lr", 0.1}, {"layers", 3}, {"rate", 0.2}, {"derived", 6}}));
  EXPECT_EQ(module->logged_hparams(), (nlohmann::json{{"lr", 0.1}, {"layers", 3}, {"rate", 0.2}}));
}

TEST(Hyperparameters, ThatAreNoneAreRefused) {
  EXPECT_THAT(refusal([] { FromJson(nlohmann::json{{"layers", 3}}); }), HasSubstr("ignore 'secret'"));
  Line line;
  EXPECT_THAT(refusal([&] {
                line.save_hyperparameters({{"hidden", 1}}, {.ignore = {"hiden"}});
              }),
              HasSubstr("did you mean hidden?"));
  EXPECT_THAT(refusal([&] { line.save_hyperparameters(nlohmann::json{1, 2}); }), HasSubstr("not [1,2]"));
}

// --- A module of whose class the caller knows the base only ---

class Derived : public Line {
 public:
  void on_train_start() override { ++starts; }
  int starts = 0;
};

TEST(AModule, GivenByItsBaseClassLosesNoHook) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto derived = std::make_shared<Derived>();
  const std::shared_ptr<Module> base = derived;
  const double before = derived->weight();
  trainer.fit(base, points(), points());
  EXPECT_EQ(derived->starts, 1);
  EXPECT_NE(derived->weight(), before);
  EXPECT_EQ(trainer.run_dir().parent_path().filename(), "derived");
}

// --- A module in a module ---

class Encoder : public Module {
 public:
  Encoder() { layer_ = register_module("layer", torch::nn::Linear(1, 1)); }
  torch::Tensor forward(torch::Tensor x) override {
    log("encoder_mean", x.mean(), {.on_step = false, .on_epoch = true});
    epoch = current_epoch();
    return layer_(x);
  }
  Optimizers configure_optimizers() override { return ADD_FAILURE() << "of the outer module alone", Optimizers(); }
  int64_t epoch = -1;

 private:
  torch::nn::Linear layer_{nullptr};
};

class Task : public Line {
 public:
  explicit Task(std::shared_ptr<Encoder> encoder, bool late = false) : encoder_(std::move(encoder)) {
    if (!late) register_module("encoder", encoder_);
  }
  void setup(Stage) override {
    if (!named_children().contains("encoder")) register_module("encoder", encoder_);
  }
  torch::Tensor forward(torch::Tensor x) override { return layer_(encoder_->forward(x)); }

 private:
  std::shared_ptr<Encoder> encoder_;
};

TEST(AModuleInAModule, LogsAndIsTrainedWithIt) {
  for (const bool late : {false, true}) {
    const TempDir dir;
    Trainer trainer(quiet(dir));
    const auto encoder = std::make_shared<Encoder>();
    const auto before = encoder->parameters()[0].clone();
    trainer.fit(std::make_shared<Task>(encoder, late), points());
    EXPECT_TRUE(trainer.callback_metrics().contains("encoder_mean"));
    EXPECT_EQ(encoder->epoch, 1);
    EXPECT_FALSE(encoder->in_run());
    EXPECT_FALSE(torch::equal(encoder->parameters()[0], before));
  }
}

// --- Train and eval mode ---

// Ones into a batch norm and a dropout; can fail in each evaluation, and leave the modes to the module.
class Modal : public OneWeight {
 public:
  Modal() {
    norm = register_module("norm", torch::nn::BatchNorm1d(1));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
    frozen = register_module("frozen", torch::nn::BatchNorm1d(1));
    frozen->eval();
    twice = register_module("twice", torch::nn::Sequential(frozen));  // one layer with two parents
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    trained.push_back(modes());
    return OneWeight::training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch&, int64_t) override { return evaluate(); }
  StepOutput test_step(const Batch&, int64_t) override { return evaluate(); }
  StepOutput predict_step(const Batch& batch, int64_t) override {
    evaluate();
    return {{"y", batch[0]}};
  }
  StepOutput evaluate() {
    EXPECT_EQ(modes(), "----");
    if (fails) throw std::runtime_error("as it was to");
    return {};
  }
  // Of the module, norm, dropout and frozen: t where they train.
  std::string modes() const {
    std::string text;
    for (const bool trains : {is_training(), norm->is_training(), dropout->is_training(), frozen->is_training()}) {
      text += trains ? 't' : '-';
    }
    return text;
  }
  torch::nn::BatchNorm1d norm{nullptr}, frozen{nullptr};
  torch::nn::Dropout dropout{nullptr};
  torch::nn::Sequential twice{nullptr};
  std::vector<std::string> trained;
  bool fails = false;
};

TEST(TheModes, AreThoseOfTrainingInAFitWhateverCameBefore) {
  const TempDir dir;
  const auto options = one_epoch(dir);
  const auto data = numbers({1, 1});
  const std::vector<std::function<void(Trainer&, const std::shared_ptr<Modal>&)>> befores = {
      [](auto&, auto&) {},
      [&](Trainer& trainer, auto& model) { trainer.predict(std::shared_ptr<Modal>(model), data); },
      [&](Trainer& trainer, auto& model) { trainer.test(std::shared_ptr<Modal>(model), data); },
      [&](Trainer& trainer, auto& model) { trainer.validate(std::shared_ptr<Modal>(model), data); },
      [&](Trainer& trainer, auto& model) { trainer.fit(std::shared_ptr<Modal>(model), data, data); },
      [&](Trainer& trainer, auto& model) {
        trainer.fit(std::shared_ptr<Modal>(model), data);
        trainer.predict(std::shared_ptr<Modal>(model), data);
      }};
  for (const bool fails : {false, true}) {
    for (std::size_t i = 0; i < befores.size(); ++i) {
      SCOPED_TRACE(i);
      const auto model = std::make_shared<Modal>();
      model->fails = fails;
      Trainer trainer(options);
      (void)error_of([&] { befores[i](trainer, model); });
      EXPECT_EQ(model->modes(), "ttt-");
      model->trained.clear();
      model->fails = false;
      Trainer(options).fit(std::shared_ptr<Modal>(model), data, data);
      EXPECT_EQ(model->trained, std::vector<std::string>({"ttt-", "ttt-"}));
      EXPECT_EQ(model->modes(), "ttt-");
    }
  }
}

TEST(TheModes, OfAModuleInEvalModeAreSetAsTrainDoesAtTheStartOfAFit) {
  const TempDir dir;
  const auto model = std::make_shared<Modal>();
  model->eval();
  EXPECT_EQ(model->modes(), "----");
  Trainer(one_epoch(dir)).predict(std::shared_ptr<Modal>(model), numbers({1}));
  EXPECT_EQ(model->modes(), "----");
  Trainer(one_epoch(dir)).fit(std::shared_ptr<Modal>(model), numbers({1}));
  EXPECT_EQ(model->trained, std::vector<std::string>({"tttt"}));
}

TEST(TheModes, OfLayersThatStayInEvalModeAreNamed) {
  const TempDir dir;
  for (const bool is_frozen : {true, false}) {
    const auto model = std::make_shared<Modal>();
    if (!is_frozen) model->frozen->train();
    testing::internal::CaptureStderr();
    Trainer(one_epoch(dir)).fit(std::shared_ptr<Modal>(model), numbers({1}));
    const auto said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(said.find("in eval mode when fit begins, and left so: frozen, twice.0;") != std::string::npos, is_frozen)
        << said;
  }
}

// Overrides decide, also without what they override; a failure puts back what was there all the same.
class OwnModes : public Modal {
 public:
  void on_validation_model_eval() override { eval(); }
  void on_validation_model_train() override {
    train();
    dropout->eval();
  }
};

TEST(TheModes, AreTheModulesToDecideAndPutBackWhereItCannot) {
  const TempDir dir;
  const auto model = std::make_shared<OwnModes>();
  Trainer(one_epoch(dir)).fit(std::shared_ptr<OwnModes>(model), numbers({1, 1}), numbers({1}));
  EXPECT_EQ(model->modes(), "tt-t");
  model->fails = true;
  EXPECT_NE(
      error_of([&] { Trainer(one_epoch(dir)).fit(std::shared_ptr<OwnModes>(model), numbers({1}), numbers({1})); }), "");
  EXPECT_EQ(model->modes(), "tt-t");
}

// --- Tied weights ---

class Tied : public Line {
 public:
  Tied() {
    other_ = register_module("other", torch::nn::Linear(1, 1));
    tie_weights(*other_, other_->weight, layer_->weight);
  }
  torch::Tensor forward(torch::Tensor x) override { return other_(layer_(x)); }
  torch::nn::Linear& other() { return other_; }

 private:
  torch::nn::Linear other_{nullptr};
};

TEST(TiedWeights, AreOneParameterWithTwoNames) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto module = std::make_shared<Tied>();
  EXPECT_EQ(module->parameters().size(), 3u);
  const double start = module->weight();
  module->zero_grad();
  trainer.fit(module, points(64, false));
  EXPECT_TRUE(module->other()->weight.is_same(module->named_parameters()["layer.weight"]));
  EXPECT_NE(module->weight(), start);
  const auto loaded = load_from_checkpoint<Tied>(trainer.run_dir() / "checkpoints/last.safetensors", {.strict = false});
  EXPECT_EQ(loaded->weight(), module->weight());
  EXPECT_TRUE(loaded->other()->weight.is_same(loaded->named_parameters()["layer.weight"]));
}

TEST(TiedWeights, ThatCannotBeAreRefused) {
  torch::nn::Linear one(2, 3), two(3, 2), three(2, 3);
  EXPECT_THAT(refusal([&] { tie_weights(*one, one->weight, two->weight); }),
              AllOf(HasSubstr("[3, 2]"), HasSubstr("[2, 3]")));
  EXPECT_THAT(refusal([&] { tie_weights(*one, three->weight, one->weight); }), HasSubstr("none of the layer's own"));
}

// --- Loading without strictness ---

class Grown : public Line {
 public:
  explicit Grown(bool strict) {
    register_module("head", torch::nn::Linear(1, 1));
    strict_loading = strict;
  }
};

TEST(StrictLoading, IsTheModulesChoice) {
  const TempDir dir;
  Trainer first(quiet(dir));
  const auto trained = first.fit<Line>({}, points());
  const auto path = (first.run_dir() / "checkpoints/last.safetensors").string();
  Trainer trainer(quiet(dir));
  EXPECT_THAT(error_of([&] { trainer.test(std::make_shared<Grown>(true), points(), {.ckpt_path = path}); }),
              HasSubstr("2 missing in it: head.weight, head.bias"));
  const auto grown = std::make_shared<Grown>(false);
  testing::internal::CaptureStderr();
  trainer.test(grown, points(), {.ckpt_path = path});
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("2 missing in it: head.weight, head.bias"));
  EXPECT_EQ(grown->weight(), trained->weight());
  Grown alone(false);
  load_from_checkpoint(path, alone);
  EXPECT_EQ(alone.weight(), trained->weight());
}

// --- The model summary ---

class DeepModule : public Line {
 public:
  DeepModule() { register_module("block", torch::nn::Sequential(torch::nn::Linear(1, 2), torch::nn::ReLU())); }
};

class SummaryOfItsOwn : public DeepModule {
 public:
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override { return {std::make_shared<ModelSummary>(-1)}; }
};

template <class M>
std::string summary(bool enabled, std::vector<std::shared_ptr<Callback>> callbacks = {}) {
  const TempDir dir;
  auto options = quiet(dir);
  options.enable_model_summary = enabled;
  options.callbacks = std::move(callbacks);
  Trainer trainer(options);
  testing::internal::CaptureStderr();
  trainer.fit(std::make_shared<M>(), points());
  return testing::internal::GetCapturedStderr();
}

TEST(TheModelSummary, IsACallbackThatTheTrainerAddsUnlessThereIsOne) {
  EXPECT_THAT(summary<DeepModule>(true),
              AllOf(HasSubstr("| block"), HasSubstr("Total params"), Not(HasSubstr("block.0"))));
  EXPECT_THAT(summary<DeepModule>(false), Not(HasSubstr("params")));
  EXPECT_THAT(summary<DeepModule>(true, {std::make_shared<ModelSummary>(2)}), HasSubstr("block.0"));
  EXPECT_THAT(summary<DeepModule>(false, {std::make_shared<ModelSummary>(2)}), HasSubstr("block.0"));
  EXPECT_THAT(summary<DeepModule>(true, {std::make_shared<ModelSummary>(0)}), Not(HasSubstr("params")));
  EXPECT_THAT(summary<SummaryOfItsOwn>(true), HasSubstr("block.0"));
  EXPECT_THAT(refusal([] { ModelSummary(-2); }), HasSubstr("max_depth = -2"));
}

class WrongExample : public Line {
 public:
  WrongExample() { example_input_array = torch::zeros({2, 3}); }
};

TEST(TheModelSummary, SaysWhereAnExampleThatDoesNotFitCameFrom) {
  const TempDir dir;
  auto options = quiet(dir);
  options.enable_model_summary = true;
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit(std::make_shared<WrongExample>(), points()); }),
              HasSubstr("the model summary calls forward(example_input_array)"));
}

// --- print ---

class Talks : public Line {
 public:
  void on_train_start() override { print("weight", layer_->weight.sizes(), 'x', 3); }
};

TEST(Print, TakesValuesOfAnyType) {
  const TempDir dir;
  testing::internal::CaptureStdout();
  Trainer(quiet(dir)).fit(std::make_shared<Talks>(), points());
  Talks().on_train_start();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "weight [1, 1] x 3\nweight [1, 1] x 3\n");
}

}  // namespace
}  // namespace troupe
