#include "troupe/modules/optim/lbfgs.hpp"

namespace troupe::optim {

std::shared_ptr<torch::optim::LBFGS> lbfgs(Parameters parameters, LbfgsOptions options) {
  const auto at_least_one = [](const char* option, int64_t value) {
    require_option(value >= 1, "lbfgs", option, value, "1 or more");
  };
  require_option(options.lr >= 0, "lbfgs", "lr", options.lr, "a number from 0 on");
  at_least_one("max_iter", options.max_iter);
  at_least_one("max_eval", options.max_eval.value_or(1));
  at_least_one("history_size", options.history_size);
  if (parameters.empty()) throw UsageError("lbfgs: there is no parameter to optimize");
  check_parameters("lbfgs", {}, parameters);
  auto libtorch = torch::optim::LBFGSOptions(options.lr)
                      .max_iter(options.max_iter)
                      .max_eval(options.max_eval.value_or(options.max_iter * 5 / 4))
                      .tolerance_grad(options.tolerance_grad)
                      .tolerance_change(options.tolerance_change)
                      .history_size(options.history_size);
  if (options.line_search_fn != LineSearchFn::none) libtorch.line_search_fn(name_of(options.line_search_fn));
  try {
    return std::make_shared<torch::optim::LBFGS>(std::move(parameters), libtorch);
  } catch (const c10::Error& error) {
    throw UsageError(std::string("lbfgs: ") + error.what_without_backtrace());
  }
}

}  // namespace troupe::optim
