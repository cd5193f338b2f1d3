// What faults_test, signals_test and bench/faults break: a small run in which a fault of choice happens at a batch of
// choice, on one rank.
#include "troupe/troupe.hpp"

#include <torch/torch.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <future>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace troupe {
namespace {

struct FaultOptions {
  std::string fault = "none";
  int64_t rank = 0;
  int64_t epoch = 1;
  int64_t batch = 2;
  int64_t fetchers = 0;
  int64_t samples = 60;
};
TROUPE_OPTIONS(FaultOptions, (fault, "what happens"), (rank, "on which rank"), (epoch, "in which epoch"),
               (batch, "at which batch"), (fetchers, "of the train loader"), (samples, "to train on"))

// Waits for what never comes.
[[noreturn]] void hang() {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  while (true) never.wait(lock);
}

// Line by line, with the time: bench/faults counts from there.
void say(const std::string& what) {
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::cout << what + " at " + std::to_string(now) + "\n" << std::flush;
}

// What the faults of datasets, sinks and callbacks look at; they know nothing of the run.
std::string fault_now;
std::string fault_at_start;  // of those that wait for nothing
std::promise<void> is_hung;  // a fetcher, in a dataset

void strike(const std::string& fault) {
  if (fault_now == fault) {
    say("fault");
    throw std::runtime_error(fault + " is out of luck");
  }
  if (fault_now == "hung_" + fault) {
    say("fault");
    hang();
  }
}

void use_up_memory() {
  // The process may have what it has and 300 MB more.
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    (void)!std::fscanf(file, "%ld", &pages);
    std::fclose(file);
  }
  limit.rlim_cur = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{300} << 20);
  setrlimit(RLIMIT_AS, &limit);
  std::vector<torch::Tensor> all;
  while (true) all.push_back(torch::ones({int64_t{16} << 20}));
}

class Points : public Dataset {
 public:
  explicit Points(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  Batch get(int64_t index) override {
    strike("dataset");
    if (fault_now == "slow_dataset") {  // longer than a step may take in the tests; data has a limit of its own
      fault_now = "";
      say("stalls");
      std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    }
    if (fault_at_start == "hung_last_fetch" && index >= 30) {
      is_hung.set_value();
      hang();
    }
    const auto x = torch::full({4}, static_cast<double>(index % 7), torch::kFloat32);
    return {x, x.sum().unsqueeze(0)};
  }

 private:
  int64_t size_;
};

class Numbers : public Sink {
 public:
  std::string name() const override { return "numbers"; }
  void write(const Record&) override { strike("sink"); }
  void flush() override {}
};

class Watching : public Callback {
 public:
  void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override {
    strike("callback");
  }
};

class Faulty : public ModuleWith<FaultOptions> {
 public:
  explicit Faulty(const FaultOptions& options) : ModuleWith(options) {
    net_ = register_module("net", torch::nn::Linear(4, 1));
  }
  void prepare_data() override {
    // Longer than any watchdog_timeout of the tests; it is excused.
    if (options().fault == "slow_prepare_data") std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (!std::exchange(began_, true)) say("training");
    const bool is_there = trainer().progress().epoch == options().epoch && batch_idx == options().batch &&
                          trainer().global_rank() == options().rank;
    if (is_there) break_down();
    const auto loss = torch::mse_loss(net_(batch[0]), batch[1]);
    log("train_loss", loss);
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 1e-4}); }
  DataLoaders train_dataloader() override {
    DataLoaderOptions loading{.batch_size = 5};
    loading.num_workers = options().fetchers;
    loading.prefetch = options().fault == "hung_last_fetch" ? 8 : 2;
    fault_at_start = options().fault;
    return DataLoader(std::make_shared<Points>(options().samples), loading);
  }

 private:
  void break_down() {
    const std::string& fault = options().fault;
    if (fault == "none" || fault == "slow_prepare_data") return;
    fault_now = fault;
    if (fault == "stop" || fault == "segv" || fault == "abort" || fault == "kill") say("fault");
    if (fault == "stop") raise(SIGSTOP);
    if (fault == "segv") raise(SIGSEGV);
    if (fault == "abort") std::abort();
    if (fault == "kill") raise(SIGKILL);
    if (fault == "slow_step") std::this_thread::sleep_for(std::chrono::milliseconds(600));
    if (fault == "signal") say("ready");
    if (fault == "hung_last_fetch") is_hung.get_future().wait();
    strike("step");
    if (fault == "memory") {
      say("fault");
      use_up_memory();
    }
  }

  torch::nn::Linear net_{nullptr};
  bool began_ = false;
};

}  // namespace
}  // namespace troupe

int main(int argc, char** argv) {
  troupe::TrainerOptions options{.max_epochs = 3, .seed = 5};
  options.enable_progress_bar = options.enable_model_summary = false;
  options.log_every_n_steps = 1;
  options.callbacks = {std::make_shared<troupe::ModelCheckpoint>(
                           troupe::ModelCheckpointOptions{.save_last = true, .every_n_train_steps = 2}),
                       std::make_shared<troupe::Watching>()};
  options.loggers = {};
  options.sinks = {std::make_shared<troupe::Numbers>()};
  troupe::MainOptions main_options{.trainer = options};
  const std::vector<std::string> words(argv + 1, argv + argc);
  main_options.prepare = [&words](troupe::Trainer& trainer) {
    if (std::ranges::find(words, "early_signal") != words.end()) std::raise(SIGUSR1);  // before anything is trained
    trainer.add_actor("watcher", troupe::on_events([](const troupe::TrainBatchEnded&, troupe::RunHandle&) {
                        troupe::strike("actor");
                      }));
  };
  return troupe::main<troupe::Faulty>(argc, argv, main_options);
}
