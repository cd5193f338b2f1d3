// Muon: steps of matrices that are made orthogonal.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"
#include "troupe/modules/options/choices.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// How Muon's lr depends on the shape [a, b] of a matrix.
enum class AdjustLrFn {
  original,  ///< times sqrt(max(1, a / b))
  /// Times 0.2 sqrt(max(a, b)), with which lr and weight_decay can be AdamW's (Liu et al. 2025,
  /// https://arxiv.org/abs/2502.16982).
  match_rms_adamw,
};
TROUPE_CHOICES(AdjustLrFn, {original, "original"}, {match_rms_adamw, "match_rms_adamw"},
               {original, "none", ::troupe::ChoiceUse::accepted})

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Muon.html). Those of what
/// Muon does not take, which AdamW takes, have `adamw` in their names.
struct MuonOptions {
  double lr = 1e-3;                                                   ///< learning rate, >= 0
  double weight_decay = 0.1;                                          ///< share of a parameter per step, times lr; >= 0
  double momentum = 0.95;                                             ///< in [0, 1)
  bool nesterov = true;                                               ///< look ahead along the momentum
  std::array<double, 3> ns_coefficients = {3.4445, -4.7750, 2.0315};  ///< of the Newton-Schulz iteration
  double eps = 1e-7;                                                  ///< least norm to divide by, >= 0
  int64_t ns_steps = 5;                                               ///< iterations, 1 to 99
  AdjustLrFn adjust_lr_fn = AdjustLrFn::original;
  /// False, for a group: AdamW takes its matrices too, such as embeddings and the last layer.
  bool use_muon = true;
  std::optional<double> adamw_lr = std::nullopt;            ///< unset: lr
  std::optional<double> adamw_weight_decay = std::nullopt;  ///< unset: weight_decay
  std::pair<double, double> adamw_betas = {0.9, 0.999};     ///< each in [0, 1)
  double adamw_eps = 1e-8;                                  ///< >= 0
};

/// A group of parameters; options that are not set are those of the optimizer. If use_muon is false, lr and
/// weight_decay of the group are AdamW's.
struct MuonGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<double> momentum = std::nullopt;
  std::optional<bool> nesterov = std::nullopt;
  std::optional<std::array<double, 3>> ns_coefficients = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<int64_t> ns_steps = std::nullopt;
  std::optional<AdjustLrFn> adjust_lr_fn = std::nullopt;
  std::optional<bool> use_muon = std::nullopt;
  std::optional<double> adamw_lr = std::nullopt;
  std::optional<double> adamw_weight_decay = std::nullopt;
  std::optional<std::pair<double, double>> adamw_betas = std::nullopt;
  std::optional<double> adamw_eps = std::nullopt;
};

/// In a group of the optimizer lr and weight_decay are those of its parameters, whichever way they are stepped.
struct MuonKernel {
  using Options = MuonOptions;
  static constexpr const char* name = "muon";
  static constexpr bool mixes_elements = true;
  static constexpr std::array<StateName, 4> states = {
      {{"step", StateKind::step}, {"momentum_buffer"}, {"exp_avg"}, {"exp_avg_sq"}}};
  static bool has_state(const Options& options, std::size_t state, const torch::Tensor& parameter);
  static void check(const Options& options);
  static void check_parameter(const Options& options, const torch::Tensor& parameter);
  static double* momentum(Options& options);
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): the momentum of each matrix is brought near
/// the closest orthogonal one, in bfloat16. Parameters of other than two dimensions are stepped by AdamW; so should
/// embeddings and the last layer, which the caller names:
///
///     return optim::muon(*this, {{"wte.*|wpe.*", {.use_muon = false}}}, {.lr = 0.02, .adamw_lr = 3e-4});
///
/// Steps are those of torch.optim.Muon for matrices and of torch.optim.AdamW(fused=True) for the rest. The matrices of
/// a group are one group of the optimizer, and the rest a further one, each with a learning rate of its own for
/// schedulers. A step looks at all elements of a matrix, so that strategies that divide parameters refuse it.
using Muon = KernelOptimizer<MuonKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<Muon> muon(Parameters parameters, MuonOptions options = {});
std::shared_ptr<Muon> muon(std::vector<MuonGroup> groups, MuonOptions options = {});
std::shared_ptr<Muon> muon(torch::nn::Module& module, NamedGroups<MuonGroup> groups = {}, MuonOptions options = {});

}  // namespace troupe::optim
