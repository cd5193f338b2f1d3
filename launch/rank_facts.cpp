#include "troupe/launch/rank_facts.hpp"

#include "troupe/base/text.hpp"
#include "troupe/launch/processes.hpp"
#include "troupe/runtime/checkpoint/checksum.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <link.h>

namespace troupe {

namespace {

constexpr int64_t most_milliseconds_apart = 60'000;
constexpr std::size_t most_differences = 3;

// Each rank may have its own.
const std::set<std::string, std::less<>> own_options = {
    "accelerator",       "default_root_dir", "quiet",   "enable_progress_bar", "enable_model_summary", "num_threads",
    "capture_step_dump", "watchdog_stacks",  "devices",  // of which make_peers says more
};

std::string hash_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return "";
  Checksum checksum;
  std::vector<char> part(std::size_t{1} << 20);
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0) {
    checksum.add(std::string_view(part.data(), static_cast<std::size_t>(file.gcount())));
  }
  return checksum.hex();
}

// A collector of dl_iterate_phdr.
int take_libtorch(dl_phdr_info* info, std::size_t, void* found) {
  const std::string_view path = info->dlpi_name ? info->dlpi_name : "";
  if (!path.substr(path.rfind('/') + 1).starts_with("libtorch_cpu.so")) return 0;
  *static_cast<std::string*>(found) = path;
  return 1;
}

std::string loaded_libtorch() {
  std::string path;
  dl_iterate_phdr(take_libtorch, &path);
  std::error_code error;
  const auto bytes = path.empty() ? 0 : std::filesystem::file_size(path, error);
  return path.empty() || error ? path : path + ", " + std::to_string(bytes) + " bytes";
}

nlohmann::json facts_to_json(const RankFacts& facts) {
  return {{"host", facts.host},
          {"program", facts.program},
          {"hash", facts.hash},
          {"libtorch", facts.libtorch},
          {"options", facts.options}};
}

RankFacts facts_in(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  return {json.at("host"), json.at("program"), json.at("hash"), json.at("libtorch"), json.at("options")};
}

std::string name_of_rank(std::size_t rank, const std::string& host) {
  return "rank " + std::to_string(rank) + (host.empty() ? "" : " on " + host);
}

// LibTorch may lie elsewhere on another host.
std::string_view size_of(const std::string& libtorch) {
  return std::string_view(libtorch).substr(libtorch.rfind(',') == std::string::npos ? 0 : libtorch.rfind(','));
}

bool may_differ(const std::string& group, const std::string& name, const nlohmann::json& value) {
  // Rank zero's business, with passwords in it.
  if (group == "mlflow" || group == "trackio" || group.starts_with("logger.")) return true;
  return ((group == "trainer" || group == "fabric") && own_options.contains(name)) ||
         (group == "data" && value.is_string());
}

