#include "troupe/launch/main.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/chosen_parts.hpp"
#include "troupe/launch/completion.hpp"
#include "troupe/launch/config_file.hpp"
#include "troupe/launch/prediction_shapes.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/launch/rank_facts.hpp"
#include "troupe/launch/signals.hpp"
#include "troupe/launch/tune_command.hpp"
#include "troupe/launch/tuner.hpp"

#include <csignal>
#include <filesystem>
#include <iostream>
#include <string_view>

namespace troupe::main_detail {

namespace {

constexpr int failed = 1, misused = 2;

// What a shell says of a program that the signal ended. SIGUSR1 is how launch/run passes on what asked it to end.
int status_after(int signal) {
  return 128 + (signal == SIGUSR1 || signal == 0 ? SIGTERM : signal);
}

// Of all ranks together, so that one of them says it.
void print_metrics(const std::vector<MetricMap>& loaders) {
  if (!Processes::get().is_rank_zero()) return;
  for (const auto& metrics : loaders) {
    for (const auto& [name, value] : metrics) std::cout << name << ' ' << value << '\n';
  }
}

// The tensors may be more than memory holds, and more than anybody reads.
void print_predictions(const PredictionShapes& shapes, bool quiet) {
  const auto text = shapes.text();
  std::cout << text;
  if (text.empty() || quiet) return;
  std::cerr << "predictions are kept by the callback PredictionWriter, by write_prediction in predict_step, and by"
               " Trainer::predict in a program\n";
}

void carry_out(const Invocation& invocation, Trainer& trainer, const PredictionShapes& shapes,
               const ModuleSource& source, RunArguments arguments) {
  arguments.ckpt_path = invocation.ckpt_path;
  switch (invocation.stage) {
    case Stage::fit:
      outlive_readers();  // its results are files
      trainer.run_source(Stage::fit, source, arguments);
      break;
    case Stage::validate:
    case Stage::test: print_metrics(trainer.run_source(invocation.stage, source, arguments)); break;
    case Stage::predict:
      arguments.return_predictions = false;
      trainer.run_source(Stage::predict, source, arguments);
      print_predictions(shapes, trainer.options().quiet);
      break;
  }
}

// Of all ranks, so rank zero says it, and the others end after it: with the first that ends mpirun ends the rest.
void say_for_all(const std::string& text) {
  Processes::get().from_rank_zero([&text] {
    std::cerr << text + '\n' << std::flush;
    return "";
  });
}

// The program's own number of steps was not meant against a time that the user gives in its place.
void yield_to_user(const TrainerOptions& own, TrainerOptions& options) {
  const bool gives_time = own.log_every.empty() && !options.log_every.empty();
  const bool gives_steps = options.log_every_n_steps != own.log_every_n_steps;
  if (gives_time && !gives_steps) options.log_every_n_steps = TrainerOptions().log_every_n_steps;
}

// Of the run, so rank zero says it. With a progress bar the Trainer has said it.
void say_summary(const Trainer& trainer) {
  const bool has_bar = trainer.options().enable_progress_bar;
  if (!has_bar && !trainer.options().quiet && Processes::get().is_rank_zero()) std::cerr << trainer.summary();
}

// What the program brings with it, and what its user says of it.
struct Program {
  std::string name;
  MainOptions& options;
  std::vector<OptionGroup>& groups;
  const std::function<ModuleSource()>& source;
  const std::function<DataModulePtr()>& data;
};

int run_stage(const Program& program, const Invocation& invocation, const TuneSettings& finders, ChosenParts& parts) {
  auto& options = program.options;
  if (!invocation.tune) refuse_finders(finders.tune);
  parts.put_into_options();
  for (const auto& group : program.groups) (void)to_json_object(group.options, group.name);  // NaN and the like
  const auto shapes = std::make_shared<PredictionShapes>();
  if (invocation.stage == Stage::predict) options.trainer.callbacks.push_back(shapes);
  Trainer trainer(options.trainer);
  for (auto& group : program.groups) trainer.add_options(group);
  for (auto& group : parts.groups()) trainer.add_options(std::move(group));
  if (options.prepare) options.prepare(trainer);
  if (invocation.tune) {
    if (invocation.ckpt_path)
      throw UsageError("tune begins with new weights: leave ckpt_path = " + shown(*invocation.ckpt_path) + " out");
    tune(finders, trainer, program.groups, program.source, program.data);
    return 0;
  }
  try {
    carry_out(invocation, trainer, *shapes, program.source(), RunArguments{.datamodule = program.data()});
  } catch (...) {
    say_summary(trainer);
    throw;
  }
  std::cout.flush();
  say_summary(trainer);
  return trainer.was_interrupted() ? status_after(trainer.interrupting_signal()) : 0;
}

int answer(const Program& program, int argc, char** argv) {
  auto& options = program.options;
  std::vector<OptionGroup> all = trainer_groups(options.trainer);
  all.insert(all.end(), program.groups.begin(), program.groups.end());
  TuneSettings finders;
  const auto options_of_stages = all;
  for (auto& group : tune_groups(finders)) all.push_back(std::move(group));
  ChosenParts parts(options.trainer);
  const CommandLine command_line(program.name, std::move(all), &parts);
  if (argc > 1 && std::string_view(argv[1]) == completion_word) {
    const auto called = std::filesystem::path(argv[0]).filename().string();
    std::cout << completion_answer(completed_program(called, command_line.groups()), {argv + 2, argv + argc});
    return 0;
  }
  const TrainerOptions own = options.trainer;
  const Invocation invocation = command_line.parse(argc, argv);
  yield_to_user(own, options.trainer);
  if (invocation.help) {
    std::cout << command_line.help(invocation.help_topic);
    return 0;
  }
  if (invocation.print_config) {
    auto shown_groups = invocation.tune ? command_line.groups() : options_of_stages;
    for (auto& group : parts.groups()) shown_groups.push_back(std::move(group));
    std::cout << to_toml(shown_groups, invocation.ckpt_path);
    return 0;
  }
  return run_stage(program, invocation, finders, parts);
}

}  // namespace

int run(int argc, char** argv, MainOptions& options, std::vector<OptionGroup> groups,
        const std::function<ModuleSource()>& source, const std::function<DataModulePtr()>& data) {
  keep_announcements();
  const std::string name = !options.name.empty() ? options.name
                           : argc > 0            ? std::filesystem::path(argv[0]).filename().string()
                                                 : "program";
  try {
    return answer({name, options, groups, source, data}, argc, argv);
  } catch (const RanksDisagree& error) {
    say_for_all(name + ": " + error.what());
    return misused;
  } catch (const TunerInterrupted& interrupted) {
    std::cerr << name + ": " + interrupted.what() + '\n';
    return status_after(interrupted.signal());
  } catch (const UsageError& error) {
    std::cerr << name + ": " + error.what() + '\n';
    return misused;
  } catch (...) {  // a data module's constructor, `prepare` and the like may throw anything
    std::cerr << name + ": " + current_exception_text() + '\n';
    return failed;
  }
}

}  // namespace troupe::main_detail
