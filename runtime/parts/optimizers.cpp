// The optimizers that `--optimizer` can name.
#include "troupe/modules/optim/adadelta.hpp"
#include "troupe/modules/optim/adafactor.hpp"
#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/adamax.hpp"
#include "troupe/modules/optim/asgd.hpp"
#include "troupe/modules/optim/lbfgs.hpp"
#include "troupe/modules/optim/lion.hpp"
#include "troupe/modules/optim/muon.hpp"
#include "troupe/modules/optim/nadam.hpp"
#include "troupe/modules/optim/radam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/rprop.hpp"
#include "troupe/modules/optim/schedule_free.hpp"
#include "troupe/modules/optim/sgd.hpp"
#include "troupe/runtime/parts/parts.hpp"

namespace troupe::optim {

TROUPE_OPTIONS(SgdOptions, (lr, "learning rate"), (momentum, "share of the last step that is made again"),
               (dampening, "share of a gradient that the momentum does not take"),
               (weight_decay, "share of a parameter that is added to its gradient"),
               (nesterov, "look ahead along the momentum"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdamOptions, (lr, "learning rate"), (betas, "decay of the running averages of gradients and squares"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (amsgrad, "divide by the largest second moment so far"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdamWOptions, (lr, "learning rate"), (betas, "decay of the running averages of gradients and squares"),
               (eps, "added to the denominator"),
               (weight_decay, "share of a parameter that a step takes off, times lr"),
               (amsgrad, "divide by the largest second moment so far"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(NadamOptions, (lr, "learning rate"), (betas, "decay of the running averages of gradients and squares"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (momentum_decay, "of the schedule of the momentum"),
               (decoupled_weight_decay, "take the decay off the parameter, times lr, as AdamW does"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(RadamOptions, (lr, "learning rate"), (betas, "decay of the running averages of gradients and squares"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (decoupled_weight_decay, "take the decay off the parameter, times lr, as AdamW does"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdamaxOptions, (lr, "learning rate"), (betas, "decay of the running averages of gradients and norms"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdagradOptions, (lr, "learning rate"), (lr_decay, "of the learning rate, a step"),
               (weight_decay, "share of a parameter that is added to its gradient"),
               (initial_accumulator_value, "first value of the sum of squares"), (eps, "added to the denominator"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdadeltaOptions, (lr, "learning rate"), (rho, "decay of the mean squares"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(AdafactorOptions, (lr, "bound of the rate, which falls with the root of the steps"),
               (beta2_decay, "power of the step in the decay of the squares"),
               (eps, "least scale of a parameter: PyTorch's eps[1]"), (d, "a step is clipped to this root mean square"),
               (weight_decay, "share of a parameter that a step takes off, times lr"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(AsgdOptions, (lr, "learning rate"), (lambd, "decay of the parameters"),
               (alpha, "power of the fall of the learning rate"), (t0, "averages begin after this many steps"),
               (weight_decay, "share of a parameter that is added to its gradient"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(LionOptions, (lr, "learning rate"), (betas, "of the step, and of the running average"),
               (weight_decay, "share of a parameter that a step takes off, times lr"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(MuonOptions, (lr, "learning rate"),
               (weight_decay, "share of a parameter that a step takes off, times lr"),
               (momentum, "share of the last steps' average that is kept"), (nesterov, "look ahead along the momentum"),
               (ns_coefficients, "of the Newton-Schulz iteration"), (eps, "least norm to divide by"),
               (ns_steps, "iterations, 1 to 99"), (adjust_lr_fn, "how lr depends on a matrix's shape"),
               (use_muon, "false: AdamW takes matrices too"),
               (adamw_lr, "learning rate of what is no matrix; none: lr"),
               (adamw_weight_decay, "weight decay of what is no matrix; none: weight_decay"),
               (adamw_betas, "betas of what is no matrix"), (adamw_eps, "eps of what is no matrix"))
TROUPE_OPTIONS(RmspropOptions, (lr, "learning rate"), (alpha, "decay of the mean square"),
               (eps, "added to the denominator"), (weight_decay, "share of a parameter that is added to its gradient"),
               (momentum, "share of the last step that is made again"), (centered, "divide by the estimated variance"),
               (maximize, "go up the gradient"))
TROUPE_OPTIONS(RpropOptions, (lr, "first step of each element"), (etas, "factors that shrink and grow a step"),
               (step_sizes, "smallest and largest step"), (maximize, "go up the gradient"))
TROUPE_OPTIONS(ScheduleFreeAdamwOptions, (lr, "learning rate"),
               (betas, "of the interpolation, and of the running average of squares"),
               (eps, "added to the denominator"), (weight_decay, "times lr and the weights that train"),
               (warmup_steps, "steps over which lr grows from 0"),
               (r, "power of the step in the weight of the average"),
               (weight_lr_power, "power of the largest lr in it"))
TROUPE_OPTIONS(LbfgsOptions, (lr, "length of a step"), (max_iter, "iterations a step"),
               (max_eval, "evaluations of the loss a step; none: max_iter * 5 / 4"),
               (tolerance_grad, "ends a step by the largest gradient"),
               (tolerance_change, "ends a step by the change of the loss or the parameters"),
               (history_size, "steps that the approximation looks back"), (line_search_fn, "how far a step goes"))

}  // namespace troupe::optim

namespace troupe {

namespace {

void add_optimizers(OptimizerRegistry& registry) {
  using namespace optim;
  registry.add<SgdOptions>({"sgd", "SGD with momentum, Nesterov's too"},
                           [](Module& m, const SgdOptions& o) { return sgd(m, {}, o); });
  registry.add<AdamOptions>({"adam", "Adam"}, [](Module& m, const AdamOptions& o) { return adam(m, {}, o); });
  registry.add<AdamWOptions>({"adamw", "Adam with decoupled weight decay"},
                             [](Module& m, const AdamWOptions& o) { return adamw(m, {}, o); });
  registry.add<NadamOptions>({"nadam", "Adam with Nesterov's momentum"},
                             [](Module& m, const NadamOptions& o) { return nadam(m, {}, o); });
  registry.add<RadamOptions>({"radam", "Adam with a rectified rate"},
                             [](Module& m, const RadamOptions& o) { return radam(m, {}, o); });
  registry.add<AdamaxOptions>({"adamax", "Adam by the infinity norm"},
                              [](Module& m, const AdamaxOptions& o) { return adamax(m, {}, o); });
  registry.add<AdagradOptions>({"adagrad", "Adagrad"},
                               [](Module& m, const AdagradOptions& o) { return adagrad(m, {}, o); });
  registry.add<AdadeltaOptions>({"adadelta", "Adadelta"},
                                [](Module& m, const AdadeltaOptions& o) { return adadelta(m, {}, o); });
  registry.add<AdafactorOptions>({"adafactor", "Adafactor, with the mean squares of rows and columns"},
                                 [](Module& m, const AdafactorOptions& o) { return adafactor(m, {}, o); });
  registry.add<AsgdOptions>({"asgd", "averaged SGD"}, [](Module& m, const AsgdOptions& o) { return asgd(m, {}, o); });
  registry.add<LionOptions>({"lion", "Lion, steps by signs of a running average"},
                            [](Module& m, const LionOptions& o) { return lion(m, {}, o); });
  registry.add<MuonOptions>({"muon", "Muon for matrices, AdamW for the rest"},
                            [](Module& m, const MuonOptions& o) { return muon(m, {}, o); });
  registry.add<RmspropOptions>({"rmsprop", "RMSprop"},
                               [](Module& m, const RmspropOptions& o) { return rmsprop(m, {}, o); });
  registry.add<RpropOptions>({"rprop", "steps by signs, for batches that are the whole data"},
                             [](Module& m, const RpropOptions& o) { return rprop(m, {}, o); });
  registry.add<ScheduleFreeAdamwOptions>(
      {"schedule_free_adamw", "AdamW without a schedule", {"adamw_schedule_free", "schedule_free"}},
      [](Module& m, const ScheduleFreeAdamwOptions& o) { return schedule_free_adamw(m, {}, o); });
  registry.add<LbfgsOptions>({"lbfgs", "LBFGS, which evaluates the loss several times a step"},
                             [](Module& m, const LbfgsOptions& o) -> OptimizerPtr {
                               return lbfgs(parameters_by_name("lbfgs", m, {}).back(), o);
                             });
}

}  // namespace

OptimizerRegistry& optimizer_registry() {
  static OptimizerRegistry registry("optimizer");
  static const bool is_filled = (add_optimizers(registry), true);
  (void)is_filled;
  return registry;
}

}  // namespace troupe
