// Parts by name: --optimizer muon --optimizer.lr 0.02.
#include "tests/support/file_content.hpp"
#include "tests/support/lines.hpp"
#include "troupe/launch/chosen_parts.hpp"
#include "troupe/launch/command_line.hpp"
#include "troupe/launch/completion.hpp"
#include "troupe/launch/config_file.hpp"
#include "troupe/launch/main.hpp"
#include "troupe/modules/optim/optimizer_name.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace troupe {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// --- Registrations, each in one line ---

struct HalfSgdOptions {
  double lr = 0.5;
  bool halve = true;
};
TROUPE_OPTIONS(HalfSgdOptions, (lr, "learning rate"), (halve, "halve it"))

[[maybe_unused]] const bool half_sgd =
    register_optimizer<HalfSgdOptions>("half_sgd", [](Module& module, const HalfSgdOptions& o) {
      return optim::sgd(module.parameters(), {.lr = o.halve ? o.lr / 2 : o.lr});
    });

struct HalvingOptions {
  int64_t every = 1;
};
TROUPE_OPTIONS(HalvingOptions, (every, "epochs"))

[[maybe_unused]] const bool halving =
    register_scheduler<HalvingOptions>("halving", [](const OptimizerPtr& optimizer, const HalvingOptions& o) {
      return lr_schedulers::step(optimizer, {.step_size = o.every, .gamma = 0.5});
    });

struct TextSinkOptions {
  std::filesystem::path path = {};
};
TROUPE_OPTIONS(TextSinkOptions, (path, "file"))

class TextSink : public Sink {
 public:
  explicit TextSink(const TextSinkOptions& options) : file_(options.path) {}
  std::string name() const override { return "text"; }
  void write(const Record&) override { file_ << "a record\n"; }
  void flush() override { file_.flush(); }

 private:
  std::ofstream file_;
};

[[maybe_unused]] const bool text_sink = register_logger<TextSinkOptions>(
    "text_sink", [](const TextSinkOptions& o) { return std::make_shared<TextSink>(o); });

[[maybe_unused]] const bool no_callback =
    register_callback<NoPartOptions>("no_callback", [](const NoPartOptions&) { return std::make_shared<Callback>(); });

// --- The command line ---

class PartsTest : public testing::Test {
 protected:
  using Words = std::vector<std::string>;

  /// What was chosen, as a file.
  std::string chosen(const Words& words) {
    TrainerOptions trainer;
    return with(trainer, words, [](ChosenParts& parts) { return to_toml(parts.groups()); });
  }
  /// The Trainer's options afterwards.
  TrainerOptions put(const Words& words) {
    TrainerOptions trainer;
    with(trainer, words, [](ChosenParts& parts) {
      parts.put_into_options();
      return std::string();
    });
    return trainer;
  }
  std::string refused(const Words& words) {
    return error_of([&] { put(words); });
  }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(dir_.path() / name) << text;
    return (dir_.path() / name).string();
  }
  template <class Then>
  static std::string with(TrainerOptions& trainer, Words words, Then then) {
    ChosenParts parts(trainer);
    const CommandLine command_line("digits", trainer_groups(trainer), &parts);
    words.insert(words.begin(), "fit");
    command_line.parse(words);
    return then(parts);
  }
  static std::string help(const std::string& topic) {
    TrainerOptions trainer;
    ChosenParts parts(trainer);
    return CommandLine("digits", trainer_groups(trainer), &parts).help(topic);
  }

  TempDir dir_;
};

TEST_F(PartsTest, AnOptimizerByNameHasOptionsOfItsOwn) {
  const auto toml = chosen({"--optimizer", "muon", "--optimizer.lr", "0.02", "--optimizer.adamw_betas=0.8,0.9"});
  EXPECT_THAT(toml, StartsWith("[optimizer]\nname = \"muon\"\nlr = 0.02\n"));
  EXPECT_THAT(toml, HasSubstr("\nns_coefficients = [3.4445, -4.775, 2.0315]\n"));
  EXPECT_THAT(toml, HasSubstr("\nadamw_betas = [0.8, 0.9]\n"));
  EXPECT_EQ(chosen({"--optimizer.adamw_betas=0.8,0.9", "--set", "optimizer.lr=0.02", "--set=optimizer=Muon"}), toml);
}

