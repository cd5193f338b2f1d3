// examples/digits, with the moment at which its first step is done, for bench/run start: {"first_step_at": SECONDS} on
// the monotonic clock, which all processes of a machine share, with the processor time that this process has taken
// until then. The arguments are those of digits.
#include "bench/cells.hpp"
#include "examples/digits/digits.hpp"
#include "examples/digits/digits_data.hpp"

#include <troupe/troupe.hpp>

#include <chrono>

#include <sys/resource.h>

namespace {

double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto microseconds = used.ru_utime.tv_usec + used.ru_stime.tv_usec;
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + static_cast<double>(microseconds) * 1e-6;
}

class WithFirstStep : public Digits {
 public:
  using Digits::Digits;
  void on_train_batch_end(const troupe::StepOutput&, const troupe::Batch&, int64_t) override {
    if (is_told_) return;
    is_told_ = true;
    const std::chrono::duration<double> at = std::chrono::steady_clock::now().time_since_epoch();
    troupe::bench::print_cell({{"first_step_at", at.count()}, {"processor_s", processor_seconds()}});
  }

 private:
  bool is_told_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  return troupe::main<WithFirstStep, DigitsData>(argc, argv, {.trainer = {.max_epochs = 10, .log_every_n_steps = 10}});
}
