#include "troupe/runtime/export/script_module.hpp"

#include "troupe/runtime/summary/module_type_name.hpp"

#include <algorithm>
#include <cctype>
#include <memory>
#include <string>
#include <unordered_map>

namespace troupe {

namespace {

/// Classes of TorchScript are named as Python's are; the compilation unit numbers those that have one name.
c10::QualifiedName class_name(const torch::nn::Module& module) {
  return c10::QualifiedName(c10::QualifiedName("__torch__"), python_identifier(module_type_name(module)));
}

class Mirror {
 public:
  torch::jit::Module of(const torch::nn::Module& module) {
    if (const auto found = made_.find(&module); found != made_.end()) return found->second;
    torch::jit::Module out(class_name(module), unit_, /*shouldMangle=*/true);
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      out.register_parameter(item.key(), item.value(), /*is_buffer=*/false);
    }
    for (const auto& item : module.named_buffers(/*recurse=*/false)) {
      if (item.value().defined()) out.register_buffer(item.key(), item.value());
    }
    for (const auto& item : module.named_children()) {
      if (item.value()) out.register_module(item.key(), of(*item.value()));
    }
    out.register_attribute("training", c10::BoolType::get(), false);
    made_.emplace(&module, out);
    return out;
  }

 private:
  std::shared_ptr<torch::jit::CompilationUnit> unit_ = std::make_shared<torch::jit::CompilationUnit>();
  std::unordered_map<const torch::nn::Module*, torch::jit::Module> made_;
};

}  // namespace

std::string python_identifier(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name.front())) != 0) name.insert(0, "_");
  return name;
}

torch::jit::Module to_script_module(const torch::nn::Module& root) {
  return Mirror().of(root);
}

}  // namespace troupe