TEST_F(PartsTest, AChoiceOfAnOptimizerIsCheckedBeforeTheRun) {
  EXPECT_THAT(chosen({"--optimizer", "muon", "--optimizer.adjust_lr_fn", "none"}),
              HasSubstr("\nadjust_lr_fn = \"original\"\n"));
  EXPECT_THAT(error_of([&] {
                chosen({"--optimizer", "muon", "--optimizer.adjust_lr_fn", "match_rms"});
              }),
              HasSubstr("optimizer.adjust_lr_fn = match_rms is not valid; did you mean match_rms_adamw?"));
  EXPECT_THAT(chosen({"--optimizer", "lbfgs"}), HasSubstr("\nline_search_fn = \"none\"\n"));
  EXPECT_THAT(error_of([&] {
                chosen({"--optimizer", "lbfgs", "--optimizer.line_search_fn", "wolfe"});
              }),
              HasSubstr("did you mean strong_wolfe?"));
}

TEST_F(PartsTest, NamesMayBeThoseOfPyTorch) {
  for (const auto* name : {"CosineAnnealingLR", "cosine_annealing_lr", "cosine"}) {
    EXPECT_THAT(chosen({"--scheduler", name}),
                StartsWith("[scheduler]\nname = \"cosine_annealing\"\nT_max = \"none\"\n"));
  }
  EXPECT_THAT(chosen({"--callbacks", "EarlyStopping"}), StartsWith("[[callbacks]]\nname = \"early_stopping\"\n"));
}

TEST_F(PartsTest, OptionsBelongToTheCallbackThatIsNamedLast) {
  const auto toml = chosen({"--callbacks", "early_stopping", "--callbacks.monitor", "a", "--callbacks",
                            "model_checkpoint,lr_monitor", "--callbacks.log_momentum", "--callbacks",
                            "model_checkpoint", "--callbacks.monitor", "b", "--callbacks.train_time_interval", "90s"});
  EXPECT_THAT(toml, HasSubstr("name = \"early_stopping\"\nmonitor = \"a\"\n"));
  EXPECT_THAT(toml, HasSubstr("name = \"learning_rate_monitor\"\nlogging_interval = \"auto\"\nlog_momentum = true\n"));
  EXPECT_THAT(toml, HasSubstr("monitor = \"b\"\n"));
  EXPECT_THAT(toml, HasSubstr("train_time_interval = \"00:00:01:30\"\n"));
  EXPECT_THAT(put({"--callbacks", "timer", "--callbacks", "none", "--callbacks", "model_summary"}).callbacks,
              testing::SizeIs(1));
}

TEST_F(PartsTest, FilesHaveThemAsTables) {
  const auto path = file("a.toml",
                         "scheduler = \"cosine\"\ncallbacks = [\n  {patience = 5, name = \"early_stopping\"},\n"
                         "  {name = \"timer\", duration = \"1h\"},\n]\n[optimizer]\nlr = 0.02\nname = \"muon\"\n"
                         "[[logger]]\nname = \"csv\"\n[[logger]]\nuri = \"http://localhost:5\"\nname = \"mlflow\"\n");
  const auto toml = chosen({"--config", path});
  EXPECT_THAT(toml, HasSubstr("name = \"muon\"\nlr = 0.02\n"));
  EXPECT_THAT(toml, HasSubstr("name = \"cosine_annealing\"\n"));
  EXPECT_THAT(toml, HasSubstr("\npatience = 5\n"));
  EXPECT_THAT(toml, HasSubstr("name = \"timer\"\nduration = \"00:01:00:00\"\n"));
  const auto options = put({"--config", path});
  EXPECT_THAT(options.loggers, ElementsAre("csv", "mlflow"));
  EXPECT_EQ(options.mlflow.uri, "http://localhost:5");
  // What is written reads back as what it was.
  EXPECT_EQ(chosen({"--config", file("b.toml", toml)}), toml);
}

TEST_F(PartsTest, AListOfNamesIsEnough) {
  const auto path = file("a.toml", "callbacks = [\"timer\", \"model_summary\"]\nlogger = [\"jsonl\"]\n");
  EXPECT_THAT(put({"--config", path}).callbacks, testing::SizeIs(2));
  EXPECT_THAT(put({"--config", path}).loggers, ElementsAre("jsonl"));
}

