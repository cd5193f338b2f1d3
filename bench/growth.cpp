// How what Troupe adds to a training step grows, for bench/run growth and bench/run log.
//
//     growth parameters COUNT            of a model of COUNT tensors, over a bare LibTorch loop
//     growth metrics COUNT [captured]    with COUNT calls of log() in each step, over none
//     growth callbacks COUNT             with COUNT callbacks whose batch hooks do next to nothing, over none
//     growth devices COUNT               on COUNT devices of the CPU, over as many bare loops at a time
//
// "us" is what is added to a step; "us_per_call" is for a call of log(). Both sides of a difference alternate in one
// process, an epoch each; the fastest epochs count. --quick as the last word: few steps.
#include "bench/cells.hpp"
#include "bench/mlp.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using troupe::bench::MadeBatches;
using troupe::bench::MlpCase;

const MlpCase small = {16, 8, 600};  // the smallest model of bench/run captured_step

struct Amounts {
  int64_t steps, rounds;
};

// A step of a model of many tensors that computes next to nothing: the loss depends on all of them, and their gradients
// are there already.
class Sum : public torch::autograd::Function<Sum> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList parameters) {
    context->saved_data["count"] = static_cast<int64_t>(parameters.size());
    return torch::zeros({});
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list) {
    static const torch::Tensor gradient = torch::ones({16});
    return torch::autograd::variable_list(static_cast<std::size_t>(context->saved_data["count"].toInt()), gradient);
  }
};

std::vector<torch::Tensor> many_parameters(int64_t count) {
  std::vector<torch::Tensor> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(torch::randn({16}));
  return all;
}

// A module that measures its last epoch.
template <class Options>
class Timed : public troupe::ModuleWith<Options> {
 public:
  using troupe::ModuleWith<Options>::ModuleWith;
  void on_train_epoch_start() override { start_ = Clock::now(); }
  void on_train_epoch_end() override {
    us = troupe::bench::microseconds_since(start_) / static_cast<double>(this->options().steps);
  }
  double us = 0;  // of a step

 private:
  Clock::time_point start_;
};

struct ManyOptions {
  int64_t count = 1, steps = 1;
};
TROUPE_OPTIONS(ManyOptions, (count, "tensors"), (steps, "of an epoch"))

class ManyParameters : public Timed<ManyOptions> {
 public:
  explicit ManyParameters(const ManyOptions& options) : Timed(options) {
    int number = 0;
    for (auto& tensor : many_parameters(options.count)) {
      parameters_.push_back(register_parameter("parameter_" + std::to_string(number++), std::move(tensor)));
    }
  }
  troupe::StepOutput training_step(const troupe::Batch&, int64_t) override {
    auto loss = Sum::apply(at::TensorList(parameters_));
    log("train_loss", loss);
    return loss;
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::sgd(parameters()); }

 private:
  std::vector<torch::Tensor> parameters_;
};

struct LoggingOptions {
  int64_t metrics = 0, steps = 1;
};
TROUPE_OPTIONS(LoggingOptions, (metrics, "calls of log() in a step"), (steps, "of an epoch"))

// Logs a number that is there already.
class Logging : public Timed<LoggingOptions> {
 public:
  explicit Logging(const LoggingOptions& options) : Timed(options) {
    net_ = register_module("net", std::make_shared<troupe::bench::MlpNet>(small.hidden));
    for (int64_t i = 0; i < options.metrics; ++i) names_.push_back("metric_" + std::to_string(i));
  }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = torch::nn::functional::cross_entropy(net_->forward(x), y);
    const auto value = loss.detach();
    for (const auto& name : names_) log(name, value);
    return loss;
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters()); }

 private:
  std::shared_ptr<troupe::bench::MlpNet> net_;
  std::vector<std::string> names_;
};

class Counting : public troupe::Callback {
 public:
  void on_train_batch_start(troupe::RunContext&, troupe::Module&, const troupe::Batch&, int64_t) override { ++calls_; }
  void on_train_batch_end(troupe::RunContext&, troupe::Module&, const troupe::StepOutput&, const troupe::Batch&,
                          int64_t) override {
    ++calls_;
  }

 private:
  int64_t calls_ = 0;
};

troupe::TrainerOptions options_in(const std::filesystem::path& folder) {
  troupe::TrainerOptions options{.max_epochs = 1, .seed = 1, .num_threads = 1, .default_root_dir = folder};
  options.accelerator = troupe::Accelerator::cpu;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  return options;
}

template <class M>
double us_of(const typename M::Options& model, const std::shared_ptr<MadeBatches>& data,
             const troupe::TrainerOptions& options) {
  troupe::Trainer trainer(options);
  return trainer.fit<M>(model, troupe::DataLoader(data, {.batch_size = data->batch_size()}))->us;
}

// What `with` takes longer than `without`: the fastest epochs of both, since all else that a machine does only adds.
double added_us(int64_t rounds, const std::function<double()>& without, const std::function<double()>& with) {
  double least_without = std::numeric_limits<double>::infinity(), least_with = least_without;
  for (int64_t round = -1; round < rounds; ++round) {  // a round to warm up
    const double less = without(), more = with();
    if (round < 0) continue;
    least_without = std::min(least_without, less);
    least_with = std::min(least_with, more);
  }
  return least_with - least_without;
}

