// The mean time of a training step of an example's model, ours or of a bare LibTorch loop, for bench/run
// captured_models and optimizers.
//
//     captured MODEL captured|plain|bare [STEPS [cpu|cuda [PRECISION]]]
//     captured optimizer adamw|muon [STEPS]
//         a step of the optimizer alone, over the GPT's parameters, in processor time
//     captured --profile FILE
//         writes the captured programs with the time of each operator to FILE.0, FILE.1, ...
//
// All sides: the same training_step, batches made beforehand, Troupe's AdamW, one compute thread, a
// thread of their own. An epoch to warm up, then the one that is timed. On a GPU (tests/gpu) each batch is copied
// there, and an epoch ends when its kernels have; PRECISION is the Trainer's option, for ours.
#include "bench/cells.hpp"
#include "bench/made_batches.hpp"
#include "examples/char_rnn/char_rnn.hpp"
#include "examples/digits/digits.hpp"
#include "examples/gpt/gpt.hpp"
#include "troupe/runtime/device/device.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <time.h>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::bench::MadeBatches;
using MakeBatch = std::function<troupe::Batch()>;

using troupe::bench::now_on;

// An example's model with the bench's optimizer.
template <class M>
struct Timed : M {
  using M::M;
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adamw(this->parameters()); }
  void on_train_epoch_start() override { start = now_on(this->parameters()[0].device()); }
  void on_train_epoch_end() override {
    seconds = std::chrono::duration<double>(now_on(this->parameters()[0].device()) - start).count();
  }
  Clock::time_point start;
  double seconds = 0;
};

template <class M>
torch::Tensor loss_of(M& model, const troupe::Batch& batch, int64_t step) {
  if constexpr (std::is_base_of_v<CharRnn, M>) {
    return model.training_step(batch, step, troupe::StepOutput()).loss();
  } else {
    return model.training_step(batch, step).loss();
  }
}

constexpr int64_t epochs = 2;  // the first warms up

struct Case {
  int64_t steps;  // of an epoch
  MakeBatch make_batch;
  // Microseconds per step.
  std::function<double(const Case&, const std::shared_ptr<MadeBatches>&, const troupe::TrainerOptions&)> ours;
  std::function<double(const Case&, const MadeBatches&, torch::Device)> bare;
};

template <class M, class O>
Case case_of(int64_t steps, O options, MakeBatch make_batch) {
  const auto ours = [options](const Case& c, const std::shared_ptr<MadeBatches>& data,
                              const troupe::TrainerOptions& o) {
    troupe::Trainer trainer(o);
    const auto model =
        trainer.fit(std::make_shared<Timed<M>>(options), troupe::DataLoader(data, {.batch_size = data->batch_size()}));
    return model->seconds / static_cast<double>(c.steps) * 1e6;
  };
  const auto bare = [options](const Case& c, const MadeBatches& data, torch::Device device) {
    double us = 0;
    Timed<M> model(options);
    std::thread([&] {
      torch::set_num_threads(1);
      model.to(device);
      auto optimizer = troupe::optim::adamw(model.parameters());
      for (int64_t epoch = 0; epoch < epochs; ++epoch) {
        const auto start = now_on(device);
        for (int64_t step = 0; step < c.steps; ++step) {
          auto loss = loss_of(model, data.batch(step).to(device, /*non_blocking=*/true), step);
          optimizer->zero_grad();
          loss.backward();
          optimizer->step();
        }
        us = std::chrono::duration<double, std::micro>(now_on(device) - start).count() / static_cast<double>(c.steps);
      }
    }).join();
    return us;
  };
  return {steps, std::move(make_batch), ours, bare};
}

std::shared_ptr<MadeBatches> batches_of(const Case& c) {
  return std::make_shared<MadeBatches>(c.make_batch, c.steps, /*count=*/16);
}