TEST_F(PartsTest, ALaterPlaceThatNamesAnotherDropsTheOptionsBefore) {
  const auto path = file("a.toml", "[optimizer]\nname = \"muon\"\nlr = 0.5\nns_steps = 7\n");
  EXPECT_THAT(chosen({"--config", path, "--optimizer", "sgd"}),
              StartsWith("[optimizer]\nname = \"sgd\"\nlr = 0.001\n"));
  EXPECT_THAT(chosen({"--config", path, "--optimizer", "muon"}),
              StartsWith("[optimizer]\nname = \"muon\"\nlr = 0.5\n"));
  EXPECT_THAT(chosen({"--config", path, "--optimizer.lr", "0.25"}),
              AllOf(StartsWith("[optimizer]\nname = \"muon\"\nlr = 0.25\n"), HasSubstr("ns_steps = 7\n")));
  EXPECT_THAT(chosen({"--config", path, "--optimizer", "none"}), IsEmpty());
  const auto rate = file("b.toml", "[optimizer]\nlr = 0.5\n");
  EXPECT_THAT(chosen({"--config", rate, "--optimizer", "sgd"}), HasSubstr("name = \"sgd\"\nlr = 0.5\n"));
}

TEST_F(PartsTest, TheEnvironmentNamesThemToo) {
  class Variable {
   public:
    Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
    ~Variable() { ::unsetenv(name_); }

   private:
    const char* name_;
  };
  {
    const Variable scheduler("TROUPE__SCHEDULER", "cosine"), most("TROUPE__SCHEDULER__T_MAX", "7");
    EXPECT_THAT(chosen({}), HasSubstr("T_max = 7\n"));
    EXPECT_THAT(chosen({"--scheduler.T_max", "8"}), HasSubstr("T_max = 8\n"));
  }
  {
    const Variable wrong("TROUPE__OPTIMISER", "sgd");
    EXPECT_THAT(refused({}), HasSubstr("TROUPE__OPTIMISER is no option; did you mean TROUPE__OPTIMIZER?"));
  }
  const Variable optimizer("TROUPE__OPTIMIZER", "sgd"), rate("TROUPE__OPTIMIZER__LR", "fast");
  EXPECT_EQ(refused({}), "the environment's TROUPE__OPTIMIZER__LR: optimizer.lr = fast is not a finite number");
}

TEST_F(PartsTest, LoggersTakeThePlaceOfTheTrainers) {
  EXPECT_THAT(put({"--logger", "mlflow", "--mlflow.uri", "http://a:5"}).loggers, ElementsAre("mlflow"));
  EXPECT_EQ(put({"--logger", "mlflow", "--mlflow.uri", "http://a:5"}).mlflow.uri, "http://a:5");
  EXPECT_THAT(put({"--logger", "csv", "--logger", "trackio", "--logger.project", "p"}).trackio.project, "p");
  EXPECT_THAT(put({"--logger", "none"}).loggers, IsEmpty());
  const auto path = file("a.toml", "[trainer]\nloggers = [\"csv\"]\n[[logger]]\nname = \"jsonl\"\n");
  EXPECT_THAT(put({"--config", path}).loggers, ElementsAre("jsonl"));
  EXPECT_THAT(put({"--config", path, "--trainer.loggers", "tensorboard"}).loggers, ElementsAre("tensorboard"));
  const auto mine = put({"--logger", "text_sink", "--logger.path", (dir_.path() / "x").string()});
  EXPECT_THAT(mine.loggers, IsEmpty());
  EXPECT_THAT(mine.sinks, testing::SizeIs(1));
}

// --- What is refused ---

TEST_F(PartsTest, UnknownNamesAndOptionsGetTheNearestAndTheList) {
  EXPECT_THAT(refused({"--optimizer", "adma"}),
              AllOf(StartsWith("unknown optimizer 'adma'; did you mean adam? (adadelta, adafactor, adagrad, adam,")));
  EXPECT_THAT(refused({"--scheduler", "cosin"}), StartsWith("unknown scheduler 'cosin'; did you mean cosine? ("));
  EXPECT_THAT(refused({"--callbacks", "early_stoping"}),
              HasSubstr("did you mean early_stopping? (backbone_finetuning,"));
  EXPECT_THAT(refused({"--logger", "tensorbord"}), HasSubstr("did you mean tensorboard? (csv, jsonl, mlflow,"));
  EXPECT_EQ(
      refused({"--optimizer", "rprop", "--optimizer.eta", "1"}),
      "optimizer rprop has no option optimizer.eta; did you mean optimizer.etas? (lr, etas, step_sizes, maximize)");
  EXPECT_EQ(refused({"--callbacks", "device_stats_monitor", "--callbacks.x", "1"}),
            "callback device_stats_monitor has no option callbacks.x, nor any other");
  EXPECT_THAT(refused({"--optimzer", "adam"}), HasSubstr("did you mean --optimizer?"));
  EXPECT_THAT(refused({"--optimizer"}), HasSubstr("option --optimizer needs a value"));
  EXPECT_THAT(refused({"--optimizer", "sgd", "--optimizer.lr"}), HasSubstr("option --optimizer.lr needs a value"));
  EXPECT_EQ(refused({"--optimizer", "sgd,adam"}), "optimizer = sgd, adam names several; name one, or none");
}

