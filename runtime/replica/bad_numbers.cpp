#include "troupe/runtime/replica/bad_numbers.hpp"

#include "troupe/modules/optim/drop_gradients.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace troupe {

namespace {

// Losses that a spike is measured against, and how many there have to be.
constexpr std::size_t loss_window = 100, least_losses = 20;

std::string fixed(double value) {
  std::ostringstream text;
  text.precision(4);
  text << value;
  return text.str();
}

// What is remarkable about a loss after those before it; empty: nothing.
std::string remark_on(double loss, const std::deque<double>& before, double threshold) {
  if (!std::isfinite(loss)) return "the loss is " + fixed(loss);
  if (threshold <= 0 || before.size() < least_losses) return "";
  const auto count = static_cast<double>(before.size());
  double mean = 0, squares = 0;
  for (const double each : before) mean += each / count;
  for (const double each : before) squares += (each - mean) * (each - mean) / count;
  const double deviation = std::sqrt(squares);
  if (deviation == 0 || (loss - mean) / deviation <= threshold) return "";
  return "the loss " + fixed(loss) + " is " + fixed((loss - mean) / deviation) +
         " standard deviations above the mean of the last " + std::to_string(before.size()) + ", " + fixed(mean);
}

// The first parameter whose gradient is not finite, as a sentence.
std::string bad_gradient(const ReplicaCore& core, std::size_t index) {
  const auto gradients = gradients_of(core.optimizers[index]);
  if (gradients.empty()) return "";
  const torch::NoGradGuard no_gradients;
  if (std::isfinite(torch::stack(at::_foreach_norm(gradients, 1)).sum().item().toDouble())) return "";
  for (const auto& item : core.module->named_parameters()) {
    const auto gradient = gradient_values(item.value());
    if (gradient.defined() && !torch::isfinite(gradient).all().item<bool>()) {
      return "the gradient of " + item.key() + " is not finite";
    }
  }
  return "a gradient of optimizer " + std::to_string(index) + " is not finite";
}

}  // namespace

bool watches_losses(const TrainerOptions& options) {
  return options.nonfinite != NonFinite::proceed || options.loss_spike_zscore > 0;
}

void judge_loss(const ReplicaCore& core, OptimizerTrack& track, const torch::Tensor& tensor, int64_t batch_idx) {
  const double loss = tensor.item().toDouble();
  const auto remark = remark_on(loss, track.losses, core.options().loss_spike_zscore);
  if (remark.empty()) {
    track.losses.push_back(loss);
    if (track.losses.size() > loss_window) track.losses.pop_front();
    return;
  }
  if (core.options().nonfinite == NonFinite::stop) throw std::runtime_error(remark + " (trainer.nonfinite = stop)");
  if (core.options().nonfinite == NonFinite::skip) {
    if (track.bad.empty()) track.bad = remark;
  } else if (std::isfinite(loss)) {
    core.outputs.note("warning: " + remark + " (epoch " + std::to_string(core.progress.epoch) + ", batch " +
                      std::to_string(batch_idx) + ")");
  }
}

nlohmann::json recent_losses(const std::vector<OptimizerTrack>& tracks) {
  auto all = nlohmann::json::array();
  for (const auto& track : tracks) all.push_back(track.losses);
  return all;
}

void restore_recent_losses(std::vector<OptimizerTrack>& tracks, const nlohmann::json& saved) {
  const auto is_list = [](const nlohmann::json& losses) {
    return losses.is_array() && losses.size() <= loss_window &&
           std::ranges::all_of(losses, [](const auto& loss) { return loss.is_number(); });
  };
  if (!saved.is_array() || !std::ranges::all_of(saved, is_list)) {
    throw UsageError("the checkpoint's recent_losses is damaged: it is not a list of losses for each optimizer");
  }
  for (std::size_t i = 0; i < std::min(saved.size(), tracks.size()); ++i) {
    tracks[i].losses = saved[i].get<std::deque<double>>();
  }
}

bool has_bad_numbers(const ReplicaCore& core, OptimizerTrack& track, std::size_t optimizer, bool looks_at_gradients) {
  const auto& options = core.options();
  if (options.nonfinite == NonFinite::proceed) return false;
  std::string bad = std::exchange(track.bad, "");
  if (bad.empty() && looks_at_gradients) bad = bad_gradient(core, optimizer);
  if (options.nonfinite == NonFinite::stop) {
    if (bad.empty()) return false;
    throw std::runtime_error(bad + " (trainer.nonfinite = stop)");
  }
  if (core.setup.peers) {
    for (const auto& said : core.peers()->all_gather_bytes(bad)) {
      if (bad.empty()) bad = said;
    }
  }
  if (bad.empty()) {
    track.skipped_in_row = 0;
    return false;
  }
  if (++track.skipped_in_row > options.max_skipped_steps) {
    throw std::runtime_error(bad + ", and " + std::to_string(options.max_skipped_steps) +
                             " steps before it were left out (trainer.nonfinite = skip, trainer.max_skipped_steps)");
  }
  core.outputs.note("warning: a step is left out: " + bad + " (epoch " + std::to_string(core.progress.epoch) +
                    ", batch " + std::to_string(core.progress.batch_idx) + ")");
  return true;
}

}  // namespace troupe
