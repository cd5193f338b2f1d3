// Handwritten digits, with an operator of one's own (squared_relu.cpp) in captured steps.
//
//     custom_operator fit --trainer.capture_step require
//     custom_operator test --ckpt_path best
#include "../digits/digits_data.hpp"
#include "custom_operator.hpp"

int main(int argc, char** argv) {
  return troupe::main<Perceptron, DigitsData>(argc, argv, {.trainer = {.max_epochs = 10, .log_every_n_steps = 10}});
}
