// Losses and gradients that are not finite, or far from what they were, before an optimizer makes a step of them.
#include "troupe/modules/optim/drop_gradients.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

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

}  // namespace

bool Replica::watches_losses() const {
  return setup_.options.nonfinite != NonFinite::proceed || setup_.options.loss_spike_zscore > 0;
}

void Replica::judge_loss(const TrainStep& step) {
  Sequence& sequence = sequences_[step.optimizer];
  const double loss = step.loss.item().toDouble();
  const auto remark = remark_on(loss, sequence.losses, setup_.options.loss_spike_zscore);
  if (remark.empty()) {
    sequence.losses.push_back(loss);
    if (sequence.losses.size() > loss_window) sequence.losses.pop_front();
    return;
  }
  if (setup_.options.nonfinite == NonFinite::stop) throw std::runtime_error(remark + " (trainer.nonfinite = stop)");
  if (setup_.options.nonfinite == NonFinite::skip) {
    if (sequence.bad.empty()) sequence.bad = remark;
  } else if (std::isfinite(loss)) {
    note("warning: " + remark + " (epoch " + std::to_string(progress_.epoch) + ", batch " +
         std::to_string(step.batch_idx) + ")");
  }
}

nlohmann::json Replica::recent_losses() const {
  auto all = nlohmann::json::array();
  for (const auto& sequence : sequences_) all.push_back(sequence.losses);
  return all;
}

void Replica::restore_recent_losses(const nlohmann::json& saved) {
  const auto is_list = [](const nlohmann::json& losses) {
    return losses.is_array() && losses.size() <= loss_window &&
           std::ranges::all_of(losses, [](const auto& loss) { return loss.is_number(); });
  };
  if (!saved.is_array() || !std::ranges::all_of(saved, is_list)) {
    throw UsageError("the checkpoint's recent_losses is damaged: it is not a list of losses for each optimizer");
  }
  for (std::size_t i = 0; i < std::min(saved.size(), sequences_.size()); ++i) {
    sequences_[i].losses = saved[i].get<std::deque<double>>();
  }
}

// The first parameter whose gradient is not finite, as a sentence.
std::string Replica::bad_gradient(std::size_t index) const {
  const auto gradients = gradients_of(optimizers_[index]);
  if (gradients.empty()) return "";
  const torch::NoGradGuard no_gradients;
  if (std::isfinite(torch::stack(at::_foreach_norm(gradients, 1)).sum().item().toDouble())) return "";
  for (const auto& item : module_->named_parameters()) {
    const auto gradient = gradient_values(item.value());
    if (gradient.defined() && !torch::isfinite(gradient).all().item<bool>()) {
      return "the gradient of " + item.key() + " is not finite";
    }
  }
  return "a gradient of optimizer " + std::to_string(index) + " is not finite";
}

// Whether the step has to be left out; the same on all ranks. The scaler of float16 has a say of its own about
// gradients.
bool Replica::has_bad_numbers(std::size_t index) {
  const auto& options = setup_.options;
  if (options.nonfinite == NonFinite::proceed) return false;
  Sequence& sequence = sequences_[std::min(index, sequences_.size() - 1)];
  std::string bad = std::exchange(sequence.bad, "");
  if (bad.empty() && !scaler_) bad = bad_gradient(index);
  if (options.nonfinite == NonFinite::stop) {
    if (bad.empty()) return false;
    throw std::runtime_error(bad + " (trainer.nonfinite = stop)");
  }
  if (setup_.peers) {
    for (const auto& said : setup_.peers->all_gather_bytes(bad)) {
      if (bad.empty()) bad = said;
    }
  }
  if (bad.empty()) {
    sequence.skipped_in_row = 0;
    return false;
  }
  if (++sequence.skipped_in_row > options.max_skipped_steps) {
    throw std::runtime_error(bad + ", and " + std::to_string(options.max_skipped_steps) +
                             " steps before it were left out (trainer.nonfinite = skip, trainer.max_skipped_steps)");
  }
  note("warning: a step is left out: " + bad + " (epoch " + std::to_string(progress_.epoch) + ", batch " +
       std::to_string(progress_.batch_idx) + ")");
  return true;
}

}  // namespace troupe
