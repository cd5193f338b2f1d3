// The table of all hooks, and which of them a module overrides.
#pragma once

#include <bitset>
#include <cstddef>
#include <string_view>
#include <type_traits>

/// Every hook and step, in no particular order (modules/hook_order.hpp has the order in a run). Calls
/// `X(name, arguments, owners)` for each; what dispatches hooks, and LambdaCallback, is generated from this table.
///
/// `arguments`, beside the run and the module that a callback's hook gets:
/// - none: no others; runs between batches. none_in_batch: no others; runs within a training batch.
/// - outputs: those of all steps of an epoch.
/// - batch, batch_end: of an evaluation's batch; batch_end has the step's output in front.
/// - step: training_step and its siblings. transfer: a batch that is moved to the device.
/// - other: called by hand, at a place of its own in runtime/replica/.
///
/// `owners`: the class that has it, `module` or `callbacks`; `both`, callbacks before the module; `data`, the module
/// unless the data module overrides it; `all`, the data module, callbacks and the module (prepare_data: no callbacks).
///
/// LambdaCallbackOptions has its members in this order, and users initialize them in it.
// clang-format off
#define TROUPE_HOOKS(X) \
  X(prepare_data, other, all) \
  X(configure_callbacks, other, module) \
  X(setup, other, all) \
  X(teardown, other, all) \
  X(configure_optimizers, other, module) \
  X(on_fit_start, none, both) \
  X(on_fit_end, none, both) \
  X(on_pretrain_routine_start, none, both) \
  X(on_pretrain_routine_end, none, both) \
  X(on_sanity_check_start, none, callbacks) \
  X(on_sanity_check_end, none, callbacks) \
  X(on_train_start, none, both) \
  X(on_train_end, none, both) \
  X(on_epoch_start, none, both) \
  X(on_epoch_end, none, both) \
  X(on_train_epoch_start, none, both) \
  X(training_epoch_end, outputs, module) \
  X(on_train_epoch_end, none, both) \
  X(on_train_batch_start, other, both) \
  X(on_before_batch_transfer, transfer, data) \
  X(transfer_batch_to_device, transfer, data) \
  X(on_after_batch_transfer, transfer, data) \
  X(training_step, step, module) \
  X(training_step_end, other, module) \
  X(lr_scheduler_step, other, module) \
  X(on_before_zero_grad, other, both) \
  X(optimizer_zero_grad, other, module) \
  X(on_before_backward, other, both) \
  X(backward, other, module) \
  X(on_after_backward, none_in_batch, both) \
  X(on_before_optimizer_step, other, both) \
  X(optimizer_step, other, module) \
  X(on_train_batch_end, other, both) \
  X(on_validation_model_eval, other, module) \
  X(on_validation_start, none, both) \
  X(on_validation_end, none, both) \
  X(on_validation_epoch_start, none, both) \
  X(on_validation_batch_start, batch, both) \
  X(validation_step, step, module) \
  X(validation_step_end, other, module) \
  X(on_validation_batch_end, batch_end, both) \
  X(validation_epoch_end, outputs, module) \
  X(on_validation_epoch_end, none, both) \
  X(on_validation_model_train, other, module) \
  X(on_test_model_eval, other, module) \
  X(on_test_start, none, both) \
  X(on_test_end, none, both) \
  X(on_test_epoch_start, none, both) \
  X(on_test_batch_start, batch, both) \
  X(test_step, step, module) \
  X(test_step_end, other, module) \
  X(on_test_batch_end, batch_end, both) \
  X(test_epoch_end, outputs, module) \
  X(on_test_epoch_end, none, both) \
  X(on_test_model_train, other, module) \
  X(on_predict_model_eval, other, module) \
  X(on_predict_start, none, both) \
  X(on_predict_end, none, both) \
  X(on_predict_epoch_start, none, both) \
  X(on_predict_batch_start, batch, both) \
  X(predict_step, step, module) \
  X(on_predict_batch_end, batch_end, both) \
  X(on_predict_epoch_end, none, both)

