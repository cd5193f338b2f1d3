// Exported models give in onnxruntime and in Python's TorchScript what they give here, for other batches too.
#include "tests/runtime/export/check_exported.hpp"
#include "tests/runtime/export/composed_cases.hpp"
#include "tests/runtime/export/layer_cases.hpp"
#include "tests/runtime/export/model_cases.hpp"
#include "tests/runtime/export/operator_cases.hpp"
#include "tests/support/file_content.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/in_place.hpp"
#include "troupe/runtime/export/onnx_call.hpp"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace troupe {
namespace {

TEST(ExportedModels, GiveEqualOutputsForLayers) {
  EXPECT_EQ(problems_of(layer_cases()), "");
}

TEST(ExportedModels, GiveEqualOutputsForOperators) {
  EXPECT_EQ(problems_of(operator_cases()), "");
}

TEST(ExportedModels, GiveEqualOutputsForOperatorsThatAreSeveralOfOnnx) {
  EXPECT_EQ(problems_of(composed_cases(), {17, 18, 20, 21, 23}), "");
}

TEST(ExportedModels, GiveEqualOutputsForTheExamplesAndModelsOfTheirKind) {
  EXPECT_EQ(problems_of(model_cases()), "");
}

TEST(OnnxOperators, EachIsInACase) {
  std::set<std::string> missing;
  for (const auto& [name, how] : onnx_operators()) missing.insert(name);
  for (const auto& cases : {layer_cases(), operator_cases(), composed_cases(), model_cases()}) {
    for (const auto& one : cases) {
      auto options = one.options;
      options.dynamic_batch = false;
      options.dynamic_axes.clear();
      const auto traced = trace_model(export_request("test", *one.module, one.samples[0], options));
      for (const auto* node : traced.graph->nodes()) {
        std::string name = node->kind().toUnqualString();
        if (works_in_place(*node)) name.pop_back();
        missing.erase(name);
      }
    }
  }
  std::string names;
  for (const auto& name : missing) names += name + " ";
  EXPECT_EQ(names, "");
}

TEST(OnnxOperators, AreThoseThatTheDocumentationLists) {
  const auto text = content_of(TROUPE_SOURCE_DIR "/docs/export.md");
  const std::regex name("`([a-zA-Z0-9_]+)`");
  std::set<std::string> listed;
  const auto table = text.substr(text.rfind("| subject |"));
  for (std::sregex_iterator it(table.begin(), table.end(), name), end; it != end; ++it) listed.insert((*it)[1]);
  std::set<std::string> known;
  for (const auto& [operator_name, how] : onnx_operators()) known.insert(operator_name);
  EXPECT_EQ(listed, known);
}

}  // namespace
}  // namespace troupe