std::string option_text(const nlohmann::json& options, const std::string& group, const std::string& name) {
  if (!options.contains(group) || !options.at(group).contains(name)) return "no such option";
  return options.at(group).at(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// "trainer.max_epochs = 5 and not 3" for each option that differs.
std::vector<std::string> option_differences(const nlohmann::json& first, const nlohmann::json& other) {
  std::set<std::pair<std::string, std::string>> names;
  for (const auto* options : {&first, &other}) {
    for (const auto& [group, values] : options->items()) {
      for (const auto& [name, value] : values.items()) {
        if (!may_differ(group, name, value)) names.emplace(group, name);
      }
    }
  }
  std::vector<std::string> found;
  for (const auto& [group, name] : names) {
    const auto here = option_text(first, group, name), there = option_text(other, group, name);
    if (here != there) found.push_back(group + "." + name + " = " + there + " and not " + here);
  }
  return found;
}

}  // namespace

RankFacts facts_of_process(std::string host, const std::vector<OptionGroup>& groups) {
  static const auto program = [] {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/self/exe", error).string();
  }();
  static const auto hash = hash_of_file("/proc/self/exe");
  static const auto libtorch = loaded_libtorch();
  RankFacts facts{std::move(host), program, hash, libtorch};
  for (const auto& group : groups) facts.options[group.name] = to_json_object(group.options, group.name);
  return facts;
}

std::string disagreement(const std::vector<RankFacts>& ranks) {
  const RankFacts& first = ranks.front();
  for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
    const RankFacts& other = ranks[rank];
    const auto who = name_of_rank(rank, other.host), zero = name_of_rank(0, first.host);
    if (other.hash != first.hash) {
      return who + " runs another program, or another version of it, than " + zero + ": " + other.program + " (hash " +
             other.hash + ") and " + first.program + " (hash " + first.hash + "); start the same file everywhere";
    }
    if (size_of(other.libtorch) != size_of(first.libtorch)) {
      return who + " has another LibTorch than " + zero + ": " + other.libtorch + " and " + first.libtorch +
             "; install the same version everywhere";
    }
    auto found = option_differences(first.options, other.options);
    if (found.empty()) continue;
    if (found.size() > most_differences) {
      found[most_differences] = "and " + std::to_string(found.size() - most_differences) + " more";
      found.resize(most_differences + 1);
    }
    return who + " has other options than " + zero + ": " + joined(found, "; ") +
           "; give all ranks the same arguments and config file";
  }
  return "";
}

std::string clock_difference(const std::vector<int64_t>& milliseconds, const std::vector<std::string>& hosts) {
  for (std::size_t rank = 1; rank < milliseconds.size(); ++rank) {
    const auto ahead = milliseconds[rank] - milliseconds.front();
    if (std::abs(ahead) <= most_milliseconds_apart) continue;
    return "the clock of " + name_of_rank(rank, hosts[rank]) + " is " + std::to_string(std::abs(ahead) / 1000) + " s " +
           (ahead > 0 ? "ahead of" : "behind") + " that of " + name_of_rank(0, hosts.front()) +
           ": dates of checkpoints and logs are wrong until it is set (for example by chrony)";
  }
  return "";
}

void compare_ranks(Processes& processes, const std::vector<OptionGroup>& groups, const nlohmann::json& run) {
  if (processes.is_alone()) return;
  auto facts = facts_of_process(processes.host(), groups);
  facts.options["run"] = run;
  const auto mine = facts_to_json(facts);
  std::vector<RankFacts> ranks;
  for (const auto& text :
       processes.all_gather_bytes(mine.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))) {
    ranks.push_back(facts_in(text));
  }
  if (const auto why = disagreement(ranks); !why.empty()) throw RanksDisagree(why);
  // All have just been here.
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  std::vector<int64_t> times;
  for (const auto& text : processes.all_gather_bytes(std::to_string(time))) times.push_back(std::stoll(text));
  std::vector<std::string> hosts;
  for (const auto& rank : ranks) hosts.push_back(rank.host);
  const auto clocks = clock_difference(times, hosts);
  if (!clocks.empty() && processes.is_rank_zero()) std::cerr << "troupe: warning: " + clocks + '\n';
}

void check_all_see(Processes& processes, const std::string& path) {
  if (processes.is_alone()) return;
  std::error_code error;
  const bool is_there = std::filesystem::exists(path, error);
  const auto all = processes.all_gather_bytes((is_there ? "+" : "-") + processes.host());
  if (all.front().front() != '+') return;  // whoever reads it says so
  const auto blind = std::ranges::find_if(all, [](const std::string& said) { return said.front() == '-'; });
  if (blind == all.end()) return;
  throw RanksDisagree(name_of_rank(static_cast<std::size_t>(blind - all.begin()), blind->substr(1)) + " does not see " +
                      shown(path) +
                      ", which the run goes on from: all ranks read the checkpoint, so it has to lie in a"
                      " folder that all hosts share, at the same path");
}

}  // namespace troupe
