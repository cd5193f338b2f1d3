// Prints every hook when it is called, one a line on stdout and nothing else there.
//
//     hook_order fit --trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1
#include "narrator.hpp"

int main(int argc, char** argv) {
  troupe::TrainerOptions quiet{.max_epochs = 1, .enable_progress_bar = false, .enable_model_summary = false};
  quiet.enable_checkpointing = false;
  quiet.logger = false;
  return troupe::main<Narrator>(argc, argv, {.trainer = quiet});
}
