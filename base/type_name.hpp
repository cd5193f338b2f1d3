// What a type is called where a user reads it.
#pragma once

#include <string>
#include <typeinfo>

namespace troupe {

/// As the compiler spells it, with its namespaces: "troupe::EarlyStopping".
std::string full_type_name(const std::type_info& type);

/// As the source spells it, without what it is in: "EarlyStopping", "Net<app::Block>".
std::string type_name(const std::type_info& type);

/// The two parts of `name` without what it is in: of "app::Net<app::Block>" these are "Net" and "<app::Block>".
struct LocalTypeName {
  std::string base, arguments;
};
LocalTypeName local_type_name(const std::string& name);

}  // namespace troupe
