#include "troupe/runtime/module_type_name.hpp"

#include <c10/util/Type.h>

namespace troupe {

namespace {

struct LocalName {
  std::string base, arguments;  // of the template
};

// Without the namespaces, and whatever else it is in.
LocalName local_name(const std::string& name) {
  int depth = 0;
  std::size_t start = 0, arguments = name.size();
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<' || name[i] == '(') {
      if (depth++ == 0 && name[i] == '<') arguments = i;
    } else if (name[i] == '>' || name[i] == ')') {
      --depth;
    } else if (depth == 0 && name.compare(i, 2, "::") == 0) {
      start = i + 2;
      arguments = name.size();
      ++i;
    }
  }
  return {name.substr(start, arguments - start), name.substr(arguments)};
}

}  // namespace

std::string module_type_name(const torch::nn::Module& module) {
  auto [base, arguments] = local_name(module.name());
  if (base.ends_with("Impl") && base.size() > 4) base.resize(base.size() - 4);
  return base + arguments;
}

std::string type_name(const std::type_info& type) {
  const auto [base, arguments] = local_name(c10::demangle(type.name()));
  return base + arguments;
}

}  // namespace troupe
