// The names of all hooks, and which of them a module overrides.
#pragma once

#include <bitset>
#include <cstddef>
#include <string_view>
#include <type_traits>

/// Every hook and step of a module, in no particular order (modules/hook_order.hpp has the order). `X(name)` is called
/// for each.
// clang-format off
#define TROUPE_HOOKS(X) \
  X(prepare_data) X(configure_callbacks) \
  X(on_fit_start) X(setup) X(configure_optimizers) X(on_pretrain_routine_start) X(on_pretrain_routine_end) \
  X(on_train_start) X(on_train_end) X(on_fit_end) X(teardown) \
  X(on_epoch_start) X(on_epoch_end) X(on_train_epoch_start) X(training_epoch_end) X(on_train_epoch_end) \
  X(on_train_batch_start) X(on_before_batch_transfer) X(transfer_batch_to_device) X(on_after_batch_transfer) \
  X(training_step) X(training_step_end) X(lr_scheduler_step) \
  X(on_before_zero_grad) X(optimizer_zero_grad) X(on_before_backward) X(backward) X(on_after_backward) \
  X(on_before_optimizer_step) X(optimizer_step) X(on_train_batch_end) \
  X(on_validation_model_eval) X(on_validation_start) X(on_validation_epoch_start) X(on_validation_batch_start) \
  X(validation_step) X(validation_step_end) X(on_validation_batch_end) X(validation_epoch_end) X(on_validation_epoch_end) \
  X(on_validation_end) X(on_validation_model_train) \
  X(on_test_model_eval) X(on_test_start) X(on_test_epoch_start) X(on_test_batch_start) X(test_step) X(test_step_end) \
  X(on_test_batch_end) X(test_epoch_end) X(on_test_epoch_end) X(on_test_end) X(on_test_model_train) \
  X(on_predict_model_eval) X(on_predict_start) X(on_predict_epoch_start) X(on_predict_batch_start) X(predict_step) \
  X(on_predict_batch_end) X(on_predict_epoch_end) X(on_predict_end)
// clang-format on

namespace troupe {

#define TROUPE_HOOK_ENUMERATOR(name) name,
/// One enumerator per hook, called like the hook.
enum class Hook : unsigned char { TROUPE_HOOKS(TROUPE_HOOK_ENUMERATOR) };
#undef TROUPE_HOOK_ENUMERATOR

#define TROUPE_HOOK_COUNT(name) +1
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
#define TROUPE_HOOK_IS_OVERRIDDEN(name)                                  \
  if constexpr (requires { hooks_detail::class_of(&Derived::name); }) {  \
    using Declaring = decltype(hooks_detail::class_of(&Derived::name));  \
    if constexpr (!std::is_same_v<Declaring, Base>) set.add(Hook::name); \
  } else {                                                               \
    set.add(Hook::name);                                                 \
  }
  TROUPE_HOOKS(TROUPE_HOOK_IS_OVERRIDDEN)
#undef TROUPE_HOOK_IS_OVERRIDDEN
  return set;
}

}  // namespace troupe
