// One training step through the whole cast against the same step in a bare LibTorch loop.
//
// Both sides: the same model, batches made beforehand, Adam on LibTorch's fused kernel, one compute thread, a thread of
// their own. Ours also logs the loss in every step, to the default sinks; the progress bar is off. They run
// alternately, an epoch each; a sample is the mean time of a step of one epoch.
#include "bench/table.hpp"

#include <troupe/runtime/process/pulse.hpp>
#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <thread>

#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
namespace F = torch::nn::functional;

struct Case {
  int64_t hidden;
  int64_t batch_size;
  int64_t steps;
};

struct Net : torch::nn::Module {
  explicit Net(int64_t hidden) {
    first = register_module("first", torch::nn::Linear(784, hidden));
    second = register_module("second", torch::nn::Linear(hidden, 10));
  }
  torch::Tensor forward(const torch::Tensor& x) { return second(torch::relu(first(x))); }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

// Batches that are there already: serving one costs a copy of two handles.
class MadeBatches : public troupe::Dataset {
 public:
  explicit MadeBatches(const Case& c) : batch_size_(c.batch_size), steps_(c.steps) {
    torch::manual_seed(1);
    for (int i = 0; i < 64; ++i) {
      batches_.push_back({torch::randn({batch_size_, 784}), torch::randint(10, {batch_size_})});
    }
  }
  int64_t size() const override { return batch_size_ * steps_; }
  troupe::Batch get(int64_t index) override { return batch(index / batch_size_); }
  std::optional<troupe::Batch> get_batch(at::IntArrayRef indices) override { return batch(indices[0] / batch_size_); }
  const troupe::Batch& batch(int64_t step) const { return batches_[static_cast<std::size_t>(step) % batches_.size()]; }

 private:
  int64_t batch_size_, steps_;
  std::vector<troupe::Batch> batches_;
};

class Mlp : public troupe::Module {
 public:
  explicit Mlp(const Case& c) : steps_(c.steps) { net_ = register_module("net", std::make_shared<Net>(c.hidden)); }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = F::cross_entropy(net_->forward(x), y);
    log("train_loss", loss);
    return loss;
  }
  troupe::Optimizers configure_optimizers() override { return troupe::optim::adam(parameters()); }
  void on_train_epoch_start() override { start_ = Clock::now(); }
  void on_train_epoch_end() override {
    seconds_a_step = std::chrono::duration<double>(Clock::now() - start_).count() / static_cast<double>(steps_);
  }
  double seconds_a_step = 0;

 private:
  int64_t steps_;
  Clock::time_point start_;
  std::shared_ptr<Net> net_;
};

double ours(const Case& c, const std::shared_ptr<MadeBatches>& data, const std::filesystem::path& folder,
            troupe::CaptureStep capture) {
  troupe::TrainerOptions options{.max_epochs = 1, .seed = 1, .num_threads = 1, .default_root_dir = folder};
  options.capture_step = capture;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  troupe::Trainer trainer(options);
  auto model = trainer.fit(std::make_shared<Mlp>(c), troupe::DataLoader(data, {.batch_size = c.batch_size}));
  return model->seconds_a_step * 1e6;
}

double bare(const Case& c, const MadeBatches& data) {
  double seconds = 0;
  Net net(c.hidden);  // on this thread, as ours is: where memory lies makes a difference
  std::thread([&] {
    torch::set_num_threads(1);
    auto optimizer = troupe::optim::adam(net.parameters());
    const auto start = Clock::now();
    for (int64_t step = 0; step < c.steps; ++step) {
      auto [x, y] = data.batch(step).get<2>();
      auto loss = F::cross_entropy(net.forward(x), y);
      optimizer->zero_grad();
      loss.backward();
      optimizer->step();
    }
    seconds = std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(c.steps);
  }).join();
  return seconds * 1e6;
}

// The plain step and the captured one, each against the bare loop. `captured`: the part of the bare step's time that a
// captured one may take.
std::array<troupe::bench::Row, 2> measure(const Case& c, double captured, const std::filesystem::path& folder) {
  constexpr int rounds = 31;
  const auto data = std::make_shared<MadeBatches>(c);
  std::vector<double> plain_times, captured_times, peer_times;
  for (int round = -1; round < rounds; ++round) {
    const double peer = bare(c, *data);
    const double plain = ours(c, data, folder, troupe::CaptureStep::off);
    const double replay = ours(c, data, folder, troupe::CaptureStep::require);
    if (round < 0) continue;  // a round to warm up
    peer_times.push_back(peer);
    plain_times.push_back(plain);
    captured_times.push_back(replay);
  }
  const auto peer = troupe::bench::summarize(peer_times);
  const std::string name = "784-" + std::to_string(c.hidden) + "-10, batch " + std::to_string(c.batch_size);
  // 2 us and 1 % more.
  return {troupe::bench::at_most(name, troupe::bench::summarize(plain_times), peer, "us", 1.01 + 2 / peer.median),
          troupe::bench::at_most("captured, " + name, troupe::bench::summarize(captured_times), peer, "us", captured)};
}

// What naming slow ranks costs a step: the marks of its collective operations, three of them, against the bare step.
troupe::bench::Row measure_marks(const troupe::bench::Row& step) {
  constexpr int rounds = 31, steps = 100'000, operations = 3;
  troupe::enter_thread(std::make_shared<troupe::Pulse>("worker"));
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < steps * operations; ++i) troupe::CollectiveInFlight().end();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count() / steps);
  }
  return troupe::bench::at_most("marks of three collectives, of " + step.name, troupe::bench::summarize(times),
                                step.peer, "us", 0.001);
}

}  // namespace

int main(int argc, char** argv) {
  return troupe::bench::run(argc, argv, "One training step through the cast against a bare LibTorch loop", [] {
    torch::set_num_threads(1);
    const auto folder = std::filesystem::temp_directory_path() / ("troupe_overhead_" + std::to_string(getpid()));
    const std::array<std::array<troupe::bench::Row, 2>, 3> pairs = {measure({16, 8, 8000}, 1 / 4.0, folder),
                                                                    measure({128, 32, 2000}, 1 / 1.6, folder),
                                                                    measure({512, 64, 400}, 1 / 1.3, folder)};
    std::vector<troupe::bench::Row> rows;
    for (const auto& pair : pairs) rows.push_back(pair[0]);
    for (const auto& pair : pairs) rows.push_back(pair[1]);
    for (const auto& pair : pairs) rows.push_back(measure_marks(pair[0]));
    std::filesystem::remove_all(folder);
    return rows;
  });
}
