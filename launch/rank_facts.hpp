// What ranks compare before a run begins: the program, LibTorch, the clock, the options, and what they see of the disk.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/launch/option_group.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

class Processes;

/// What all ranks throw, each with the same text, so that one of them can say it.
class RanksDisagree : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Of one process.
struct RankFacts {
  std::string host;
  std::string program;   ///< the path of its file
  std::string hash;      ///< of the file's bytes, 16 hexadecimal digits
  std::string libtorch;  ///< the path of libtorch_cpu and its bytes; empty if it is part of the program
  nlohmann::json options = nlohmann::json::object();  ///< values by group and name
};

RankFacts facts_of_process(std::string host, const std::vector<OptionGroup>& groups);

/// Why these processes, by rank, cannot train together, in one sentence about the first that differs from rank zero;
/// empty if they can. Paths do not count, and neither do options that a rank may have for itself: those of the
/// terminal, the number of threads, folders, and the texts of a data module.
std::string disagreement(const std::vector<RankFacts>& ranks);

/// `milliseconds` since 1970 of each rank at about one moment. A sentence about the first clock that is more than a
/// minute off rank zero's; empty if none is.
std::string clock_difference(const std::vector<int64_t>& milliseconds, const std::vector<std::string>& hosts);

/// Collective. Throws RanksDisagree with `disagreement` on all ranks; rank zero prints a warning about clocks. `run`:
/// what else has to be equal, by name.
void compare_ranks(Processes& processes, const std::vector<OptionGroup>& groups, const nlohmann::json& run);

/// Collective: throws RanksDisagree on all ranks if rank zero sees `path` and another one does not.
void check_all_see(Processes& processes, const std::string& path);

}  // namespace troupe
