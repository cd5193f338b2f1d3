#include "troupe/runtime/summary/module_type_name.hpp"

#include "troupe/base/type_name.hpp"

namespace troupe {

std::string module_type_name(const torch::nn::Module& module) {
  auto [base, arguments] = local_type_name(module.name());
  if (base.ends_with("Impl") && base.size() > 4) base.resize(base.size() - 4);
  return base + arguments;
}

}  // namespace troupe
