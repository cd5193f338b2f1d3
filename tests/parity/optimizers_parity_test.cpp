// 50 steps of each optimizer against PyTorch's, from the same weights and batches: losses and weights to 1e-10 in
// float64 and to 1e-5 in float32. LBFGS alone divides by differences of gradients, which makes rounding errors of
// float32 grow: its losses agree to 1e-4 there and its weights to 1e-2.
#include "tests/parity/parity.hpp"
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

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>

namespace troupe {
namespace {

using namespace optim;
using Optimizer = std::shared_ptr<torch::optim::Optimizer>;

struct OptimizerCase {
  const char* name;
  std::function<Optimizer(Parameters)> make;
};

// "groups" of the script.
template <class Group>
std::vector<Group> two_groups(const Parameters& p) {
  return {{.params = {p[0], p[1]}, .lr = 0.02}, {.params = {p[2], p[3]}}};
}

std::vector<OptimizerCase> optimizer_cases() {
  return {
      {"sgd", [](Parameters p) { return sgd(p, {.lr = 0.1}); }},
      {"sgd_momentum",
       [](Parameters p) { return sgd(p, {.lr = 0.05, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01}); }},
      {"sgd_nesterov", [](Parameters p) { return sgd(p, {.lr = 0.05, .momentum = 0.9, .nesterov = true}); }},
      {"sgd_maximize", [](Parameters p) { return sgd(p, {.lr = 0.001, .maximize = true}); }},
      {"adam", [](Parameters p) { return adam(p, {.lr = 0.01, .weight_decay = 0.1}); }},
      {"adam_amsgrad",
       [](Parameters p) {
         return adam(p, {.lr = 0.01, .betas = {0.8, 0.95}, .amsgrad = true});
       }},
      {"adam_groups",
       [](Parameters p) {
         return adam({{.params = {p[0], p[1]}, .lr = 0.02}, {.params = {p[2], p[3]}}}, {.lr = 0.005});
       }},
      {"adam_maximize", [](Parameters p) { return adam(p, {.lr = 0.001, .maximize = true}); }},
      {"adamw", [](Parameters p) { return adamw(p, {.lr = 0.01}); }},
      {"adamw_groups",
       [](Parameters p) {
         return adamw({{.params = {p[0], p[1]}, .lr = 0.02}, {.params = {p[2], p[3]}}}, {.lr = 0.005, .amsgrad = true});
       }},
      {"adagrad",
       [](Parameters p) {
         return adagrad(p, {.lr = 0.05, .lr_decay = 0.01, .weight_decay = 0.01, .initial_accumulator_value = 0.1});
       }},
      {"adagrad_maximize", [](Parameters p) { return adagrad(p, {.lr = 0.005, .maximize = true}); }},
      {"rmsprop", [](Parameters p) { return rmsprop(p, {.lr = 0.005}); }},
      {"rmsprop_full",
       [](Parameters p) {
         return rmsprop(p, {.lr = 0.002, .alpha = 0.9, .weight_decay = 0.01, .momentum = 0.8, .centered = true});
       }},
      {"rmsprop_maximize", [](Parameters p) { return rmsprop(p, {.lr = 0.0005, .maximize = true}); }},
      {"adamax", [](Parameters p) { return adamax(p, {.lr = 0.01}); }},
      {"adamax_full",
       [](Parameters p) {
         return adamax(two_groups<AdamaxGroup>(p),
                       {.lr = 0.005, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1});
       }},
      {"adamax_maximize", [](Parameters p) { return adamax(p, {.lr = 0.001, .maximize = true}); }},
      {"nadam", [](Parameters p) { return nadam(p, {.lr = 0.01}); }},
      {"nadam_full",
       [](Parameters p) {
         return nadam(two_groups<NadamGroup>(p),
                      {.lr = 0.005, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1, .momentum_decay = 0.01});
       }},
      {"nadam_decoupled",
       [](Parameters p) {
         return nadam(p, {.lr = 0.001, .weight_decay = 0.1, .decoupled_weight_decay = true, .maximize = true});
       }},
      {"radam", [](Parameters p) { return radam(p, {.lr = 0.01}); }},
      {"radam_full",
       [](Parameters p) {
         return radam(two_groups<RadamGroup>(p), {.lr = 0.005, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1});
       }},
      {"radam_decoupled",
       [](Parameters p) {
         return radam(p, {.lr = 0.001, .weight_decay = 0.1, .decoupled_weight_decay = true, .maximize = true});
       }},
      {"adadelta", [](Parameters p) { return adadelta(p); }},
      {"adadelta_full",
       [](Parameters p) {
         return adadelta(two_groups<AdadeltaGroup>(p), {.lr = 2, .rho = 0.8, .eps = 1e-5, .weight_decay = 0.1});
       }},
      {"adadelta_maximize", [](Parameters p) { return adadelta(p, {.lr = 0.1, .maximize = true}); }},
      {"asgd", [](Parameters p) { return asgd(p, {.lr = 0.05}); }},
      {"asgd_full",
       [](Parameters p) {
         return asgd(two_groups<AsgdGroup>(p),
                     {.lr = 0.05, .lambd = 0.01, .alpha = 0.6, .t0 = 10, .weight_decay = 0.1});
       }},
      {"asgd_maximize", [](Parameters p) { return asgd(p, {.lr = 0.001, .maximize = true}); }},
      {"rprop", [](Parameters p) { return rprop(p, {.lr = 0.01}); }},
      {"rprop_full",
       [](Parameters p) {
         return rprop(two_groups<RpropGroup>(p), {.lr = 0.005, .etas = {0.4, 1.3}, .step_sizes = {1e-4, 0.02}});
       }},
      {"rprop_maximize",
       [](Parameters p) {
         return rprop(p, {.lr = 0.001, .step_sizes = {1e-6, 1e-2}, .maximize = true});
       }},
      {"lion", [](Parameters p) { return lion(p, {.lr = 0.003}); }},
      {"lion_full",
       [](Parameters p) {
         return lion(two_groups<LionGroup>(p), {.lr = 0.002, .betas = {0.8, 0.95}, .weight_decay = 0.1});
       }},
      {"adafactor", [](Parameters p) { return adafactor(p, {.lr = 0.05}); }},
      {"adafactor_full",
       [](Parameters p) {
         return adafactor(two_groups<AdafactorGroup>(p),
                          {.lr = 0.1, .beta2_decay = -0.6, .eps = 1e-2, .d = 1.5, .weight_decay = 0.1});
       }},
      {"adafactor_maximize", [](Parameters p) { return adafactor(p, {.lr = 0.001, .maximize = true}); }},
      {"muon", [](Parameters p) { return muon(p, {.lr = 0.01}); }},
      {"muon_rms",
       [](Parameters p) {
         return muon(p, {.lr = 0.02,
                         .weight_decay = 0.01,
                         .momentum = 0.8,
                         .nesterov = false,
                         .ns_steps = 4,
                         .adjust_lr_fn = AdjustLrFn::match_rms_adamw,
                         .adamw_lr = 0.002,
                         .adamw_weight_decay = 0,
                         .adamw_betas = {0.8, 0.95},
                         .adamw_eps = 1e-6});
       }},
      {"muon_but_last",
       [](Parameters p) {
         return muon(
             {{.params = {p[2]}, .lr = 0.003, .weight_decay = 0.01, .use_muon = false}, {.params = {p[0], p[1], p[3]}}},
             {.lr = 0.02, .adamw_lr = 0.003, .adamw_weight_decay = 0.01});
       }},
      {"schedule_free", [](Parameters p) { return schedule_free_adamw(p, {.lr = 0.01}); }},
      {"schedule_free_full",
       [](Parameters p) {
         return schedule_free_adamw(two_groups<ScheduleFreeAdamwGroup>(p), {.lr = 0.01,
                                                                            .betas = {0.8, 0.95},
                                                                            .eps = 1e-6,
                                                                            .weight_decay = 0.1,
                                                                            .warmup_steps = 10,
                                                                            .r = 1,
                                                                            .weight_lr_power = 1});
       }},
      {"schedule_free_eval", [](Parameters p) { return schedule_free_adamw(p, {.lr = 0.01, .warmup_steps = 5}); }},
      {"lbfgs", [](Parameters p) { return lbfgs(p, {.lr = 0.3, .max_iter = 4, .history_size = 6}); }},
      {"lbfgs_wolfe",
       [](Parameters p) { return lbfgs(p, {.max_iter = 5, .line_search_fn = LineSearchFn::strong_wolfe}); }},
  };
}

const Tensors& optimizers_reference() {
  static const auto reference = pytorch_reference("optimizers.py");
  return reference;
}

TEST(OptimizerParity, LossesAndWeightsArePyTorchs) {
  const auto& reference = optimizers_reference();
  for (const auto& c : optimizer_cases()) {
    for (const auto& type : number_types) {
      const auto key = std::string(c.name) + "." + type.name;
      SCOPED_TRACE(key);
      torch::nn::Sequential net(torch::nn::Linear(6, 9), torch::nn::Tanh(), torch::nn::Linear(9, 3));
      net->to(type.type);
      start_from(*net, reference);
      const auto optimizer = c.make(net->parameters());
      const auto x = reference.at("x").to(type.type), y = reference.at("y").to(type.type);
      std::vector<torch::Tensor> losses;
      for (int64_t i = 0; i < x.size(0); ++i) {
        const int64_t batch = key.starts_with("lbfgs") ? 0 : i;
        const auto loss = optimizer->step([&] {
          optimizer->zero_grad();
          auto value = torch::mse_loss(net->forward(x[batch]), y[batch]);
          value.backward();
          return value;
        });
        losses.push_back(loss.detach());
      }
      if (std::string(c.name).ends_with("_eval")) dynamic_cast<EvaluationWeights&>(*optimizer).eval();
      const bool grows = key.starts_with("lbfgs") && type.type == torch::kFloat32;
      expect_losses(losses, reference, key, grows ? 1e-4 : type.tolerance);
      expect_weights(*net, reference, key, grows ? 1e-2 : type.tolerance);
    }
  }
}

// MATRICES of the script: those of a shape are orthogonalized together, as many as fit, and the large one in blocks.
TEST(OptimizerParity, MuonsMatricesAreThoseThatPyTorchStepsOneByOne) {
  const auto& reference = optimizers_reference();
  struct Matrices {
    int64_t count, rows, columns;
  };
  Parameters matrices, targets;
  for (const auto& [count, rows, columns] : std::array{Matrices{3, 24, 40}, Matrices{2, 40, 24}, Matrices{2, 17, 17},
                                                       Matrices{5, 330, 320}, Matrices{1, 530, 520}}) {
    const auto base = reference.at("matrix." + std::to_string(rows) + "x" + std::to_string(columns));
    for (int64_t i = 0; i < count; ++i) {
      matrices.push_back(base.roll(i, 0).requires_grad_());
      targets.push_back(base.roll(-1 - i, 1));
    }
  }
  const auto optimizer = muon(matrices, {.lr = 0.02});
  for (int step = 0; step < 3; ++step) {
    for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i].mutable_grad() = matrices[i].detach() - targets[i];
    optimizer->step();
  }
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const auto name = "muon_matrices." + std::to_string(i);
    expect_close(matrices[i].detach(), reference.at(name), 1e-10, name);
  }
}

}  // namespace
}  // namespace troupe
