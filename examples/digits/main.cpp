// Handwritten digits: trains a small convolutional network to more than 96 % of the test images.
//
//     digits fit --trainer.max_epochs 10
//     digits test --ckpt_path best
#include "digits.hpp"
#include "digits_data.hpp"

int main(int argc, char** argv) {
  return troupe::main<Digits, DigitsData>(argc, argv, {.trainer = {.max_epochs = 10, .log_every_n_steps = 10}});
}
