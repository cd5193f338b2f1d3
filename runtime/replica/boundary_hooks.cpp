// Hooks between batches: each with its callbacks' counterparts first, then the module's own where it is overridden.
#include "troupe/base/exception_text.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

namespace troupe {

namespace {

bool ends_an_epoch(Hook hook) {
  return hook == Hook::on_train_epoch_end || hook == Hook::on_validation_epoch_end || hook == Hook::on_test_epoch_end;
}

// Runs `action`; what it throws joins what others threw.
template <class Action>
void add_problem(std::string& problems, const std::string& hook, Action action) {
  const std::string text = text_thrown_by(action);
  if (!text.empty()) problems += (problems.empty() ? "" : "; ") + hook + ": " + text;
}

bool is_before_evaluation(Hook hook) {
  return hook == Hook::on_validation_epoch_start || hook == Hook::on_test_epoch_start ||
         hook == Hook::on_predict_epoch_start;
}

}  // namespace

void Replica::run(Hook hook) {
  collect_part_metrics();
  // Hooks at the end of an epoch see its reduced metrics.
  if (ends_an_epoch(hook)) flush_epoch();
  set_origin(hook, /*step_allowed=*/false, /*on_step=*/false, /*batch_size=*/1);
  if (hook == Hook::teardown) return tear_down();
  // The sanity check is a validation between two hooks that callbacks alone have.
  if (hook == Hook::on_validation_model_eval && sanity_checking_) {
    current_name_ = "on_sanity_check_start";
    for (const auto& callback : callbacks_) callback->on_sanity_check_start(*this, *module_);
    current_name_ = "";
  }
  if (setup_.datamodule) run_data_hook(hook);
  if (!callbacks_.empty()) run_callback_hook(hook);
  run_module_hook(hook);
  // All ranks evaluate one model, also where each has gathered running means of its own since the last window.
  if (is_before_evaluation(hook) && setup_.peers) broadcast_buffers();
  if (hook == Hook::on_validation_model_train && sanity_checking_) {
    current_name_ = "on_sanity_check_end";
    for (const auto& callback : callbacks_) callback->on_sanity_check_end(*this, *module_);
    current_name_ = "";
  }
}

void Replica::run_data_hook(Hook hook) {
  DataModule& data = *setup_.datamodule.get();
  switch (hook) {
    case Hook::prepare_data:
      if (prepares_data()) data.prepare_data();
      break;
    case Hook::setup:
      if (is_first_of_process()) data.setup(setup_.stage);
      if (setup_.peers) setup_.peers->wait_for_all();  // workers of one process share it
      break;
    default: break;
  }
}

void Replica::run_callback_hook(Hook hook) {
  switch (hook) {
    case Hook::setup:
      for (const auto& callback : callbacks_) callback->setup(*this, *module_, setup_.stage);
      break;
#define TROUPE_RUN_CALLBACKS(name)                                           \
  case Hook::name:                                                           \
    for (const auto& callback : callbacks_) callback->name(*this, *module_); \
    break;
#define TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES(name, arguments, owners) \
  TROUPE_TAKES(none, arguments)(TROUPE_OF_MODULE_##owners(TROUPE_RUN_CALLBACKS(name)))
      TROUPE_HOOKS(TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES)
#undef TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES
#undef TROUPE_RUN_CALLBACKS
    default: break;  // hooks of the module alone
  }
}

void Replica::run_module_hook(Hook hook) {
  Module& module = *module_;
  const bool own = is_used(hook);
  switch (hook) {
    case Hook::prepare_data:
      if (own && prepares_data()) module.prepare_data();
      if (setup_.peers) setup_.peers->wait_for_all();
      break;
    case Hook::setup:
      if (own) module.setup(setup_.stage);
      break;
    case Hook::configure_callbacks: configure_callbacks(); break;
    case Hook::configure_optimizers: configure_optimizers(); break;
    // The library's own part of these is in their defaults, and in what release() puts back where they are not reached.
    case Hook::on_validation_model_eval:
      module.note_modes();
      module.on_validation_model_eval();
      break;
    case Hook::on_validation_model_train:
      module.on_validation_model_train();
      module.drop_noted_modes();
      break;
    case Hook::on_test_model_eval:
      module.note_modes();
      module.on_test_model_eval();
      break;
    case Hook::on_test_model_train:
      module.on_test_model_train();
      module.drop_noted_modes();
      break;
    case Hook::on_predict_model_eval:
      module.note_modes();
      module.on_predict_model_eval();
      break;
    case Hook::training_epoch_end:
      if (own) module.training_epoch_end(train_outputs_);
      break;
    case Hook::validation_epoch_end:
      if (own) module.validation_epoch_end(eval_outputs_);
      break;
    case Hook::test_epoch_end:
      if (own) module.test_epoch_end(eval_outputs_);
      break;
#define TROUPE_RUN_OWN(name) \
  case Hook::name:           \
    if (own) module.name();  \
    break;
#define TROUPE_RUN_OWN_BETWEEN_BATCHES(name, arguments, owners) \
  TROUPE_TAKES(none, arguments)(TROUPE_OF_MODULE_##owners(TROUPE_RUN_OWN(name)))
      TROUPE_HOOKS(TROUPE_RUN_OWN_BETWEEN_BATCHES)
#undef TROUPE_RUN_OWN_BETWEEN_BATCHES
#undef TROUPE_RUN_OWN
    default: throw std::logic_error("not a boundary hook: " + std::string(to_string(hook)));
  }
}

// Each is called once, also when one throws and the others are left to tear_down_quietly.
void Replica::tear_down() {
  while (torn_down_ < callbacks_.size() + 2) {
    const std::size_t next = torn_down_++;
    if (next == 0) {
      if (setup_.datamodule && is_first_of_process()) setup_.datamodule->teardown(setup_.stage);
    } else if (next <= callbacks_.size()) {
      callbacks_[next - 1]->teardown(*this, *module_, setup_.stage);
    } else if (is_used(Hook::teardown)) {
      module_->teardown(setup_.stage);
    }
  }
  teardown_done_ = true;
}

std::string Replica::report_quietly(const Failure& failure) {
  if (!module_) return "";
  std::string problems;
  for (const auto& callback : callbacks_) {
    add_problem(problems, "on_exception", [&] { callback->on_exception(*this, *module_, failure); });
  }
  if (setup_.datamodule && is_first_of_process()) {
    add_problem(problems, "on_exception", [&] { setup_.datamodule->on_exception(failure); });
  }
  return problems;
}

std::string Replica::tear_down_quietly() {
  std::string problems;
  while (module_ && !teardown_done_) {
    set_origin(Hook::teardown, /*step_allowed=*/false, /*on_step=*/false, /*batch_size=*/1);
    add_problem(problems, "teardown", [&] { tear_down(); });
  }
  return problems;
}

}  // namespace troupe
