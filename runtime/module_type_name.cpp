#include "troupe/runtime/module_type_name.hpp"

namespace troupe {

std::string module_type_name(const torch::nn::Module& module) {
  std::string name = module.name();
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
  std::string base = name.substr(start, arguments - start);
  if (base.ends_with("Impl") && base.size() > 4) base.resize(base.size() - 4);
  return base + name.substr(arguments);
}

}  // namespace troupe
