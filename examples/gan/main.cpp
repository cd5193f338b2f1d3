// Generates handwritten digits: the mean squared error between the average generated and the average real image falls
// from 0.2 to about 0.01 in 20 epochs (30 s on two cores).
//
//     gan fit
//     gan fit --model.manual
#include "../digits/digits_data.hpp"
#include "gan.hpp"

int main(int argc, char** argv) {
  return troupe::main<Gan, DigitsData>(argc, argv, {.trainer = {.max_epochs = 20, .log_every_n_steps = 10}});
}
