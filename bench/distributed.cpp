// What backward hides of the reduction of gradients on two ranks, over MPI and between two devices of one process.
//
//     distributed [--quick] [--json FILE]            the comparison
//     distributed --buckets [--quick] [--json FILE]  steps over the sizes of buckets, each against the default ones
//
// The models and settings are those of rank_models.hpp. A sample is the mean time of a step of one epoch, the first
// epoch warms up. Every side is a process (or two) of its own and the sides take turns, a round each, so that a slow
// moment hits all. bench/run distributed compares steps with PyTorch's.
//
// With t1 a step of one rank, t2 one of two ranks, and t3 one of two ranks whose
// gradients are all in one bucket, which is reduced when backward is over, all of the same round, a step shows t2 - t1
// of the reduction, and t3 - t1 without any overlap:
//
//     hidden share = 1 - (t2 - t1) / (t3 - t1)
//
// t1 is measured on two processes at once that know nothing of each other, so that both cores, the caches and the
// memory are as busy as with two ranks. t2 - t1 and t3 - t1 also have the copying into buckets and the votes that one
// rank does without, and the time that reducing takes from the cores, of which there are as many as ranks. Further rows
// hold t2 - t1 against r, the time to reduce the same buckets with nothing else going on and the buckets in the caches:
// 1 - (t2 - t1) / r is the share by the textbook, and falls below 0 where those costs are larger than r.
//
// --quick takes few steps, to see whether all of it works; its numbers are worth nothing.
#include "bench/rank_models.hpp"
#include "bench/table.hpp"
#include "troupe/runtime/collectives/memory_world.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using troupe::bench::Amounts;
using troupe::bench::Buckets;
using troupe::bench::Row;
using troupe::bench::Workload;
using troupe::bench::workload_of;
using troupe::bench::workloads;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// All gradients at once, when backward is over.
const Buckets one_bucket = {1024, 1024};

// --- What the program runs itself for --------------------------------------------------------------------------------

// Arguments of such a process: --task KIND WORKLOAD STEPS SAMPLES RANKS FOLDER BUCKETS...; it prints, for each of the
// sizes of buckets, the seconds of each sample. KIND is train (a rank under MPI or alone), train-devices (two devices
// in one process), reduce or reduce-in-memory.
struct Task {
  std::string kind;
  const Workload* workload;
  Amounts amounts;
  int64_t ranks;
  std::filesystem::path folder;
  std::vector<Buckets> buckets;

  std::string arguments() const {
    std::string out = kind + " " + workload->argument + " " + std::to_string(amounts.steps) + " " +
                      std::to_string(amounts.samples) + " " + std::to_string(ranks) + " '" + folder.string() + "'";
    for (const auto& each : buckets) out += " " + each.text();
    return out;
  }

  static Task parse(const std::vector<std::string>& words) {
    Task task{words.at(0),
              &workload_of(words.at(1)),
              {std::stoll(words.at(2)), std::stoll(words.at(3))},
              std::stoll(words.at(4)),
              words.at(5),
              {}};
    for (std::size_t i = 6; i < words.size(); ++i) {
      task.buckets.push_back({std::stod(words[i]), std::stod(words[i].substr(words[i].find(':') + 1))});
    }
    return task;
  }
};

constexpr const char* mark = "seconds of each sample: ";

json train_all(const Task& task) {
  json results = json::array();
  for (const auto& buckets : task.buckets) {
    troupe::TrainerOptions options;
    options.devices = task.kind == "train-devices" ? task.ranks : 1;
    options.first_bucket_mb = buckets.first;
    options.bucket_cap_mb = buckets.others;
    options.default_root_dir = task.folder;
    results.push_back(task.workload->train(options, task.ranks, task.amounts));
  }
  return results;
}

// The buckets of a step one after another, as the reducer starts them.
json reduce_all(const Task& task, troupe::CollectiveBackend& backend) {
  torch::set_num_threads(1);
  json results = json::array();
  for (const auto& each : task.buckets) {
    std::vector<std::vector<at::Tensor>> buckets;
    for (const int64_t bytes : task.workload->bucket_bytes(each)) buckets.push_back({at::ones({bytes / 4})});
    json seconds = json::array();
    for (int64_t sample = -1; sample < task.amounts.samples; ++sample) {
      backend.barrier()->wait();
      const auto start = Clock::now();
      for (int64_t step = 0; step < task.amounts.steps; ++step) {
        std::vector<c10::intrusive_ptr<c10d::Work>> works;
        for (auto& bucket : buckets) works.push_back(backend.allreduce(bucket));
        for (const auto& work : works) work->wait();
      }
      if (sample >= 0) seconds.push_back(since(start) / static_cast<double>(task.amounts.steps));
    }
    results.push_back(seconds);
  }
  return results;
}

