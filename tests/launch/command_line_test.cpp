#include "troupe/launch/command_line.hpp"

#include "troupe/launch/config_file.hpp"
#include "troupe/modules/options/trainer_options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct ModelOptions {
  double lr = 1e-3;
  int64_t hidden = 128;
  std::string label = "";
};
TROUPE_OPTIONS(ModelOptions, (lr, "learning rate of AdamW"), (hidden, "units of the hidden layer"),
               (label, "a name for humans"))

class CommandLineTest : public testing::Test {
 protected:
  using Words = std::vector<std::string>;

  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Invocation parse(const Words& words) { return command_line_.parse(words); }
  std::string refusal(const Words& words) {
    try {
      parse(words);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("command_line_" + std::to_string(::getpid()) + testing::UnitTest::GetInstance()->current_test_info()->name());
  TrainerOptions trainer_;
  ModelOptions model_;
  CommandLine command_line_{"digits", {option_group("trainer", trainer_), option_group("model", model_)}};
};

// A variable of the environment, for as long as this lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST_F(CommandLineTest, TheEnvironmentBeatsFilesAndTheCommandLineBeatsBoth) {
  const auto first = file("a.toml", "[trainer]\nmax_epochs = 1\nmax_steps = 1\n[model]\nlr = 0.1\nhidden = 1\n");
  const auto second = file("b.toml", "[model]\nlr = 0.2\nhidden = 2\n");
  const Variable epochs("TROUPE__TRAINER__MAX_EPOCHS", "3"), hidden("TROUPE__model__hidden", "3");
  parse({"fit", "--trainer.max_epochs", "4", "--config", first, "--config", second});
  EXPECT_EQ(trainer_.max_epochs, 4);
  EXPECT_EQ(trainer_.max_steps, 1);
  EXPECT_EQ(model_.lr, 0.2);
  EXPECT_EQ(model_.hidden, 3);
}

TEST_F(CommandLineTest, AVariableThatIsNoOptionNamesTheNearest) {
  {
    const Variable wrong("TROUPE__TRAINER__MAX_EPOCH", "3");
    EXPECT_EQ(refusal({"fit"}),
              "the environment's TROUPE__TRAINER__MAX_EPOCH is no option; did you mean TROUPE__TRAINER__MAX_EPOCHS?");
  }
  const Variable bad("TROUPE__MODEL__LR", "fast");
  EXPECT_EQ(refusal({"fit"}), "the environment's TROUPE__MODEL__LR: model.lr = fast is not a finite number");
  EXPECT_EQ(refusal({"--help"}), "accepted");
}

TEST_F(CommandLineTest, SetIsAnotherWayToSay) {
  parse({"fit", "--set", "model.label=a=b", "--set=trainer.max_epochs=5"});
  EXPECT_EQ(model_.label, "a=b");
  EXPECT_EQ(trainer_.max_epochs, 5);
  EXPECT_EQ(refusal({"fit", "--set", "model.lr"}),
            "option --set has 'model.lr'; use GROUP.NAME=VALUE, as in --set trainer.max_epochs=3");
  EXPECT_EQ(refusal({"fit", "--set", "model.lrr=1"}), refusal({"fit", "--model.lrr=1"}));
}

TEST_F(CommandLineTest, StageComesFirstAndOptionsFollow) {
  const char* argv[] = {"digits", "validate", "--trainer.max_epochs", "3", "--model.lr=0.5", "--ckpt_path", "best"};
  const Invocation invocation = command_line_.parse(7, argv);
  EXPECT_EQ(invocation.stage, Stage::validate);
  EXPECT_EQ(invocation.ckpt_path, "best");
  EXPECT_EQ(trainer_.max_epochs, 3);
  EXPECT_EQ(model_.lr, 0.5);
}

TEST_F(CommandLineTest, FourStagesAreKnown) {
  for (const Stage stage : {Stage::fit, Stage::validate, Stage::test, Stage::predict}) {
    EXPECT_EQ(parse({std::string(to_string(stage))}).stage, stage);
  }
}

TEST_F(CommandLineTest, MissingOrUnknownStageNamesTheValidOnes) {
  EXPECT_EQ(refusal({}), "no stage; the stage comes first: fit, validate, test, predict or tune");
  EXPECT_EQ(refusal({"--model.lr", "1"}),
            "'--model.lr' is not a stage; the stage comes first: fit, validate, test, predict or tune");
  EXPECT_EQ(refusal({"tset"}), "unknown stage 'tset'; did you mean test? (fit, validate, test, predict, tune)");
  EXPECT_THAT(refusal({""}), StartsWith("unknown stage ''"));
}

TEST_F(CommandLineTest, FlagsNeedNoValue) {
  parse({"fit", "--trainer.deterministic", "--trainer.fast_dev_run", "--trainer.logger", "false"});
  EXPECT_TRUE(trainer_.deterministic);
  EXPECT_EQ(trainer_.fast_dev_run, 1);
  EXPECT_FALSE(trainer_.logger);
  parse({"fit", "--trainer.fast_dev_run=7", "--trainer.deterministic=0"});
  EXPECT_EQ(trainer_.fast_dev_run, 7);
  EXPECT_FALSE(trainer_.deterministic);
}

TEST_F(CommandLineTest, ValuesMayBeNegativeEmptyOrLookLikeOptions) {
  parse({"fit", "--trainer.max_steps", "-1", "--trainer.name", "", "--model.label=--odd=1"});
  EXPECT_EQ(trainer_.max_steps, -1);
  EXPECT_EQ(model_.label, "--odd=1");
}

TEST_F(CommandLineTest, LastOfRepeatedOptionsCounts) {
  parse({"fit", "--model.hidden", "1", "--model.hidden", "2"});
  EXPECT_EQ(model_.hidden, 2);
}

TEST_F(CommandLineTest, UnknownOptionsNameTheNearest) {
  EXPECT_EQ(refusal({"fit", "--trainer.max_epoch", "3"}),
            "unknown option --trainer.max_epoch; did you mean --trainer.max_epochs?");
  EXPECT_EQ(refusal({"fit", "--trainer.max-epochs=3"}),
            "unknown option --trainer.max-epochs; did you mean --trainer.max_epochs?");
  EXPECT_EQ(refusal({"fit", "--lr", "3"}), "unknown option --lr; did you mean --model.lr?");
  EXPECT_EQ(refusal({"fit", "--ckpt", "x"}), "unknown option --ckpt; did you mean --ckpt_path?");
  EXPECT_EQ(refusal({"fit", "--conifg", "x"}), "unknown option --conifg; did you mean --config?");
}

TEST_F(CommandLineTest, MalformedArgumentsAreRefused) {
  EXPECT_EQ(refusal({"fit", "--model.lr"}), "option --model.lr needs a value");
  EXPECT_EQ(refusal({"fit", "--model.lr", "--model.hidden", "3"}), "option --model.lr needs a value");
  EXPECT_EQ(refusal({"fit", "--model.hidden", "big"}), "model.hidden = big is not a whole number");
  EXPECT_EQ(refusal({"fit", "--model.lr", "nan"}), "model.lr = nan is not a finite number");
  EXPECT_EQ(refusal({"fit", "--trainer.deterministic", "maybe"}), "trainer.deterministic = maybe is not true or false");
  EXPECT_EQ(refusal({"fit", "last"}), "unexpected argument 'last'; options are written --GROUP.NAME VALUE");
  EXPECT_THAT(refusal({"fit", "-x"}), HasSubstr("unexpected argument '-x'"));
  EXPECT_THAT(refusal({"fit", "--"}), HasSubstr("unexpected argument '--'"));
  EXPECT_THAT(refusal({"fit", "--ckpt_path="}), HasSubstr("use best, last, auto, none or a path"));
  EXPECT_THAT(refusal({"fit", "--print_config", "x"}), HasSubstr("--print_config takes no value"));
}

TEST_F(CommandLineTest, CommandLineBeatsConfigInWhateverOrder) {
  const auto config = file("run.toml", "ckpt_path = 'last'\n[trainer]\nmax_epochs = 5\n[model]\nlr = 0.5\n");
  const auto invocation = parse({"fit", "--trainer.max_epochs", "3", "--ckpt_path", "best", "--config", config});
  EXPECT_EQ(trainer_.max_epochs, 3);
  EXPECT_EQ(model_.lr, 0.5);
  EXPECT_EQ(invocation.ckpt_path, "best");
  EXPECT_EQ(parse({"fit", "--config", config}).ckpt_path, "last");
  EXPECT_EQ(parse({"fit", "--config", config, "--ckpt_path", "none"}).ckpt_path, std::nullopt);
}

TEST_F(CommandLineTest, LaterConfigBeatsEarlier) {
  const auto first = file("first.toml", "[model]\nlr = 0.5\nhidden = 1\n");
  const auto second = file("second.toml", "[model]\nlr = 0.25\n");
  parse({"fit", "--config", first, "--config=" + second});
  EXPECT_EQ(model_.lr, 0.25);
  EXPECT_EQ(model_.hidden, 1);
}

TEST_F(CommandLineTest, ConfigErrorsNameTheFile) {
  const auto config = file("run.toml", "[trainer]\nmax_epoch = 5\n");
  EXPECT_EQ(refusal({"fit", "--config", config}),
            config + ":2: unknown option trainer.max_epoch; did you mean trainer.max_epochs?");
  EXPECT_EQ(refusal({"fit", "--config", "/nowhere.toml"}), "cannot open the config file /nowhere.toml");
}

TEST_F(CommandLineTest, QuietIsShortForTheTrainersOption) {
  parse({"fit", "--quiet"});
  EXPECT_TRUE(trainer_.quiet);
  parse({"fit", "--quiet=false"});
  EXPECT_FALSE(trainer_.quiet);
  EXPECT_EQ(refusal({"fit", "--quite"}), "unknown option --quite; did you mean --quiet?");
}

TEST_F(CommandLineTest, HelpIsGivenWhateverElseIsWrong) {
  EXPECT_TRUE(parse({"--help"}).help);
  EXPECT_TRUE(parse({"fit", "--no_such_option", "-h"}).help);
}

TEST_F(CommandLineTest, HelpShowsEveryOptionAlignedWithMeaningAndDefault) {
  const std::string& help = command_line_.help();
  EXPECT_THAT(help, StartsWith("usage: digits STAGE [options]\n"));
  for (const auto& group : command_line_.groups()) {
    for (const auto& option : group.options) {
      EXPECT_THAT(help, HasSubstr("  --" + group.name + "." + std::string(option.name)));
    }
  }
  for (const char* general :
       {"--config FILE", "--ckpt_path PATH|best|last|auto", "--print_config", "--quiet", "--help"}) {
    EXPECT_THAT(help, HasSubstr(general));
  }
  EXPECT_THAT(help, HasSubstr("learning rate of AdamW (default: 0.001)"));
  EXPECT_THAT(help, HasSubstr("a name for humans (default: \"\")"));
  std::istringstream lines(help);
  std::size_t column = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 120u) << line;
    if (!line.starts_with("  --")) continue;
    auto meaning = line.find_first_not_of(' ', line.find("  ", 4));
    if (meaning == std::string::npos) {  // the choices fill the line
      std::getline(lines, line);
      meaning = line.find_first_not_of(' ');
    }
    if (column == 0) column = meaning;
    EXPECT_EQ(meaning, column) << line;
  }
}

TEST_F(CommandLineTest, HelpShowsDefaultsNotWhatWasParsed) {
  parse({"fit", "--model.lr", "0.5"});
  EXPECT_THAT(command_line_.help(), HasSubstr("(default: 0.001)"));
}

TEST_F(CommandLineTest, PrintedConfigIsAcceptedBack) {
  const auto printed = parse({"--print_config", "--trainer.max_epochs", "3", "--trainer.limit_val_batches", "1",
                              "--trainer.check_val_every_n_epoch", "none", "--model.lr", "0.3", "--ckpt_path", "last"});
  EXPECT_TRUE(printed.print_config);
  const std::string toml = to_toml(command_line_.groups(), printed.ckpt_path);

  TrainerOptions trainer;
  ModelOptions model;
  const CommandLine again("digits", {option_group("trainer", trainer), option_group("model", model)});
  const auto invocation = again.parse({"test", "--config", file("run.toml", toml)});
  EXPECT_EQ(invocation.ckpt_path, "last");
  EXPECT_EQ(to_json_object(trainer), to_json_object(trainer_));
  EXPECT_EQ(to_json_object(model), to_json_object(model_));
}

}  // namespace
}  // namespace troupe