TEST_F(PartsTest, AnOptionOfAPartThatIsNotNamed) {
  EXPECT_THAT(refused({"--optimizer.lr", "1"}),
              AllOf(StartsWith("optimizer.lr is given, and no optimizer is named; name one of adadelta,"),
                    EndsWith("as in --optimizer adadelta")));
  EXPECT_THAT(refused({"--callbacks.patience", "1", "--callbacks", "early_stopping"}),
              StartsWith("callbacks.patience is given, and no callback is named before it; name one of"));
}

TEST_F(PartsTest, ValuesOfOtherTypes) {
  EXPECT_EQ(refused({"--optimizer", "sgd", "--optimizer.lr", "fast"}), "optimizer.lr = fast is not a finite number");
  EXPECT_EQ(refused({"--optimizer", "adam", "--optimizer.betas", "0.9"}),
            "optimizer.betas = 0.9 is not a list of 2 finite numbers");
  EXPECT_EQ(refused({"--callbacks", "timer", "--callbacks.duration", "long"}),
            "callbacks.duration = long is not a time such as 00:00:30 or 30s (ms, s, m, h or d), or none");
  const auto path = file("a.toml", "[optimizer]\nname = \"adam\"\nbetas = [0.9, 0.99, 0.999]\n");
  EXPECT_EQ(refused({"--config", path}),
            path + ":3: optimizer.betas = [0.9,0.99,0.999] is not a list of 2 finite numbers");
  EXPECT_EQ(refused({"--config", file("b.toml", "optimizer = 1\n")}),
            (dir_.path() / "b.toml").string() + ":1: optimizer = 1 is not a name in quotes");
  EXPECT_THAT(refused({"--config", file("c.toml", "[[callbacks]]\npatience = 1\n")}),
              HasSubstr("c.toml:1:1: an entry of callbacks has no name"));
  EXPECT_THAT(refused({"--config", file("e.toml", "[[optimizer]]\nname = \"sgd\"\n")}),
              HasSubstr("optimizer is an array of tables, and no option takes that"));
  EXPECT_THAT(refused({"--config", file("d.toml", "[[trainer]]\nname = \"x\"\n")}),
              HasSubstr("trainer is an array of tables, and no option takes that"));
  EXPECT_EQ(refused({"--callbacks", "early_stopping", "--callbacks.mode", "maxi"}),
            "callbacks.mode = maxi is not valid; did you mean max? (min, max)");
  EXPECT_EQ(refused({"--callbacks", "lr_monitor", "--callbacks.logging_interval", "epochs"}),
            "callbacks.logging_interval = epochs is not valid; did you mean epoch? (auto, step, epoch)");
  EXPECT_EQ(refused({"--callbacks", "timer", "--callbacks.interval", "steps"}),
            "callbacks.interval = steps is not valid; did you mean step? (step, epoch)");
  EXPECT_EQ(refused({"--callbacks", "prediction_writer", "--callbacks.write_interval", "batches"}),
            "callbacks.write_interval = batches is not valid; did you mean batch? (batch, epoch, batch_and_epoch)");
  EXPECT_EQ(refused({"--scheduler", "cyclic", "--scheduler.mode", "triangle"}),
            "scheduler.mode = triangle is not valid; did you mean triangular? (triangular, triangular2, exp_range)");
  EXPECT_EQ(refused({"--scheduler", "one_cycle", "--scheduler.anneal_strategy", "cosine"}),
            "scheduler.anneal_strategy = cosine is not valid; did you mean cos? (cos, linear)");
  EXPECT_EQ(refused({"--scheduler", "reduce_on_plateau", "--scheduler.threshold_mode", "rela"}),
            "scheduler.threshold_mode = rela is not valid; did you mean rel? (rel, abs)");
  EXPECT_THAT(refused({"--callbacks", "gradient_accumulation_scheduler", "--callbacks.scheduling", "0-8"}),
              StartsWith("scheduling has '0-8'; use an epoch and batches"));
}