int run_task(const Task& task) {
  if (task.kind == "reduce") {
    troupe::MpiWorld world;
    {
      // The way that gradients of one worker a process go.
      auto between = c10::make_intrusive<troupe::MpiBackend>(world);
      const auto memory = troupe::MemoryWorld::create_over(std::move(between), 1);
      const json results = reduce_all(task, *memory->backend(0));
      if (world.rank() == 0) std::cout << mark << results << std::endl;
    }
    return world.shut_down() ? 0 : 1;
  }
  json results;
  if (task.kind == "reduce-in-memory") {
    const auto world = troupe::MemoryWorld::create(static_cast<int>(task.ranks));
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < task.ranks; ++rank) {
      threads.emplace_back([&, rank] {
        json own = reduce_all(task, *world->backend(rank));
        if (rank == 0) results = std::move(own);
      });
    }
    threads.clear();  // waits
  } else {
    results = train_all(task);
  }
  std::cout << mark << results << std::endl;  // of other ranks launch/run prints nothing
  return 0;
}

// --- The sides -------------------------------------------------------------------------------------------------------

using Pipe = std::unique_ptr<FILE, int (*)(FILE*)>;

Pipe started(const std::string& command) {
  Pipe pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) throw std::runtime_error("cannot run " + command);
  return pipe;
}

json numbers_of(Pipe pipe, const std::string& command) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (const auto size = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) text.append(buffer.data(), size);
  const auto begin = text.find(mark);
  if (begin == std::string::npos) throw std::runtime_error("no numbers came from " + command + ", but\n" + text);
  return json::parse(text.substr(begin + std::char_traits<char>::length(mark)));
}

std::string self(const Task& task) {
  return "'" TROUPE_BENCH_SELF "' --task " + task.arguments();
}

json run_alone(const Task& task) {
  return numbers_of(started(self(task)), self(task));
}

json over_mpi(const Task& task) {
  const std::string command = "'" TROUPE_BENCH_SOURCE "/../launch/run' -n 2 --quiet " + self(task);
  return numbers_of(started(command), command);
}

// Two processes at once that do not know each other: the samples of both.
json one_rank(const Task& task) {
  auto other = started(self(task));
  json results = run_alone(task);
  const json others = numbers_of(std::move(other), self(task));
  for (std::size_t i = 0; i < results.size(); ++i)
    results[i].insert(results[i].end(), others[i].begin(), others[i].end());
  return results;
}

struct Side {
  std::string kind;
  int64_t ranks;
  json (*run)(const Task&);
};
const Side mpi = {"train", 2, over_mpi}, devices = {"train-devices", 2, run_alone}, alone = {"train", 1, one_rank},
           mpi_reduction = {"reduce", 2, over_mpi}, memory_reduction = {"reduce-in-memory", 2, run_alone};

struct Plan {
  bool quick = false;
  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("troupe_distributed_" + std::to_string(getpid()));

  int rounds(int wanted) const { return quick ? 1 : wanted; }
  // Microseconds: for each of the sizes of buckets, the samples of a round.
  std::vector<std::vector<double>> run(const Side& side, const Workload& workload,
                                       const std::vector<Buckets>& buckets) const {
    Task task{side.kind, &workload, workload.amounts, side.ranks, folder, buckets};
    if (quick) task.amounts = {3, 1};
    auto out = side.run(task).get<std::vector<std::vector<double>>>();
    for (auto& samples : out) {
      for (auto& each : samples) each *= 1e6;
    }
    return out;
  }
};

// --- The comparison --------------------------------------------------------------------------------------------------

// The samples of each round.
struct Rounds {
  std::vector<std::vector<double>> all;

  troupe::bench::Measured rate() const {
    std::vector<double> rates;
    for (const auto& samples : all) {
      for (const double us : samples) rates.push_back(1e6 / us);
    }
    return troupe::bench::summarize(rates);
  }
  std::vector<double> medians() const {
    std::vector<double> out;
    for (const auto& samples : all) out.push_back(troupe::bench::median(samples));
    return out;
  }
};

// What a step of two ranks takes beyond one of one rank, of each round.
troupe::bench::Measured beyond(const Rounds& one, const Rounds& two) {
  auto times = two.medians();
  const auto without = one.medians();
  for (std::size_t i = 0; i < times.size(); ++i) times[i] -= without[i];
  return troupe::bench::summarize(times);
}

