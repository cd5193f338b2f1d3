#include "troupe/runtime/replica/boundary_hooks.hpp"

#include "troupe/base/exception_text.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

namespace {

// Runs `action`; what it throws joins what others threw.
template <class Action>
void add_problem(std::string& problems, const std::string& hook, Action action) {
  const std::string text = text_thrown_by(action);
  if (!text.empty()) problems += (problems.empty() ? "" : "; ") + hook + ": " + text;
}

}  // namespace

void run_data_hook(const ReplicaCore& core, Hook hook) {
  if (!core.setup.datamodule || (hook != Hook::prepare_data && hook != Hook::setup)) return;
  DataModule& data = *core.setup.datamodule.get();
  const PhaseScope phase(id_of(data_owner, hook));
  switch (hook) {
    case Hook::prepare_data:
      if (core.prepares_data()) data.prepare_data();
      break;
    case Hook::setup:
      if (core.is_first_of_process()) data.setup(core.setup.stage);
      if (core.setup.peers) core.peers()->wait_for_all();  // workers of one process share it
      break;
    default: break;
  }
}

void run_callback_hook(const ReplicaCore& core, Hook hook) {
  switch (hook) {
    case Hook::setup:
      core.call_callbacks(hook, [&](Callback& callback) { callback.setup(core.run, *core.module, core.setup.stage); });
      break;
#define TROUPE_RUN_CALLBACKS(name)                                                                 \
  case Hook::name:                                                                                 \
    core.call_callbacks(hook, [&](Callback& callback) { callback.name(core.run, *core.module); }); \
    break;
#define TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES(name, arguments, owners) \
  TROUPE_TAKES(none, arguments)(TROUPE_OF_MODULE_##owners(TROUPE_RUN_CALLBACKS(name)))
      TROUPE_HOOKS(TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES)
#undef TROUPE_RUN_CALLBACKS_BETWEEN_BATCHES
#undef TROUPE_RUN_CALLBACKS
    default: break;  // hooks of the module alone
  }
}

void run_module_hook(const ReplicaCore& core, Hook hook) {
  Module& module = *core.module;
  const bool own = core.is_used(hook);
  switch (hook) {
    case Hook::prepare_data:
      if (own && core.prepares_data()) module.prepare_data();
      if (core.setup.peers) core.peers()->wait_for_all();
      break;
    case Hook::setup:
      if (own) module.setup(core.setup.stage);
      break;
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

void Teardown::run() {
  while (torn_down_ < core_.callbacks.size() + 2) {
    const std::size_t next = torn_down_++;
    if (next == 0) {
      if (!core_.setup.datamodule || !core_.is_first_of_process()) continue;
      const PhaseScope phase(id_of(data_owner, Hook::teardown));
      core_.setup.datamodule->teardown(core_.setup.stage);
    } else if (next <= core_.callbacks.size()) {
      const PhaseScope phase(id_of(first_callback_owner + static_cast<HookOwner>(next - 1), Hook::teardown));
      core_.callbacks[next - 1]->teardown(core_.run, *core_.module, core_.setup.stage);
    } else if (core_.is_used(Hook::teardown)) {
      const PhaseScope phase(id_of(module_owner, Hook::teardown));
      core_.module->teardown(core_.setup.stage);
    }
  }
  is_done_ = true;
}

std::string Teardown::run_quietly() {
  std::string problems;
  while (!is_done_) add_problem(problems, "teardown", [&] { run(); });
  return problems;
}

std::string report_quietly(const ReplicaCore& core, const Failure& failure) {
  if (!core.module) return "";
  std::string problems;
  for (const auto& callback : core.callbacks) {
    add_problem(problems, "on_exception", [&] { callback->on_exception(core.run, *core.module, failure); });
  }
  if (core.setup.datamodule && core.is_first_of_process()) {
    add_problem(problems, "on_exception", [&] { core.setup.datamodule->on_exception(failure); });
  }
  return problems;
}

}  // namespace troupe
