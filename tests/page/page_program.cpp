// Writes the pages that tests/page opens in a browser: page_program FOLDER.
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/report/report_page.hpp"

#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <limits>
#include <random>

namespace {

using namespace troupe;

// Like the curves of a classifier that begins to overfit.
MetricCurves learning_curves(double speed, int64_t steps, int64_t steps_per_epoch, double started, unsigned seed) {
  MetricCurves curves;
  std::mt19937 random(seed);
  std::normal_distribution<double> noise;
  for (int64_t step = 0; step < steps; ++step) {
    const double t = speed * static_cast<double>(step) / 1500.0;
    const auto epoch = step / steps_per_epoch;
    const double time = started + 3 + 0.021 * static_cast<double>(step);
    const double loss = 2.3 * std::exp(-t) + 0.08;
    const double rate = 1e-3 * std::min(1.0, static_cast<double>(step) / 300.0) *
                        (0.5 + 0.5 * std::cos(3.14159 * static_cast<double>(step) / static_cast<double>(steps)));
    ScalarsRecord record{step, epoch, {{"train_loss", loss * std::exp(0.18 * noise(random))}, {"lr-AdamW", rate}}};
    if (step % 10 == 0) {
      record.values.emplace_back("train_acc", std::min(0.999, 1 - 0.9 * std::exp(-1.4 * t) + 0.02 * noise(random)));
      record.values.emplace_back("grad_norm", 2 * std::exp(-0.5 * t) + 0.3 * std::abs(noise(random)));
      record.values.emplace_back("train/batches_per_sec", 47 + 2 * noise(random));
      record.values.emplace_back("train/samples_per_sec", 32 * (47 + 2 * noise(random)));
    }
    curves.add(record, time);
    if (step % steps_per_epoch == steps_per_epoch - 1) {
      const double overfit = 0.02 * t * t;
      curves.add({step,
                  epoch,
                  {{"val_loss", loss + 0.05 + overfit + 0.01 * noise(random)},
                   {"val_acc", 1 - 0.9 * std::exp(-1.3 * t) - 0.02 * t},
                   {"train_loss_epoch", loss + 0.02}}},
                 time + 1);
    }
  }
  return curves;
}

PhaseReport fit_phases() {
  PhaseReport report;
  report.stage = "fit";
  report.seconds = 131.2;
  report.batches = 6000;
  report.phases = {{"waiting for data", 71.4, 6000, 0.41},
                   {"backward", 22.1, 6000, 0.02},
                   {"forward", 16.3, 6000, 0.018},
                   {"optimizer", 7.9, 6000, 0.004},
                   {"validation", 6.2, 12, 0.61},
                   {"EarlyStopping.on_validation_end", 2.0, 12, 0.2},
                   {"transfer", 1.6, 6000, 0.001},
                   {"logging", 1.1, 6000, 0.01},
                   {"start-up", 0.9, 1, 0.9},
                   {"rest", 1.7, 1, 1.7}};
  report.meanwhile = {{"checkpoint", 4.2, 12, 0.5}, {"logger", 1.9, 1200, 0.02}};
  report.ranks = {{"waiting for data", 68.0, 71.4, 0}, {"backward", 21.0, 33.4, 1}};
  report.advice = "54 % waiting for data: raise data.num_workers from 0";
  return report;
}

RunCard some_card(const std::string& version, RunStatus status, double started) {
  RunCard card;
  card.id = "5f0c9a3be1d24b7c8a6e0f1234567890";
  card.name = "digits";
  card.version = version;
  card.status = status;
  card.stage = "fit";
  card.started = started;
  card.updated = unix_seconds();
  if (status != RunStatus::running) card.ended = started + 133;
  card.command = {"build/digits",   "fit", "--trainer.max_epochs", "12",
                  "--model.hidden", "256", "--data.path",          "my data"};
  card.options = {{"trainer",
                   {{"max_epochs", 12},
                    {"precision", "bf16-mixed"},
                    {"devices", 2},
                    {"seed", 7},
                    {"deterministic", false},
                    {"loggers", {"csv", "tensorboard"}},
                    {"mlflow", {{"uri", ""}, {"timeout", 10}}}}},
                  {"model", {{"hidden", 256}, {"dropout", 0.1}, {"lr", 0.001}}}};
  card.defaults = {{"trainer",
                    {{"max_epochs", nullptr},
                     {"precision", "32-true"},
                     {"devices", 1},
                     {"seed", nullptr},
                     {"deterministic", false},
                     {"loggers", {"csv", "tensorboard"}},
                     {"mlflow", {{"uri", ""}, {"timeout", 10}}}}},
                   {"model", {{"hidden", 128}, {"dropout", 0.1}, {"lr", 0.001}}}};
  card.environment = {.host = "gpu-17",
                      .system = "Debian GNU/Linux 12, Linux 6.1.0",
                      .processor = "AMD EPYC 9354, 32 cores",
                      .devices = {"cuda:0 NVIDIA H200 (141 GB)", "cuda:1 NVIDIA H200 (141 GB)"},
                      .world_size = 2,
                      .pid = 4711,
                      .troupe = "0.2.0",
                      .libtorch = "2.11.0",
                      .compiler = "GCC 12.2",
                      .cuda = "13.0",
                      .git_commit = "b416d2d9c0a1f0e7",
                      .git_is_dirty = true};
  card.progress = {.epoch = 12, .batch_idx = 0, .global_step = 6000, .total_batches = 6000, .log_step = 6000};
  card.total_batches = 6000;
  card.metrics = {{"train_loss", 0.0812}, {"train_acc", 0.991}, {"val_loss", 0.197}, {"val_acc", 0.962}};
  card.model.layers = {{"body", "Sequential", "[32, 784]", "[32, 256]", 200960},
                       {"body.0", "Linear", "[32, 784]", "[32, 256]", 200960},
                       {"body.1", "ReLU", "[32, 256]", "[32, 256]", 0},
                       {"head", "Linear", "[32, 256]", "[32, 10]", 2570}};
  card.model.parameters = 203530;
  card.model.trainable_parameters = 203530;
  const std::filesystem::path folder = "runs/digits/" + version + "/checkpoints";
  card.checkpoints = {folder / "epoch=7-step=4000.safetensors", folder / "last.safetensors"};
  card.best_checkpoint = folder / "epoch=7-step=4000.safetensors";
  card.phases = {fit_phases()};
  card.warnings = {"The loader has no workers: each batch is made on the training thread."};
  return card;
}

// What would be markup, a script, or another direction of writing, if it were taken for more than text.
RunCard hostile_card(const std::string& name) {
  auto card = some_card("version_0", RunStatus::failed, unix_seconds() - 500);
  card.name = card.version = card.stage = card.message = name;
  card.command = {name, "' ; $(reboot)"};
  card.options = {{name, {{name, name}, {"__proto__", name}}}};
  card.defaults = {{name, {{name, 1}}}};
  card.environment.host = card.environment.system = card.environment.git_commit = name;
  card.environment.devices = {name};
  card.metrics = {{name, 1}, {"__proto__", 2}};
  card.model.layers = {{name, name, name, name, 1}};
  card.checkpoints = {name};
  card.best_checkpoint = name;
  card.warnings = {name};
  card.phases[0].stage = card.phases[0].advice = card.phases[0].phases[0].name = name;
  card.failure = Failure{.rank = 0,
                         .host = name,
                         .device = name,
                         .stage = name,
                         .hook = name,
                         .epoch = 0,
                         .batch_idx = 3,
                         .message = name};
  return card;
}

void write_hostile(const std::filesystem::path& folder) {
  const std::string name =
      "</script><script>window.hit=1</script><img src=x onerror='window.hit=2'><!--<script> \xE2\x80\xAE\xE2\x80\xA8 "
      "\" ' & \xFF \\u003c";
  MetricCurves curves;
  for (int64_t i = 0; i < 50; ++i) {
    curves.add({i,
                i,
                {{name, 1.0 * i},
                 {"val_" + name, 2.0 * i},
                 {"lr-" + name, 0.1},
                 {"__proto__", 1},
                 {"constructor", 2},
                 {"", 3},
                 {"\n", 4}}});
  }
  write_report_page(std::vector<RunView>{{hostile_card(name), curves}}, folder / "hostile.html");
  write_report_page(std::vector<RunView>{{hostile_card(name), curves}, {hostile_card("__proto__"), curves}},
                    folder / "hostile_several.html");
}

void write_odd(const std::filesystem::path& folder) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  MetricCurves curves;
  curves.add({7, -1, {{"one_point", 3.5}, {"test_loss", 0.5}}});
  for (int64_t i = 0; i < 200; ++i) {
    const double x = static_cast<double>(i);
    curves.add({i,
                i / 10,
                {{"constant", 1.25},
                 {"all_nan", nan},
                 {"some_nan", i % 20 == 3 ? nan
                              : i == 90   ? infinity
                                          : std::sin(x / 9)},
                 {"negative", -x},
                 {"huge", i % 2 ? 1.7e308 : -1.7e308},
                 {"tiny", 1e-310 * x},
                 {"zero", 0}}});
  }
  auto card = some_card("version_1", RunStatus::interrupted, unix_seconds() - 3000);
  card.message = "SIGTERM";
  card.metrics = {{"all_nan", nan}, {"up", infinity}};
  write_report_page(std::vector<RunView>{{card, curves}}, folder / "odd.html");
  RunCard bare;
  bare.status = RunStatus::running;
  bare.updated = bare.started = unix_seconds();
  write_report_page(std::vector<RunView>{{bare, MetricCurves()}}, folder / "empty.html");
  write_report_page({}, folder / "none.html");
}

