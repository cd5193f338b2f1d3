// The phases of all ranks.
#pragma once

#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/report/phase_report.hpp"

#include <vector>

namespace troupe {

/// `by_rank`: the phases of each. In the order of the slowest ranks' seconds. The median of an even number is the mean
/// of the two in the middle; a rank without a phase has 0 s of it.
std::vector<PhaseSpread> spread_over(const std::vector<std::vector<PhaseTime>>& by_rank);
/// Collective: the same, of what each rank has measured.
std::vector<PhaseSpread> gather_spread(Peers& peers, const PhaseReport& mine);

}  // namespace troupe
