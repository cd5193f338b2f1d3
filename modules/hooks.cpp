#include "troupe/modules/hooks.hpp"

#include <array>

namespace troupe {

std::string_view to_string(Hook hook) {
#define TROUPE_HOOK_NAME(name, arguments, owners) TROUPE_OF_MODULE_##owners(std::string_view(#name), )
  static constexpr std::array<std::string_view, hook_count> names = {TROUPE_HOOKS(TROUPE_HOOK_NAME)};
#undef TROUPE_HOOK_NAME
  return names.at(static_cast<std::size_t>(hook));
}

}  // namespace troupe