void write_large(const std::filesystem::path& folder) {
  MetricCurves large, many;
  std::mt19937 random(3);
  std::normal_distribution<double> noise;
  for (int64_t step = 0; step < 100000; ++step) {
    ScalarsRecord record{step, step / 1000, {}};
    for (int i = 0; i < 20; ++i) {
      record.values.emplace_back("metric_" + std::to_string(i),
                                 std::exp(-static_cast<double>(step) / 30000.0) + 0.1 * noise(random));
    }
    large.add(record, 1.7e9 + 0.013 * static_cast<double>(step));
    if (step >= 500) continue;
    record.values.clear();
    for (int i = 0; i < 300; ++i)
      record.values.emplace_back("layer." + std::to_string(i) + "/norm", std::abs(noise(random)));
    many.add(record);
  }
  const auto card = some_card("version_2", RunStatus::finished, 1.7e9);
  const auto from = unix_seconds();
  write_report_page(std::vector<RunView>{{card, large}}, folder / "large.html");
  std::cout << "large.html: " << std::filesystem::file_size(folder / "large.html") << " bytes, made in "
            << 1000 * (unix_seconds() - from) << " ms\n";
  write_report_page(std::vector<RunView>{{card, many}}, folder / "many.html");
}

void write_pages(const std::filesystem::path& folder) {
  const double now = unix_seconds(), started = now - 131;
  const auto curves = learning_curves(1, 6000, 500, started, 1), half = learning_curves(1, 2500, 500, started, 1);
  write_report_page(std::vector<RunView>{{some_card("version_3", RunStatus::finished, started), curves}},
                    folder / "finished.html");

  auto running = some_card("version_4", RunStatus::running, now - 60);
  running.progress = {5, 0, 2500, 2500, 2500};
  running.phases[0].batches = 2500;
  running.phases[0].seconds = 57;
  running.phases[0].ranks.clear();
  running.seconds_left = 79.8;
  write_report_page(std::vector<RunView>{{running, half}}, folder / "running.html");

  auto limited = running;
  limited.options["trainer"]["max_time"] = "00:00:00:10";
  limited.total_batches = 2600;
  limited.seconds_left = 3;
  write_report_page(std::vector<RunView>{{limited, half}}, folder / "limited.html");
  auto lost = running;
  lost.status = RunStatus::failed;
  lost.message = "its process is gone: it was killed, the machine went down, or the disk was full at its end";
  write_report_page(std::vector<RunView>{{lost, half}}, folder / "lost.html");

  write_report_page(std::vector<RunView>{{running, half}}, folder / "crashed.html");
  std::ofstream(folder / "crashed.html", std::ios::app)
      << R"page(<script type="application/json" id="crash">{"batch":35,"device":"cpu","epoch":2,"hook":"training_step",)page"
      << R"page("host":"vm","message":"the process crashed: SIGSEGV (invalid memory access)","rank":0,)page"
      << R"page("signal":"SIGSEGV","stage":"fit","time":1796052774}</script>)page";

  auto uncounted = some_card("version_5", RunStatus::finished, started);
  uncounted.model = {};
  MetricCurves training;
  for (int64_t step = 0; step < 50; ++step) training.add({step, 0, {{"train_loss", 1.0 / (1.0 + step)}}});
  write_report_page(std::vector<RunView>{{uncounted, training}, {uncounted, training}}, folder / "plain_several.html");

  auto failed = some_card("version_5", RunStatus::failed, now - 60);
  failed.progress = {5, 17, 2517, 2517, 2517};
  failed.failure = Failure{.rank = 1,
                           .host = "gpu-18",
                           .device = "cuda:1",
                           .stage = "fit",
                           .hook = "training_step",
                           .epoch = 5,
                           .batch_idx = 17,
                           .message =
                               "mat1 and mat2 shapes cannot be multiplied (32x784 and 256x10)\nin Linear head, called "
                               "by Digits::training_step"};
  failed.checkpoints.pop_back();
  write_report_page(std::vector<RunView>{{failed, half}}, folder / "failed.html");

  RunCard tuned = some_card("version_7", RunStatus::finished, started);
  tuned.stage = "tune";
  tuned.findings = {{.name = "lr_find",
                     .title = "Learning rate",
                     .says = "The loss falls fastest at the rate 0.01.",
                     .columns = {{"lr", {1e-4, 1e-3, 1e-2, 0.1, 1}}, {"smoothed_loss", {2.3, 2.2, 1.1, 0.9, NAN}}},
                     .x_is_logarithmic = true,
                     .chosen = 2}};
  write_report_page(std::vector<RunView>{{tuned, MetricCurves()}}, folder / "tuned.html");

  const auto slow = learning_curves(0.5, 5000, 500, started, 2), fast = learning_curves(2, 4000, 500, started, 3);
  std::vector<RunView> several = {{some_card("version_3", RunStatus::finished, started), curves},
                                  {some_card("version_6", RunStatus::finished, started), slow},
                                  {failed, fast}};
  several[1].card.options["model"]["lr"] = 0.0005;
  several[1].card.metrics["val_loss"] = 0.31;
  several[2].card.options["model"]["lr"] = 0.002;
  several[2].card.options["trainer"]["precision"] = "32-true";
  write_report_page(several, folder / "several.html");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: page_program FOLDER\n";
    return 2;
  }
  std::filesystem::create_directories(argv[1]);
  write_pages(argv[1]);
  write_hostile(argv[1]);
  write_odd(argv[1]);
  write_large(argv[1]);
  return 0;
}
