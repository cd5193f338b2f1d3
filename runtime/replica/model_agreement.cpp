#include "troupe/runtime/replica/model_agreement.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace troupe {

namespace {

// A line for each parameter and buffer, to compare replicas by.
std::string description_of(const torch::nn::Module& module) {
  std::ostringstream text;
  const auto add = [&](const std::string& kind, const auto& named) {
    for (const auto& item : named) {
      text << kind << ' ' << item.key() << ' ' << item.value().sizes() << ' ' << item.value().scalar_type() << '\n';
    }
  };
  add("parameter", module.named_parameters());
  add("buffer", module.named_buffers());
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Lines that one of the two has and the other has not, at most `most` of them.
std::string difference(const std::string& a, const std::string& b, std::size_t rank, std::size_t most) {
  const auto first = lines_of(a), other = lines_of(b);
  std::string out;
  std::size_t shown = 0;
  const auto add = [&](const auto& have, const auto& lack, const std::string& who) {
    for (const auto& line : have) {
      if (std::ranges::find(lack, line) != lack.end() || shown++ >= most) continue;
      out += "\n  only rank " + who + ": " + line;
    }
  };
  add(first, other, "0");
  add(other, first, std::to_string(rank));
  if (shown > most) out += "\n  and " + std::to_string(shown - most) + " more";
  return out;
}

void check_equal(const std::vector<std::string>& descriptions) {
  constexpr std::size_t most_lines = 8;
  for (std::size_t rank = 1; rank < descriptions.size(); ++rank) {
    if (descriptions[rank] == descriptions[0]) continue;
    throw UsageError("the ranks have different models:" +
                     difference(descriptions[0], descriptions[rank], rank, most_lines));
  }
}

}  // namespace

// The models must be equal: in their shapes, which is checked, and in their numbers, which are rank zero's.
void agree_on_weights(const torch::nn::Module& module, Peers& peers) {
  check_equal(peers.all_gather_bytes(description_of(module)));
  std::vector<torch::Tensor> state;
  for (const auto& parameter : module.parameters()) state.push_back(parameter.detach());
  for (const auto& buffer : module.buffers()) state.push_back(buffer);
  peers.broadcast(state);
}

void draw_own_numbers(uint64_t seed, const Peers& peers, torch::Device device) {
  const auto rank = static_cast<uint64_t>(peers.place().global_rank);
  if (rank == 0) return;
  seed_thread_and_device(mix(seed, rank), device);
}

void agree_on_model(ReplicaCore& core) {
  Peers* peers = core.peers();
  if (!peers) return;
  const During during(core.pulse, "comparing the ranks' models");
  agree_on_weights(*core.module, *peers);
  draw_own_numbers(*core.options().seed, *peers, core.setup.device);
}

void broadcast_buffers(ReplicaCore& core) {
  if (!core.options().broadcast_buffers) return;
  const auto buffers = core.module->buffers();
  if (buffers.empty()) return;
  const PhaseScope phase(Phase::waiting_for_ranks);
  core.peers()->broadcast(buffers);
}

}  // namespace troupe
