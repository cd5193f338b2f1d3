#include "troupe/base/type_name.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace troupe {

LocalTypeName local_type_name(const std::string& name) {
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

std::string full_type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 ? name.get() : type.name();
}

std::string type_name(const std::type_info& type) {
  const auto [base, arguments] = local_type_name(full_type_name(type));
  return base + arguments;
}

}  // namespace troupe
