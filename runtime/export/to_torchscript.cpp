#include "troupe/modules/module.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/traced_model.hpp"

#include <torch/csrc/jit/serialization/export.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstddef>
#include <exception>

namespace troupe {

namespace {

void write(const torch::jit::Module& module, const std::filesystem::path& path) {
  write_atomically(path, [&](OutputFile& file) {
    // An exception must not pass through LibTorch's writer, which would end the program in a destructor.
    std::exception_ptr problem;
    torch::jit::ExportModule(module, [&](const void* data, std::size_t size) -> std::size_t {
      try {
        if (!problem) file.write({static_cast<const std::byte*>(data), size});
      } catch (...) {
        problem = std::current_exception();
      }
      return size;
    });
    if (problem) std::rethrow_exception(problem);
  });
}

}  // namespace

torch::jit::Module Module::to_torchscript(const std::filesystem::path& file_path, torch::TensorList example_inputs,
                                          const TorchscriptOptions& options) {
  auto traced = trace_model(export_request("to_torchscript", *this, example_inputs, options));
  const auto type = traced.module.type();
  auto* forward = traced.module._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*type->name(), "forward"), traced.graph);
  type->addMethod(forward);
  if (!file_path.empty()) write(traced.module, file_path);
  return traced.module;
}

}  // namespace troupe
