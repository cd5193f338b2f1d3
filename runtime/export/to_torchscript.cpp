#include "troupe/modules/module.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/traced_model.hpp"
#include "troupe/runtime/weights/torch_archive.hpp"

#include <torch/csrc/jit/serialization/export.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <functional>

namespace troupe {

namespace {

void write(const torch::jit::Module& module, const std::filesystem::path& path) {
  write_atomically(path, [&](OutputFile& file) {
    ArchiveSink sink([&](auto bytes) { file.write(bytes); });
    torch::jit::ExportModule(module, std::ref(sink));
    sink.rethrow();
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
