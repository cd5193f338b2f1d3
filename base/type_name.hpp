// The names of types as users read them.
#pragma once

#include <string>
#include <typeinfo>

namespace troupe {

/// As the compiler spells it, with its namespaces: "troupe::EarlyStopping".
std::string full_type_name(const std::type_info& type);

/// As the source spells it, without its namespaces and classes: "EarlyStopping", "Net<app::Block>".
std::string type_name(const std::type_info& type);

/// The two parts of `name` without its namespaces and classes: "Net" and "<app::Block>" of "app::Net<app::Block>".
struct LocalTypeName {
  std::string base, arguments;
};
LocalTypeName local_type_name(const std::string& name);

}  // namespace troupe
