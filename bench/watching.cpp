// What watching costs: a run's phases, page, JSON lines and logging, its page of many points, and a list of many runs.
//
//     watching steps [ROUNDS [STEPS]]     for bench/run watching
//     watching attach [ROUNDS [STEPS]]    for bench/run attach
//     watching page
//     watching make COUNT FOLDER          the cards of runs, for others to list
//
// The step is the MLP 784-128-10 b32 of mlp.hpp, plain and captured: "watched" logs its loss in every step to JSON
// lines and CSV and keeps card and page, "unwatched" has no folder at all; both measure phases. They alternate in one
// process. "attached" is watched by another thread too, which is attached to the run and gets all that `troupe attach`
// shows, and by one that asks for Prometheus' numbers four times a second. "phases" is what the marks between phases
// cost in a step, by themselves: a difference of steps with and without them is far below the noise.
#include "bench/cells.hpp"
#include "bench/mlp.hpp"

#include "troupe/runtime/live/live_client.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"
#include "troupe/runtime/report/report_page.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <array>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>

namespace {

using Case = troupe::bench::MlpCase;
using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return troupe::bench::microseconds_since(start) / 1000;
}

enum class Watched { not_at_all, by_files, by_viewers };

std::string name_of(Watched watched) {
  return watched == Watched::not_at_all ? "unwatched" : watched == Watched::by_files ? "watched" : "attached";
}

// A port that nobody has at the moment.
int free_port() {
  return troupe::live::port_of(troupe::live::listen_on_loopback(0).get());
}