// A row's `owners` and `arguments` as conditions: `TROUPE_OF_MODULE_##owners(text)` is the text or nothing, and so is
// `TROUPE_TAKES(none, arguments)(text)`. A kind of arguments
// that code is generated for needs a line below.
#define TROUPE_OF_MODULE_module(...) __VA_ARGS__
#define TROUPE_OF_MODULE_both(...) __VA_ARGS__
#define TROUPE_OF_MODULE_data(...) __VA_ARGS__
#define TROUPE_OF_MODULE_all(...) __VA_ARGS__
#define TROUPE_OF_MODULE_callbacks(...)
#define TROUPE_TAKES(kind, arguments) TROUPE_TAKES_SECOND(TROUPE_TAKES_##kind##_##arguments, TROUPE_LEAVE_OUT, )
#define TROUPE_TAKES_SECOND(...) TROUPE_TAKES_SECOND_OF(__VA_ARGS__)
#define TROUPE_TAKES_SECOND_OF(first, second, ...) second
#define TROUPE_TAKE(...) __VA_ARGS__
#define TROUPE_LEAVE_OUT(...)
#define TROUPE_TAKES_none_none , TROUPE_TAKE
#define TROUPE_TAKES_none_in_batch_none_in_batch , TROUPE_TAKE
#define TROUPE_TAKES_batch_batch , TROUPE_TAKE
#define TROUPE_TAKES_batch_end_batch_end , TROUPE_TAKE
#define TROUPE_TAKES_step_step , TROUPE_TAKE
#define TROUPE_TAKES_transfer_transfer , TROUPE_TAKE
// clang-format on

namespace troupe {

#define TROUPE_HOOK_ENUMERATOR(name, arguments, owners) TROUPE_OF_MODULE_##owners(name, )
/// The hooks that a module has, one enumerator per hook, called like the hook.
enum class Hook : unsigned char { TROUPE_HOOKS(TROUPE_HOOK_ENUMERATOR) };
#undef TROUPE_HOOK_ENUMERATOR

#define TROUPE_HOOK_COUNT(name, arguments, owners) TROUPE_OF_MODULE_##owners(+1)
inline constexpr std::size_t hook_count = 0 TROUPE_HOOKS(TROUPE_HOOK_COUNT);
#undef TROUPE_HOOK_COUNT

/// The hook's name as the user writes it.
std::string_view to_string(Hook hook);

/// A set of hooks. Hooks outside of a module's set are never called, so they cost nothing.
class HookSet {
 public:
  bool has(Hook hook) const { return bits_.test(static_cast<std::size_t>(hook)); }
  void add(Hook hook) { bits_.set(static_cast<std::size_t>(hook)); }
  void remove(Hook hook) { bits_.reset(static_cast<std::size_t>(hook)); }
  std::size_t size() const { return bits_.count(); }
  HookSet& operator|=(const HookSet& other) {
    bits_ |= other.bits_;
    return *this;
  }

 private:
  std::bitset<hook_count> bits_;
};

namespace hooks_detail {

template <class C, class R, class... Args>
C class_of(R (C::*)(Args...));
template <class C, class R, class... Args>
C class_of(R (C::*)(Args...) const);

}  // namespace hooks_detail

/// The hooks that `Derived` overrides, or a class between it and `Base`: `&Derived::hook` has the type of a member of
/// the class that declares it. Where that expression does not name one accessible function (the override is private,
/// or one of several overloads), the hook counts as overridden.
template <class Derived, class Base>
HookSet overridden_hooks() {
  HookSet set;
#define TROUPE_HOOK_IS_OVERRIDDEN(name, arguments, owners)                   \
  TROUPE_OF_MODULE_##owners(                                                 \
      if constexpr (requires { hooks_detail::class_of(&Derived::name); }) {  \
        using Declaring = decltype(hooks_detail::class_of(&Derived::name));  \
        if constexpr (!std::is_same_v<Declaring, Base>) set.add(Hook::name); \
      } else { set.add(Hook::name); })
  TROUPE_HOOKS(TROUPE_HOOK_IS_OVERRIDDEN)
#undef TROUPE_HOOK_IS_OVERRIDDEN
  return set;
}

}  // namespace troupe
