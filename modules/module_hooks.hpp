// Which hooks a module type overrides; part of modules/module.hpp.
#pragma once

namespace troupe {

namespace hooks_detail {

// Deduced from an overload set too: exactly one of its members has the signature.
template <class C>
C class_of_short_step(StepOutput (C::*)(const Batch&, int64_t));
template <class C>
C class_of_long_step(StepOutput (C::*)(const Batch&, int64_t, int64_t));
template <class C>
C class_of_long_step(StepOutput (C::*)(const Batch&, int64_t, const StepOutput&));
template <class C>
C class_of_long_step(StepOutput (C::*)(const Batch&, int64_t, int64_t, const StepOutput&));

}  // namespace hooks_detail

template <std::derived_from<Module> M>
HookSet module_hooks() {
  HookSet set = overridden_hooks<M, Module>();
#define TROUPE_STEP_IS_OVERRIDDEN(name, arguments, owners)                     \
  TROUPE_TAKES(step, arguments)                                                \
  ({                                                                           \
    bool is_seen = false, is_own = false;                                      \
    if constexpr (requires { hooks_detail::class_of_short_step(&M::name); }) { \
      is_seen = true;                                                          \
      using Declaring = decltype(hooks_detail::class_of_short_step(&M::name)); \
      is_own |= !std::is_same_v<Declaring, Module>;                            \
    }                                                                          \
    if constexpr (requires { hooks_detail::class_of_long_step(&M::name); }) {  \
      is_seen = true;                                                          \
      using Declaring = decltype(hooks_detail::class_of_long_step(&M::name));  \
      is_own |= !std::is_same_v<Declaring, Module>;                            \
    }                                                                          \
    if (is_seen && !is_own) set.remove(Hook::name);                            \
  })
  TROUPE_HOOKS(TROUPE_STEP_IS_OVERRIDDEN)
#undef TROUPE_STEP_IS_OVERRIDDEN
  return set;
}

template <std::derived_from<Module> M>
HookSet module_hooks(const M& module) {
  if (typeid(module) == typeid(M)) return module_hooks<M>();
  HookSet all;
  for (std::size_t i = 0; i < hook_count; ++i) all.add(static_cast<Hook>(i));
  return all;
}

}  // namespace troupe