std::vector<Case> cases() {
  const auto text = [](int64_t size, int64_t length) { return [=] { return troupe::bench::texts(size, length); }; };
  const auto images = [] { return troupe::Batch{torch::randn({32, 1, 28, 28}), torch::randint(10, {32})}; };
  return {
      case_of<Gpt>(400, GptOptions{.layers = 2, .heads = 2, .width = 32, .context = 32, .dropout = 0}, text(8, 32)),
      case_of<CharRnn>(20, CharRnnOptions{.bptt = 64}, text(32, 64)),
      case_of<Digits>(60, DigitsOptions{}, images),
      case_of<Gpt>(5, GptOptions{}, text(16, 128)),
  };
}

troupe::TrainerOptions options_in(const troupe::bench::RunFolder& folder, troupe::CaptureStep capture) {
  troupe::TrainerOptions options{.max_epochs = epochs, .seed = 1, .num_threads = 1, .default_root_dir = folder.path()};
  options.accelerator = troupe::Accelerator::cpu;
  options.capture_step = capture;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  return options;
}

void write_profiles(const std::string& file) {
  const troupe::bench::RunFolder folder;
  int number = 0;
  for (const auto& c : cases()) {
    auto options = options_in(folder, troupe::CaptureStep::require);
    options.capture_step_dump = file + "." + std::to_string(number++);
    c.ours(c, batches_of(c), options);
  }
}

// One thread computes, so that the processor's time is the step's, whatever else the machine does.
double processor_microseconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

void measure_optimizer(const std::string& name, int64_t steps) {
  constexpr int64_t warm_up = 20;
  torch::manual_seed(1);
  Gpt model(GptOptions{});
  for (auto& parameter : model.parameters()) parameter.mutable_grad() = torch::randn_like(parameter) * 0.01;
  troupe::OptimizerPtr optimizer;
  if (name == "adamw") {
    optimizer = troupe::optim::adamw(model);
  } else if (name == "muon") {
    optimizer =
        troupe::optim::muon(model, {{"transformer.w?e.*", {.use_muon = false}}}, {.lr = 0.02, .adamw_lr = 3e-4});
  } else {
    throw troupe::UsageError("'" + name + "' is none of adamw and muon");
  }
  double start = 0;
  for (int64_t step = 0; step < warm_up + steps; ++step) {
    if (step == warm_up) start = processor_microseconds();
    optimizer->step();
  }
  troupe::bench::print_cell({{"us", (processor_microseconds() - start) / static_cast<double>(steps)}});
}

void measure(const std::vector<std::string>& words) {
  if (words[0] == "--profile") return write_profiles(words[1]);
  if (words[0] == "optimizer")
    return measure_optimizer(words[1], words.size() == 3 ? troupe::bench::count_of(words[2]) : 200);
  auto all = cases();
  const auto model = static_cast<std::size_t>(troupe::bench::count_of(words[0], 0));
  if (model >= all.size()) throw troupe::UsageError("MODEL is 0 to " + std::to_string(all.size() - 1));
  const bool is_bare = words[1] == "bare", is_captured = words[1] == "captured";
  if (!is_bare && !is_captured && words[1] != "plain") {
    throw troupe::UsageError("'" + words[1] + "' is none of captured, plain and bare");
  }
  Case& c = all[model];
  if (words.size() > 2) c.steps = troupe::bench::count_of(words[2]);
  const auto data = batches_of(c);
  const troupe::bench::RunFolder folder;
  auto options = options_in(folder, is_captured ? troupe::CaptureStep::require : troupe::CaptureStep::off);
  if (words.size() > 3) troupe::set_option(options, "accelerator", words[3]);
  if (words.size() > 4) troupe::set_option(options, "precision", words[4]);
  if (is_bare && words.size() > 4) throw troupe::UsageError("a bare loop computes in 32-true, and takes no PRECISION");
  const auto device = troupe::choose_device(options.accelerator);
  troupe::bench::print_cell({{"us", is_bare ? c.bare(c, *data, device) : c.ours(c, data, options)}});
}

}  // namespace

int main(int argc, char** argv) {
  torch::set_num_threads(1);
  return troupe::bench::run_cells(argc, argv, "captured MODEL captured|plain|bare [STEPS [cpu|cuda [PRECISION]]]", 2, 5,
                                  measure);
}
