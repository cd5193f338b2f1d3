// An actor of one's own beside the training: it prints each validation and ends the run when the accuracy is enough.
//
//     callback_actor fit --trainer.max_epochs 20
#include "../digits/digits.hpp"
#include "../digits/digits_data.hpp"

#include <iostream>

namespace {

// Its thread is its own: whatever it does, the training does not wait for it.
troupe::ActorBehavior watcher() {
  return troupe::on_events(
      [](const troupe::ValidationEnded& event, troupe::RunHandle& run) {
        const double accuracy = event.metrics.at("val_acc");
        std::cout << "epoch " << event.progress.epoch << ": val_acc " << accuracy << std::endl;
        if (accuracy >= 0.95) run.request_stop("val_acc reached 95 %");
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
  return troupe::main<Digits, DigitsData>(
      argc, argv, {.trainer = {.name = "callback_actor", .max_epochs = 20}, .prepare = [](troupe::Trainer& trainer) {
                     trainer.add_actor("watcher", watcher(), {.capacity = 16});
                   }});
}