TEST(RegistryTest, TwoPartsOfOneNameAreBothNamed) {
  Registry<int()> registry("optimizer");
  registry.add<NoPartOptions>({"lion"}, [](const NoPartOptions&) { return 1; });
  registry.add<NoPartOptions>({"my_lion", "", {"LION"}, "mine.cpp:7"}, [](const NoPartOptions&) { return 2; });
  EXPECT_EQ(
      error_of([&] { registry.names(); }),
      "the optimizer that mine.cpp:7 registers is called 'LION'; use small letters, digits and '_', and not none");
  Registry<int()> other("optimizer");
  other.add<NoPartOptions>({"lion"}, [](const NoPartOptions&) { return 1; });
  other.add<NoPartOptions>({"li_on", "", {}, "mine.cpp:7"}, [](const NoPartOptions&) { return 2; });
  EXPECT_EQ(
      error_of([&] { other.info("adam"); }),
      "two optimizers are called 'li_on': 'lion' of Troupe and 'li_on' of mine.cpp:7; give one of them another name");
  EXPECT_THAT(optimizer_registry().info("half_sgd").origin, StartsWith("parts_test.cpp:"));
}

// --- Help and completion ---

TEST_F(PartsTest, HelpIsAboutOnePart) {
  const auto muon = help("optimizer.muon");
  EXPECT_THAT(muon, StartsWith("--optimizer muon, Muon for matrices, AdamW for the rest:\n"));
  EXPECT_THAT(muon, HasSubstr("--optimizer.lr FLOAT"));
  EXPECT_THAT(muon, HasSubstr("--optimizer.ns_coefficients FLOAT,FLOAT,FLOAT"));
  EXPECT_THAT(help("scheduler"), HasSubstr("half a cosine (also cosine, cosine_annealing_lr)"));
  EXPECT_THAT(help("trainer"), AllOf(HasSubstr("--trainer.max_epochs"), testing::Not(HasSubstr("--mlflow.uri"))));
  EXPECT_THAT(help(""), AllOf(HasSubstr("--optimizer NAME"), HasSubstr("early_stopping,")));
  EXPECT_THAT(error_of([] { help("optimizer.adma"); }), HasSubstr("did you mean adam?"));
  EXPECT_EQ(error_of([] { help("trianer"); }),
            "there is no help about 'trianer'; did you mean trainer? (trainer, mlflow, trackio, optimizer, scheduler,"
            " callbacks, logger; and parts, as optimizer.adamw)");
}

TEST_F(PartsTest, CompletionKnowsThem) {
  TrainerOptions trainer;
  const auto program = completed_program("digits", trainer_groups(trainer));
  const auto option = [&](const std::string& name) {
    return *std::ranges::find(program.options, name, &CompletedOption::name);
  };
  EXPECT_THAT(option("optimizer").words, Contains("muon"));
  EXPECT_THAT(option("callbacks").words, Contains("early_stopping"));
  EXPECT_EQ(option("callbacks").value, Completion::list);
  EXPECT_EQ(option("optimizer.lr").meaning, "learning rate");
  EXPECT_THAT(option("scheduler.interval").words, ElementsAre("epoch", "step"));
}

// --- None is forgotten ---

std::vector<std::string> headers_in(const std::string& folder) {
  std::vector<std::string> texts;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(TROUPE_SOURCE_DIR) + "/" + folder)) {
    if (entry.path().extension() == ".hpp") texts.push_back(content_of(entry.path().string()));
  }
  return texts;
}

bool is_of_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

std::string word_before(const std::string& text, std::size_t end) {
  std::size_t begin = end;
  while (begin > 0 && is_of_word(text[begin - 1])) --begin;
  return text.substr(begin, end - begin);
}

/// Functions that make a part of `first`, "(Parameters parameters,", and a struct of options: name and struct.
std::map<std::string, std::string> functions_in(const std::string& folder, const std::string& first) {
  std::map<std::string, std::string> found;
  for (const auto& text : headers_in(folder)) {
    for (auto at = text.find(first); at != std::string::npos; at = text.find(first, at + 1)) {
      const auto line = text.rfind('\n', at) + 1;
      const auto name = text.find_first_not_of(" \n", at + first.size());
      const auto options = word_before(text, text.find_first_of(" &", name));
      if (text.substr(line).starts_with("std::shared_ptr<") && options.ends_with("Options")) {
        found[word_before(text, at)] = options;
      }
    }
  }
  return found;
}

