#include "troupe/modules/optim/optimizer_name.hpp"

#include "troupe/base/type_name.hpp"
#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/sgd.hpp"

#include <typeinfo>

namespace troupe::optim {

std::string optimizer_name(const torch::optim::Optimizer& optimizer) {
  const auto& type = typeid(optimizer);
  if (type == typeid(FusedAdam)) return "Adam";
  if (type == typeid(FusedAdamW)) return "AdamW";
  if (type == typeid(FusedSgd)) return "SGD";
  if (type == typeid(FusedAdagrad)) return "Adagrad";
  if (type == typeid(ForeachRmsprop)) return "RMSprop";
  return type_name(type);
}

}  // namespace troupe::optim
