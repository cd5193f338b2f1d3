#include "troupe/modules/optim/optimizer_name.hpp"

#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/sgd.hpp"

#include <c10/util/Type.h>

#include <typeinfo>

namespace troupe::optim {

std::string optimizer_name(const torch::optim::Optimizer& optimizer) {
  const auto& type = typeid(optimizer);
  if (type == typeid(FusedAdam)) return "Adam";
  if (type == typeid(FusedAdamW)) return "AdamW";
  if (type == typeid(FusedSgd)) return "SGD";
  if (type == typeid(FusedAdagrad)) return "Adagrad";
  if (type == typeid(ForeachRmsprop)) return "RMSprop";
  const auto name = c10::demangle(type.name());
  const auto scope = name.rfind("::");
  return scope == std::string::npos ? name : name.substr(scope + 2);
}

}  // namespace troupe::optim