/// The members of a struct; none if there is no such struct.
std::set<std::string> members_of(const std::string& folder, const std::string& name) {
  std::set<std::string> members;
  for (const auto& text : headers_in(folder)) {
    const auto begin = text.find("\nstruct " + name + " {\n");
    if (begin == std::string::npos) continue;
    std::istringstream lines(text.substr(begin + 1, text.find("\n};", begin) - begin));
    for (std::string line; std::getline(lines, line);) {
      line = line.substr(0, line.find("//"));
      const auto end = std::min(line.find(" ="), line.find(';'));
      if (end != std::string::npos) members.insert(word_before(line, end));
    }
  }
  return members;
}

std::set<std::string> option_names(const PartRegistry& registry, const std::string& name) {
  std::set<std::string> names;
  const auto part = registry.new_part(name);
  for (const auto& option : part->options()) names.emplace(option.name);
  return names;
}

TEST(RegistryTest, EveryOptimizerOfTheLibraryHasItsNameAndItsOptions) {
  const auto functions = functions_in("modules/optim", "(Parameters parameters,");
  EXPECT_GT(functions.size(), 14u);
  for (const auto& [name, options] : functions) {
    ASSERT_EQ(optimizer_registry().info(name).name, name);
    EXPECT_EQ(option_names(optimizer_registry(), name), members_of("modules/optim", options)) << name;
  }
}

TEST(RegistryTest, EverySchedulerOfPlainValuesHasItsNameAndItsOptions) {
  const auto functions = functions_in("modules/lr_schedulers", "(Optimizer optimizer,");
  EXPECT_GT(functions.size(), 12u);
  for (const auto& [name, options] : functions) {
    if (options == "LambdaOptions") continue;  // of functions
    ASSERT_EQ(scheduler_registry().info(name).name, name);
    auto expected = members_of("modules/lr_schedulers", options);
    expected.insert({"interval", "frequency", "monitor", "strict"});
    if (name == "cyclic") {
      expected.erase("scale_fn");  // a function, and what it is given
      expected.erase("scale_mode");
    }
    EXPECT_EQ(option_names(scheduler_registry(), name), expected) << name;
  }
}

TEST(RegistryTest, EveryCallbackOfPlainValuesHasItsNameAndItsOptions) {
  int classes = 0;
  for (const auto* folder : {"modules/callbacks", "runtime/callbacks"}) {
    for (const auto& text : headers_in(folder)) {
      const auto end = std::min(text.find(" : public Callback {"), text.find(" : public Monitor {"));
      if (end == std::string::npos) continue;
      const auto name = word_before(text, end);
      if (name == "LambdaCallback") continue;  // of functions
      ASSERT_NO_THROW(callback_registry().info(name)) << name;
      ++classes;
      auto expected = members_of(folder, name + "Options");
      if (expected.empty()) continue;  // it takes values, or nothing
      expected.erase("lambda_func");   // a function
      EXPECT_EQ(option_names(callback_registry(), name), expected) << name;
    }
  }
  EXPECT_GT(classes, 10);
}

TEST(RegistryTest, EveryLoggerHasItsName) {
  for (const auto& name : sink_names()) EXPECT_EQ(logger_registry().info(name).name, name);
}

// Every option has its default of the struct, and comes back from its text.
TEST(RegistryTest, OptionsOfAllPartsComeBackFromTheirText) {
  for (const auto& kind : part_kinds()) {
    for (const auto& name : kind.registry().names()) {
      const auto part = kind.registry().new_part(name);
      for (const auto& option : part->options()) {
        EXPECT_FALSE(option.meaning.empty()) << name;
        const auto text = option_to_text(option);
        set_from_text(option, text);
        EXPECT_EQ(option_to_text(option), text) << name << '.' << option.name;
      }
    }
  }
}

// --- Whole runs of an ordinary main ---

/// Weights when training ends, and the rate of the optimizer in each epoch.
struct SeenOfParts {
  double weight = 0, bias = 0;
  std::vector<double> rates;
  std::vector<std::string> classes;
};

class PartsRunTest : public testing::Test {
 protected:
  static inline SeenOfParts seen;