// Asks once, and reads the answer to its end.
void scrape(int port) {
  const troupe::live::Descriptor made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
  (void)!::send(made.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::array<char, 4096> buffer;
  while (::recv(made.get(), buffer.data(), buffer.size(), 0) > 0) {
  }
}

// From the first batch to the end of the run.
class Onlookers : public troupe::Callback {
 public:
  explicit Onlookers(int port) : port_(port) {}
  bool has_batch_hooks() const override { return false; }
  void on_train_start(troupe::RunContext& run, troupe::Module&) override {
    viewer_ = std::jthread([folder = run.run_dir()] {
      troupe::live::LiveClient client(folder);
      (void)client.ask(troupe::live::Watch{.state = true, .progress = true, .events = true});
      while (!client.has_ended()) (void)client.next_line(std::chrono::milliseconds(100));
    });
    scraper_ = std::jthread([port = port_](const std::stop_token& stop) {
      std::mutex mutex;
      std::condition_variable_any changed;
      std::unique_lock lock(mutex);
      while (!stop.stop_requested()) {
        scrape(port);
        changed.wait_for(lock, stop, std::chrono::milliseconds(250), [] { return false; });
      }
    });
  }

 private:
  int port_;
  std::jthread viewer_, scraper_;
};

double step_us(const Case& c, const std::shared_ptr<troupe::bench::MadeBatches>& data,
               const std::filesystem::path& folder, troupe::CaptureStep capture, Watched watched) {
  troupe::TrainerOptions options{.max_epochs = 2, .seed = 1, .num_threads = 1, .default_root_dir = folder};
  options.capture_step = capture;
  options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  options.log_every_n_steps = 1;
  options.quiet = true;
  options.logger = watched != Watched::not_at_all;
  options.loggers = {"csv", "jsonl"};
  if (watched == Watched::by_viewers) {
    options.metrics_port = free_port();
    options.callbacks = {std::make_shared<Onlookers>(static_cast<int>(*options.metrics_port))};
  }
  troupe::Trainer trainer(options);
  return trainer.fit(std::make_shared<troupe::bench::Mlp>(c), troupe::DataLoader(data, {.batch_size = c.batch_size}))
      ->us;
}

// The five marks that a step without hooks makes, as the worker makes them.
double us_of_phase_marks() {
  using troupe::Phase;
  constexpr int steps = 200'000;
  troupe::PhaseClock clock;
  const auto start = Clock::now();
  for (int i = 0; i < steps; ++i) {
    for (const auto phase :
         {Phase::waiting_for_data, Phase::forward, Phase::backward, Phase::optimizer, Phase::logging}) {
      clock.enter(troupe::id_of(phase));
    }
  }
  return troupe::bench::microseconds_since(start) / steps;
}

void measure_steps(int64_t rounds, int64_t steps, const std::filesystem::path& folder, Watched watched) {
  const Case c{128, 32, steps};
  const auto data = troupe::bench::mlp_batches(c);
  std::map<std::pair<std::string, std::string>, std::vector<double>> times;
  for (int64_t round = -1; round < rounds; ++round) {  // a round to warm up
    for (const auto& [name, capture] : {std::pair("plain step", troupe::CaptureStep::off),
                                        std::pair("captured step", troupe::CaptureStep::require)}) {
      for (const Watched one : {Watched::not_at_all, watched}) {
        const double us = step_us(c, data, folder, capture, one);
        if (round >= 0) times[{name, name_of(one)}].push_back(us);
      }
    }
  }
  for (const char* name : {"plain step", "captured step"}) {
    if (watched != Watched::by_files) break;
    troupe::bench::print_cell({{"case", name}, {"who", "phases"}, {"us", us_of_phase_marks()}});
  }
  for (const auto& [key, all] : times) {
    troupe::bench::print_cell({{"case", key.first}, {"who", key.second}, {"us", troupe::bench::median(all)}});
  }
}

void measure_page(int64_t points, const std::string& name) {
  constexpr int metrics = 20;
  troupe::MetricCurves curves;
  for (int64_t step = 0; step < points; ++step) {
    troupe::ScalarsRecord record{step, step / 1000, {}};
    for (int i = 0; i < metrics; ++i) {
      record.values.emplace_back("metric_" + std::to_string(i), std::sin(static_cast<double>(step) * 1e-3 + i));
    }
    curves.add(record);
  }
  troupe::RunCard card;
  const troupe::RunView view{card, curves};
  const auto start = Clock::now();
  const auto page = troupe::report_page({&view, 1});
  troupe::bench::print_cell({{"case", name},
                             {"who", "page"},
                             {"ms", milliseconds_since(start)},
                             {"kb", static_cast<double>(page.size()) / 1000}});
}

void make_runs(int64_t count, const std::filesystem::path& folder) {
  for (int64_t i = 0; i < count; ++i) {
    troupe::RunCard card;
    card.id = std::to_string(i);
    card.name = "digits";
    card.version = "version_" + std::to_string(i);
    card.status = troupe::RunStatus::finished;
    card.started = card.updated = 1.7e9 + static_cast<double>(i);
    card.metrics["val_acc"] = 1.0 / static_cast<double>(i + 1);
    const auto run = folder / "digits" / card.version;
    std::filesystem::create_directories(run);
    std::ofstream(run / "run.json") << to_json(card).dump();
  }
}

}  // namespace

int main(int argc, char** argv) {
  using troupe::bench::count_of;
  return troupe::bench::run_cells(
      argc, argv, "watching steps|attach|page|make [COUNT [STEPS|FOLDER]]", 1, 3, [](const auto& words) {
        torch::set_num_threads(1);
        const troupe::bench::RunFolder folder;
        if (words[0] == "steps" || words[0] == "attach") {
          measure_steps(words.size() > 1 ? count_of(words[1]) : 15, words.size() > 2 ? count_of(words[2]) : 2000,
                        folder.path(), words[0] == "steps" ? Watched::by_files : Watched::by_viewers);
        } else if (words[0] == "page") {
          for (const int64_t points : {5'000, 100'000})
            measure_page(points, "20 metrics, " + std::to_string(points) + " points each");
        } else if (words[0] == "make" && words.size() == 3) {
          make_runs(count_of(words[1]), words[2]);
        } else {
          throw troupe::UsageError("'" + words[0] + "' is none of steps, attach, page and make");
        }
      });
}
