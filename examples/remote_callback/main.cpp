// A callback actor in another process: it attaches to a run that goes on and prints its validations. With an accuracy
// it ends the run when that is reached, which the run must permit.
//
//     digits fit --trainer.max_epochs 20 --trainer.attach control
//     remote_callback runs/digits/version_0 0.95
#include <troupe/troupe.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string_view>

namespace {

// The same functions as those of examples/callback_actor, which Trainer::add_actor takes.
troupe::ActorBehavior watcher(std::optional<double> enough) {
  return troupe::on_events(
      [enough](const troupe::ValidationEnded& event, troupe::RunHandle& run) {
        const auto accuracy = event.metrics.find("val_acc");
        if (accuracy == event.metrics.end()) return;  // a run that logs none
        std::cout << "epoch " << event.progress.epoch << ": val_acc " << accuracy->second << std::endl;
        if (enough && accuracy->second >= *enough) run.request_stop("val_acc is enough for the remote callback");
      },
      [](const troupe::CheckpointSaved& event, troupe::RunHandle&) {
        std::cout << "saved " << event.path.filename() << std::endl;
      },
      [](const troupe::RunEnded& event, troupe::RunHandle&) {
        std::cout << "ended after " << event.progress.global_step << " steps: " << event.reason << std::endl;
      });
}

}  // namespace

int main(int argc, char** argv) {
  const bool asks = argc == 2 && std::string_view(argv[1]) == "--help";
  if (asks || argc < 2 || argc > 3) {
    (asks ? std::cout : std::cerr) << "usage: remote_callback RUN_FOLDER [VAL_ACC]\n";
    return asks ? 0 : 2;
  }
  try {
    const auto enough = argc == 3 ? std::optional(std::strtod(argv[2], nullptr)) : std::nullopt;
    troupe::follow_run(argv[1], watcher(enough), {.control = enough.has_value()});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "remote_callback: " << error.what() << '\n';
    return 1;
  }
}