  template <int made>  // optimizers that configure_optimizers returns: -1 is Adam with lr 0.05
  class Model : public Line {
   public:
    Model() { automatic_optimization = made != 3; }
    StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
      return Line::training_step(batch, batch_idx);
    }
    StepOutput training_step(const Batch& batch, int64_t batch_idx, int64_t) override {
      return Line::training_step(batch, batch_idx);
    }
    DataLoaders train_dataloader() override { return points(); }
    DataLoaders val_dataloader() override { return points(16, false); }
    Optimizers configure_optimizers() override {
      if (made == -1) return optim::adam(parameters(), {.lr = 0.05});
      if (made == 0) return {};
      const auto sgd = optim::sgd(parameters(), {.lr = 1e-5});
      if (made == 2) return {optim::sgd({layer_->weight}), optim::sgd({layer_->bias})};
      if (made == 4) return {sgd, lr_schedulers::exponential(sgd, {.gamma = 0.5})};
      return sgd;
    }
    void on_train_epoch_start() override {
      for (const auto& optimizer : trainer().optimizers()) {
        seen.rates.push_back(optimizer->param_groups().front().options().get_lr());
        seen.classes.push_back(optim::optimizer_name(*optimizer));
      }
    }
    void on_train_end() override {
      seen.weight = weight();
      seen.bias = bias();
    }
  };

  /// What the program says on stderr, and its exit status.
  template <int made>
  std::pair<int, std::string> fit(std::vector<std::string> words) const {
    seen = {};
    words.insert(words.begin(), {"digits", "fit"});
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    const int status = troupe::main<Model<made>>(static_cast<int>(argv.size()), argv.data(), {.trainer = quiet(dir_)});
    out_ = testing::internal::GetCapturedStdout();
    return {status, testing::internal::GetCapturedStderr()};
  }
  std::filesystem::path run_dir(int version) const {
    return dir_.path() / "model" / ("version_" + std::to_string(version));
  }

  TempDir dir_;
  mutable std::string out_;
};

TEST_F(PartsRunTest, AnOptimizerByNameTrainsToTheBitsOfAModuleThatMakesIt) {
  ASSERT_EQ(fit<-1>({}).first, 0);
  const auto expected = seen;
  ASSERT_EQ(fit<1>({"--optimizer", "adam", "--optimizer.lr", "0.05"}).first, 0);
  EXPECT_EQ(seen.weight, expected.weight);
  EXPECT_EQ(seen.bias, expected.bias);
  EXPECT_THAT(seen.classes, ElementsAre("Adam", "Adam"));
  ASSERT_EQ(fit<0>({"--optimizer=adam", "--optimizer.lr=0.05"}).first, 0);
  EXPECT_EQ(seen.weight, expected.weight);
}

TEST_F(PartsRunTest, TheRunsFileHasThemAndBringsThemBack) {
  const auto [status, said] = fit<1>({"--optimizer", "half_sgd", "--optimizer.lr", "0.1", "--scheduler", "halving",
                                      "--callbacks", "timer", "--callbacks", "lr_monitor", "--trainer.name", "model"});
  ASSERT_EQ(status, 0) << said;
  EXPECT_THAT(said,
              HasSubstr("optimizer = half_sgd takes the place of the optimizer that configure_optimizers returned"));
  EXPECT_THAT(seen.rates, ElementsAre(0.05, 0.025));
  const auto first = seen;
  const auto config = run_dir(0) / "config.toml";
  EXPECT_THAT(content_of(config.string()), AllOf(HasSubstr("[optimizer]\nname = \"half_sgd\"\nlr = 0.1\n"),
                                                 HasSubstr("[[callbacks]]\nname = \"timer\"")));
  ASSERT_EQ(fit<1>({"--config", config.string()}).first, 0);
  EXPECT_EQ(seen.weight, first.weight);
  EXPECT_EQ(seen.rates, first.rates);
  const auto of = [&](int version) {
    return nlohmann::json::parse(content_of((run_dir(version) / "run.json").string()))["options"];
  };
  EXPECT_EQ(of(0)["optimizer"]["name"], "half_sgd");
  EXPECT_EQ(of(0)["callbacks.learning_rate_monitor"]["log_momentum"], false);
  EXPECT_EQ(of(0)["optimizer"], of(1)["optimizer"]);
}

