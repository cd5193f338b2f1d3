#include "troupe/modules/optim/optimizer_name.hpp"

#include "troupe/base/type_name.hpp"
#include "troupe/modules/optim/adadelta.hpp"
#include "troupe/modules/optim/adafactor.hpp"
#include "troupe/modules/optim/adagrad.hpp"
#include "troupe/modules/optim/adam.hpp"
#include "troupe/modules/optim/adamax.hpp"
#include "troupe/modules/optim/asgd.hpp"
#include "troupe/modules/optim/lion.hpp"
#include "troupe/modules/optim/muon.hpp"
#include "troupe/modules/optim/nadam.hpp"
#include "troupe/modules/optim/radam.hpp"
#include "troupe/modules/optim/rmsprop.hpp"
#include "troupe/modules/optim/rprop.hpp"
#include "troupe/modules/optim/schedule_free.hpp"
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
  if (type == typeid(ForeachAdafactor)) return "Adafactor";
  if (type == typeid(Muon)) return "Muon";
  if (type == typeid(ScheduleFreeAdamw)) return "ScheduleFreeAdamW";
  if (type == typeid(ForeachAdadelta)) return "Adadelta";
  if (type == typeid(ForeachAdamax)) return "Adamax";
  if (type == typeid(ForeachAsgd)) return "ASGD";
  if (type == typeid(ForeachLion)) return "Lion";
  if (type == typeid(ForeachNadam)) return "NAdam";
  if (type == typeid(ForeachRadam)) return "RAdam";
  if (type == typeid(ForeachRprop)) return "Rprop";
  return type_name(type);
}

}  // namespace troupe::optim