double bare_us_of_many(int64_t count, int64_t steps) {
  double us = 0;
  auto parameters = many_parameters(count);  // on this thread, as the module's are
  for (auto& parameter : parameters) parameter.requires_grad_();
  std::thread([&] {
    torch::set_num_threads(1);
    const auto optimizer = troupe::optim::sgd(parameters);
    const auto start = Clock::now();
    for (int64_t step = 0; step < steps; ++step) {
      auto loss = Sum::apply(at::TensorList(parameters));
      optimizer->zero_grad();
      loss.backward();
      optimizer->step();
    }
    us = troupe::bench::microseconds_since(start) / static_cast<double>(steps);
  }).join();
  return us;
}

double of_parameters(int64_t count, Amounts amounts, const std::filesystem::path& folder) {
  amounts.steps = std::clamp<int64_t>(40'000 / count, 4, amounts.steps);
  const auto batch = [] { return troupe::Batch{torch::zeros({1})}; };
  const auto data = std::make_shared<MadeBatches>(batch, amounts.steps, /*count=*/1);
  return added_us(
      amounts.rounds, [&] { return bare_us_of_many(count, amounts.steps); },
      [&] {
        return us_of<ManyParameters>({count, amounts.steps}, data, options_in(folder));
      });
}

double of_metrics(int64_t count, bool is_captured, Amounts amounts, const std::filesystem::path& folder) {
  // Steps for the sinks, which get every 50th, are among them.
  amounts.steps = std::min(amounts.steps, std::max<int64_t>(100, 40'000 / std::max<int64_t>(count, 1)));
  auto data = troupe::bench::mlp_batches({small.hidden, small.batch_size, amounts.steps});
  auto options = options_in(folder);
  if (is_captured) {
    options.capture_step = troupe::CaptureStep::require;
    options.max_epochs = 2;  // the first has the recording
  }
  const auto with = [&](int64_t metrics) { return us_of<Logging>({metrics, amounts.steps}, data, options); };
  return added_us(
      amounts.rounds, [&] { return with(0); }, [&] { return with(count); });
}

double of_callbacks(int64_t count, Amounts amounts, const std::filesystem::path& folder) {
  const auto data = troupe::bench::mlp_batches({small.hidden, small.batch_size, amounts.steps});
  const auto with = [&](int64_t callbacks) {
    auto options = options_in(folder);
    options.capture_step = troupe::CaptureStep::require;  // the shorter the step, the smaller its noise
    options.max_epochs = 2;                               // the first has the recording
    for (int64_t i = 0; i < callbacks; ++i) options.callbacks.push_back(std::make_shared<Counting>());
    return us_of<Logging>({0, amounts.steps}, data, options);
  };
  return added_us(
      amounts.rounds, [&] { return with(0); }, [&] { return with(count); });
}

double of_devices(int64_t count, Amounts amounts, const std::filesystem::path& folder) {
  const auto data = troupe::bench::mlp_batches({small.hidden, small.batch_size, amounts.steps * count});
  const auto bare_loops = [&] {
    const MlpCase c = {small.hidden, small.batch_size, amounts.steps};
    const auto adam = [](std::vector<torch::Tensor> parameters) { return troupe::optim::adam(std::move(parameters)); };
    std::vector<double> times(static_cast<std::size_t>(count));
    {
      std::vector<std::jthread> threads;
      for (auto& us : times) threads.emplace_back([&] { us = troupe::bench::bare_loop(c, *data, adam); });
    }
    return *std::max_element(times.begin(), times.end());
  };
  auto options = options_in(folder);
  options.devices = count;
  return added_us(amounts.rounds, bare_loops, [&] { return us_of<Logging>({0, amounts.steps}, data, options); });
}

void measure(std::vector<std::string> words) {
  const bool is_quick = words.back() == "--quick";
  if (is_quick) words.pop_back();
  if (words.size() < 2) throw troupe::UsageError("the count is missing");
  const std::string& series = words[0];
  const int64_t count = troupe::bench::count_of(words[1]);
  const Amounts amounts = is_quick ? Amounts{20, 1} : Amounts{small.steps, 6};
  const troupe::bench::RunFolder folder;
  if (series == "metrics") {
    const double us = of_metrics(count, words.size() > 2 && words[2] == "captured", amounts, folder.path());
    return troupe::bench::print_cell({{"us", us}, {"us_per_call", us / static_cast<double>(count)}});
  }
  if (series != "parameters" && series != "callbacks" && series != "devices") {
    throw troupe::UsageError("'" + series + "' is none of parameters, metrics, callbacks and devices");
  }
  const auto added = series == "parameters" ? of_parameters : series == "callbacks" ? of_callbacks : of_devices;
  troupe::bench::print_cell({{"us", added(count, amounts, folder.path())}});
}

}  // namespace

int main(int argc, char** argv) {
  torch::set_num_threads(1);
  return troupe::bench::run_cells(argc, argv, "growth parameters|metrics|callbacks|devices COUNT [captured] [--quick]",
                                  2, 4, measure);
}