std::vector<Row> compare(const Plan& plan, const Workload& workload) {
  const std::vector<Buckets> defaults(1), overlapped_or_not = {{}, one_bucket};
  Rounds over_mpi, over_mpi_after, in_process, in_process_after, of_one, reduced_mpi, reduced_memory;
  const auto add = [&](const Side& side, const std::vector<Buckets>& buckets, const std::vector<Rounds*>& to) {
    const auto results = plan.run(side, workload, buckets);
    for (std::size_t i = 0; i < to.size(); ++i) to[i]->all.push_back(results.at(i));
  };
  for (int round = 0; round < plan.rounds(5); ++round) {
    add(mpi, overlapped_or_not, {&over_mpi, &over_mpi_after});
    add(devices, overlapped_or_not, {&in_process, &in_process_after});
    add(alone, defaults, {&of_one});
    add(mpi_reduction, defaults, {&reduced_mpi});
    add(memory_reduction, defaults, {&reduced_memory});
  }
  const std::string name = workload.name;
  using troupe::bench::at_least;
  using troupe::bench::at_most;
  return {
      at_least(name + ", 2 devices / 2 ranks over MPI", in_process.rate(), over_mpi.rate(), "steps/s", 1),
      // Below a half, two ranks would get through less data than one.
      at_least(name + ", 2 ranks over MPI / 1 rank", over_mpi.rate(), of_one.rate(), "steps/s", 0.5),
      at_least(name + ", 2 devices / 1 rank", in_process.rate(), of_one.rate(), "steps/s", 0.5),
      at_most(name + ", over MPI: shown / without overlap", beyond(of_one, over_mpi), beyond(of_one, over_mpi_after),
              "us", 1),
      at_most(name + ", 2 devices: shown / without overlap", beyond(of_one, in_process),
              beyond(of_one, in_process_after), "us", 1),
      at_most(name + ", over MPI: shown / reduction alone", beyond(of_one, over_mpi),
              troupe::bench::summarize(reduced_mpi.medians()), "us", 1),
      at_most(name + ", 2 devices: shown / reduction alone", beyond(of_one, in_process),
              troupe::bench::summarize(reduced_memory.medians()), "us", 1),
  };
}

// --- The sizes of buckets --------------------------------------------------------------------------------------------

std::vector<Row> sweep(const Plan& plan, Workload workload) {
  workload.amounts.samples = 2;         // of each of many settings
  std::vector<Buckets> buckets = {{}};  // the defaults first
  for (const double others : {0.25, 0.5, 1.0, 4.0, 25.0}) {
    for (const double first : {0.03, 0.25, 1.0, 25.0}) {
      const Buckets each = {first, others};
      if (first <= others && each.text() != buckets.front().text()) buckets.push_back(each);
    }
  }
  std::vector<Row> rows;
  for (const auto& [transport, side] : {std::pair{"MPI", &mpi}, {"2 devices", &devices}}) {
    std::vector<std::vector<double>> times(buckets.size());
    for (int round = 0; round < plan.rounds(3); ++round) {
      const auto results = plan.run(*side, workload, buckets);
      for (std::size_t i = 0; i < buckets.size(); ++i) {
        times[i].insert(times[i].end(), results[i].begin(), results[i].end());
      }
    }
    const auto defaults = troupe::bench::summarize(times.front());
    for (std::size_t i = 1; i < buckets.size(); ++i) {
      // No size takes 3 % of a step off that of the defaults.
      rows.push_back(troupe::bench::at_least(
          std::string(workload.name) + ", " + transport + ", " + buckets[i].text() + " MiB / default",
          troupe::bench::summarize(times[i]), defaults, "us", 0.97));
    }
  }
  return rows;
}

// Taken out of the arguments, which bench/table.hpp reads.
bool take(std::vector<const char*>& arguments, std::string_view flag) {
  return std::erase_if(arguments, [&](const char* each) { return each == flag; }) > 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<const char*> arguments(argv, argv + argc);
  if (argc > 1 && std::string(argv[1]) == "--task") {
    try {
      return run_task(Task::parse({argv + 2, argv + argc}));
    } catch (const std::exception& error) {
      std::cerr << "distributed: " << error.what() << '\n';
      return 1;
    }
  }
  Plan plan;
  plan.quick = take(arguments, "--quick");
  const bool buckets = take(arguments, "--buckets");
  const std::string title =
      buckets ? "A step on 2 ranks by the sizes of the first bucket and of the others, against the default ones"
              : "Training on 2 ranks\n\n"
                "shown: a step of 2 ranks less one of 1 rank; hidden share = 1 - shown / without overlap";
  return troupe::bench::run(static_cast<int>(arguments.size()), arguments.data(), title, [&] {
    std::vector<Row> rows;
    for (const auto& workload : workloads()) {
      if (buckets && !workload.is_swept) continue;
      const auto more = buckets ? sweep(plan, workload) : compare(plan, workload);
      rows.insert(rows.end(), more.begin(), more.end());
    }
    std::filesystem::remove_all(plan.folder);
    return rows;
  });
}
