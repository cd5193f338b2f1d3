// examples/digits, with the moment at which its first step is done, for bench/run start: {"first_step_at": SECONDS} on
// the monotonic clock, which all processes of a machine share. The arguments are those of digits.
#include "bench/cells.hpp"
#include "examples/digits/digits.hpp"
#include "examples/digits/digits_data.hpp"

#include <troupe/troupe.hpp>

#include <chrono>

namespace {

class WithFirstStep : public Digits {
 public:
  using Digits::Digits;
  void on_train_batch_end(const troupe::StepOutput&, const troupe::Batch&, int64_t) override {
    if (is_told_) return;
    is_told_ = true;
    const std::chrono::duration<double> at = std::chrono::steady_clock::now().time_since_epoch();
    troupe::bench::print_cell({{"first_step_at", at.count()}});
  }

 private:
  bool is_told_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  return troupe::main<WithFirstStep, DigitsData>(argc, argv, {.trainer = {.max_epochs = 10, .log_every_n_steps = 10}});
}