TEST_F(PartsRunTest, TheCosineOfTheWholeRunNeedsNoLength) {
  ASSERT_EQ(fit<1>({"--scheduler", "cosine", "--optimizer=sgd", "--optimizer.lr=1"}).first, 0);
  EXPECT_THAT(seen.rates, ElementsAre(1, testing::DoubleNear(0.5, 1e-12)));
  ASSERT_EQ(
      fit<1>({"--scheduler", "cosine", "--scheduler.interval", "step", "--optimizer=sgd", "--optimizer.lr=1"}).first,
      0);
  EXPECT_THAT(seen.rates, ElementsAre(1, testing::DoubleNear(0.5, 1e-12)));
  EXPECT_THAT(
      fit<1>({"--scheduler", "cosine", "--trainer.max_epochs", "-1", "--trainer.max_steps", "3"}).second,
      HasSubstr("scheduler = cosine_annealing lasts as long as the run, which has no end that is known in epochs:"
                " give scheduler.T_max"));
}

TEST_F(PartsRunTest, EarlyStoppingByNameEndsTheRun) {
  ASSERT_EQ(fit<1>({"--callbacks", "early_stopping", "--callbacks.patience", "1", "--callbacks.min_delta", "1000",
                    "--trainer.max_epochs", "50"})
                .first,
            0);
  EXPECT_EQ(seen.rates.size(), 2u);
}

TEST_F(PartsRunTest, ALoggerOfTheProgramsOwnGetsRecords) {
  const auto path = (dir_.path() / "records").string();
  ASSERT_EQ(fit<1>({"--logger", "text_sink", "--logger.path", path, "--trainer.name", "model"}).first, 0);
  EXPECT_THAT(content_of(path), StartsWith("a record\n"));
  EXPECT_FALSE(std::filesystem::exists(run_dir(0) / "metrics.csv"));
  EXPECT_THAT(content_of((run_dir(0) / "config.toml").string()), HasSubstr("[[logger]]\nname = \"text_sink\"\n"));
}

TEST_F(PartsRunTest, EveryOptimizerTrainsByName) {
  for (const auto& name : optimizer_registry().names()) {
    const auto [status, said] = fit<1>({"--optimizer", name, "--trainer.fast_dev_run", "2"});
    EXPECT_EQ(status, 0) << name << ": " << said;
  }
}

TEST_F(PartsRunTest, EverySchedulerMovesByName) {
  for (const auto& name : scheduler_registry().names()) {
    std::vector<std::string> words = {"--optimizer", "sgd", "--optimizer.momentum=0.9", "--scheduler", name};
    if (name == "cyclic") words.insert(words.end(), {"--scheduler.base_lr=0.01", "--scheduler.max_lr=0.1"});
    const auto [status, said] = fit<1>(words);
    EXPECT_EQ(status, 0) << name << ": " << said;
  }
}

TEST_F(PartsRunTest, WhatCannotTakeANamedOptimizerSaysSo) {
  EXPECT_THAT(
      fit<2>({"--optimizer", "adam"}).second,
      HasSubstr("optimizer = adam is for a module with one optimizer, and configure_optimizers returned 2: leave"
                " it out"));
  EXPECT_THAT(
      fit<3>({"--optimizer", "adam"}).second,
      HasSubstr("optimizer = adam takes the place of configure_optimizers, whose optimizers the module steps itself"
                " (automatic_optimization = false): leave it out"));
  EXPECT_THAT(fit<4>({"--scheduler", "step"}).second,
              HasSubstr("scheduler = step would come beside the scheduler that configure_optimizers returned: name the"
                        " optimizer too"));
  EXPECT_THAT(fit<0>({"--scheduler", "step"}).second, HasSubstr("scheduler = step has no optimizer"));
  EXPECT_THAT(fit<4>({"--optimizer", "sgd"}).second,
              HasSubstr("takes the place of the optimizer and the scheduler that"));
  EXPECT_EQ(seen.rates, std::vector<double>({1e-3, 1e-3}));
  EXPECT_THAT(fit<1>({"--optimizer", "sgd", "--optimizer.lr", "-1"}).second, HasSubstr("lr = -1"));
}

TEST_F(PartsRunTest, PrintConfigAndHelpAreAboutThemToo) {
  ASSERT_EQ(fit<1>({"--optimizer", "sgd", "--print_config"}).first, 0);
  EXPECT_THAT(out_, HasSubstr("\n[optimizer]\nname = \"sgd\"\n"));
  ASSERT_EQ(fit<1>({"--help", "optimizer.sgd"}).first, 0);
  EXPECT_THAT(out_, StartsWith("--optimizer sgd, SGD with momentum"));
  EXPECT_EQ(fit<1>({"--help", "optimizer.sdg"}).first, 2);
}

}  // namespace
}  // namespace troupe
