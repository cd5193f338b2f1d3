#include "troupe/modules/module.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/exported_program.hpp"
#include "troupe/runtime/export/pt2_archive.hpp"
#include "troupe/runtime/export/traced_model.hpp"

#include <string>

namespace troupe {

void Module::to_exported_program(const std::filesystem::path& file_path, torch::TensorList example_inputs,
                                 const ExportedProgramOptions& options) {
  if (file_path.empty()) throw UsageError("to_exported_program: the path of the file is empty");
  const auto traced = trace_model(export_request("to_exported_program", *this, example_inputs, options));
  try {
    write_pt2(file_path, to_program(traced, options.size_ranges));
  } catch (const UsageError& error) {
    throw UsageError(std::string("to_exported_program: ") + error.what());
  }
}

}  // namespace troupe
