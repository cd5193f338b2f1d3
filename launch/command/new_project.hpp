// `troupe new`: a project of one's own, from files that the build embeds (launch/command/project/).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace troupe::command {

/// A file of a new project. In `text` stand @name@ (the program), @class@ (the module), @run@ (the folder of its runs),
/// @version@ (of find_package) and @configure@ (the call of cmake).
struct ProjectFile {
  std::string_view name;
  std::string_view text;
};

/// Written by the build: cmake/TroupeProject.cmake.
const std::vector<ProjectFile>& project_files();
/// Where an installed copy has its CMake package, below the folder of the installation. Written by the build, too.
extern const std::string_view package_folder;

/// `name` if a program, a CMake target and, capitalised, a class can have it; else the nearest name that they can have.
/// It has letters of ASCII, digits and single '_', begins with a letter, and is neither a word of C++ nor a target that
/// CMake or Troupe has.
std::string nearest_project_name(std::string_view name);

/// "my_net" is MyNet.
std::string class_of_project(std::string_view name);

}  // namespace troupe::command
