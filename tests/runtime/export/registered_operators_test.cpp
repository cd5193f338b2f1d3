// Operators of a user's own in ONNX: written as register_onnx_operator says.
#include "tests/runtime/export/check_exported.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/onnx_lowering.hpp"
#include "troupe/runtime/export/register_onnx_operator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/library.h>

namespace troupe {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

torch::Tensor squared(const torch::Tensor& x) {
  return x.relu().square();
}
torch::Tensor& squared_in_place(torch::Tensor& x) {
  return x.copy_(squared(x));
}
torch::Tensor mixed(const torch::Tensor& x, const std::optional<torch::Tensor>& bias, torch::IntArrayRef axes,
                    double factor, bool negate, std::string_view kind) {
  auto y = x.sum(axes, /*keepdim=*/true) * factor;
  if (kind == "doubled") y = y * 2;
  if (bias) y = y + *bias;
  return negate ? -y : y;
}
std::vector<torch::Tensor> halves(const torch::Tensor& x, int64_t axis) {
  return x.chunk(2, axis);
}
std::tuple<torch::Tensor, torch::Tensor> least_and_most(const torch::Tensor& x) {
  return {x.amin(1), x.amax(1)};
}
torch::Tensor summed(torch::TensorList all) {
  return torch::stack(all).sum(0);
}

TORCH_LIBRARY(onnx_test, library) {
  library.def("squared(Tensor self) -> Tensor");
  library.def("squared_(Tensor(a!) self) -> Tensor(a!)");
  library.def("squaredly(Tensor self) -> Tensor");
  library.def("novel(Tensor self) -> Tensor");
  library.def("own_domain(Tensor self) -> Tensor");
  library.def("wrong(Tensor self) -> Tensor");
  library.def("mixed(Tensor self, Tensor? bias, int[] axes, float factor, bool negate, str kind) -> Tensor");
  library.def("halves(Tensor self, int axis) -> Tensor[]");
  library.def("least_and_most(Tensor self) -> (Tensor, Tensor)");
  library.def("summed(Tensor[] all) -> Tensor");
}
TORCH_LIBRARY_IMPL(onnx_test, CompositeExplicitAutograd, library) {
  for (const auto* name : {"squared", "squaredly", "novel", "own_domain", "wrong"}) library.impl(name, squared);
  library.impl("squared_", squared_in_place);
  library.impl("mixed", mixed);
  library.impl("halves", halves);
  library.impl("least_and_most", least_and_most);
  library.impl("summed", summed);
}

template <typename Result, typename... Arguments>
Result call_operator(const char* name, Arguments... arguments) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string("onnx_test::") + name).c_str(), "")
      .typed<Result(Arguments...)>()
      .call(arguments...);
}
torch::Tensor call_simple(const char* name, const torch::Tensor& x) {
  return call_operator<torch::Tensor, const torch::Tensor&>(name, x);
}

// As a user would, outside of any function.
const bool registered = register_onnx_operator("onnx_test::squared", [](OnnxCallWriter& call) {
  const auto positive = call.add("Relu", {call.tensor("self")});
  call.returns(call.add("Mul", {positive, positive}));
});

void register_others() {
  register_onnx_operator("onnx_test::mixed", [](OnnxCallWriter& call) {
    const auto dtype = call.result_dtype();
    if (call.sizes("self").size() != 3 || call.sizes("self")[0] != -1) call.refuse("it has other sizes");
    auto y = call.add("ReduceSum", {call.tensor("self"), call.constant(torch::tensor(call.integers("axes")))},
                      {{"keepdims", 1}});
    const double factor = call.number("factor") * (call.text("kind") == "doubled" ? 2 : 1);
    y = call.add("Mul", {y, call.constant(torch::scalar_tensor(factor, dtype))});
    if (call.given("bias")) y = call.add("Add", {y, call.tensor("bias")});
    call.returns(call.flag("negate") ? call.add("Neg", {y}) : y);
  });
  register_onnx_operator("onnx_test::halves", [](OnnxCallWriter& call) {
    const auto axis = call.integer("axis");
    const auto half = call.sizes("self")[static_cast<std::size_t>(axis)] / 2;
    const auto parts =
        call.add_many("Split", 2, {call.tensor("self"), call.constant(torch::tensor({half, half}))}, {{"axis", axis}});
    call.returns_list(parts);
  });
  register_onnx_operator("onnx_test::least_and_most", [](OnnxCallWriter& call) {
    const auto axis = call.constant(torch::tensor({int64_t{1}}));
    for (std::size_t i = 0; i < 2; ++i) {
      call.returns(call.add(i == 0 ? "ReduceMin" : "ReduceMax", {call.tensor("self"), axis}, {{"keepdims", 0}}), i);
    }
  });
  register_onnx_operator("onnx_test::summed",
                         [](OnnxCallWriter& call) { call.returns(call.add("Sum", call.tensors("all"))); });
}

/// What onnxruntime finds wrong with the cases. (Python has not these operators for the other formats.)
std::string problems_in_onnxruntime(const std::vector<ExportCase>& cases, const std::vector<int64_t>& opsets) {
  const TempDir dir;
  for (const auto& one : cases) {
    write_samples(dir, one);
    for (const auto opset : opsets) {
      one.module->to_onnx(dir / (one.name + "@" + std::to_string(opset) + ".onnx"), one.samples[0],
                          {.opset_version = opset});
    }
  }
  return python_output("check_exported.py", "'" + dir.path().string() + "'");
}

TEST(RegisteredOperators, GiveEqualOutputs) {
  register_others();
  torch::manual_seed(3);
  ExportCases add;
  add.function("squared", {6}, [](const torch::Tensor& x) { return call_simple("squared", x - 0.2); });
  add.function("squared_in_place", {6}, [](const torch::Tensor& x) {
    auto y = x + 1;
    return call_operator<torch::Tensor&, torch::Tensor&>("squared_", y) * 2;
  });
  const auto mixed_of = [](const torch::Tensor& x, const std::optional<torch::Tensor>& bias, bool negate,
                           std::string_view kind) {
    return call_operator<torch::Tensor, const torch::Tensor&, const std::optional<torch::Tensor>&, torch::IntArrayRef,
                         double, bool, std::string_view>("mixed", x, bias, {1, 2}, 0.5, negate, kind);
  };
  const auto bias = torch::randn({3, 1});
  add.function("mixed", {3, 4}, [=](const torch::Tensor& x) {
    return mixed_of(x, bias, true, "doubled") + mixed_of(x, std::nullopt, false, "plain");
  });
  add.function("halves", {4, 3}, [](const torch::Tensor& x) {
    const auto parts = call_operator<std::vector<torch::Tensor>, const torch::Tensor&, int64_t>("halves", x, 1);
    return parts[0] * 2 - parts[1];
  });
  add.function("least_and_most", {4}, [](const torch::Tensor& x) {
    const auto [least, most] =
        call_operator<std::tuple<torch::Tensor, torch::Tensor>, const torch::Tensor&>("least_and_most", x);
    return most - least * 2;
  });
  const auto weight = torch::randn({4});
  add.function("summed", {4}, [=](const torch::Tensor& x) {
    return call_operator<torch::Tensor, torch::TensorList>("summed", std::vector<torch::Tensor>{x, x * 2, weight + x});
  });
  EXPECT_EQ(problems_in_onnxruntime(add.cases, {18, 20, 23}), "");
}

TEST(RegisteredOperators, MayBeNodesOfADomainOfTheirOwn) {
  register_onnx_operator("onnx_test::own_domain", [](OnnxCallWriter& call) {
    const OnnxDomain domain{"com.example", 3};
    const OnnxAttributes attributes{{"scales", std::vector<double>{2, 1}}, {"label", "own"}};
    call.returns(call.add("SquaredRelu", {call.tensor("self")}, attributes, domain));
  });
  const TempDir dir;
  ExportCase one{"square",
                 std::make_shared<Net>([](const torch::Tensor& x) { return call_simple("own_domain", x); }),
                 batches_of({6}),
                 {}};
  write_samples(dir, one);
  one.module->to_onnx(dir / "square.onnx", one.samples[0]);
  EXPECT_EQ(python_output("check_own_domain.py", "'" + dir.path().string() + "'"), "");
}

/// How the operator "wrong" is refused if it is written like this.
std::string refusal_of(OnnxOperatorWriter write) {
  register_onnx_operator("onnx_test::wrong", std::move(write));
  torch::nn::Linear layer(4, 4);
  Net net([&](const torch::Tensor& x) { return call_simple("wrong", layer(x)); }, {layer.ptr()});
  return refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
}

TEST(RegisteredOperators, SayInOneSentenceWhatTheirFunctionsDoWrong) {
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.tensor("sefl"); }),
              AllOf(HasSubstr("onnx_test::wrong has no mapping to ONNX here: it has no argument 'sefl'; did you mean "
                              "'self'?"),
                    HasSubstr("the module 'layer0', node ")));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.number("self"); }),
              HasSubstr("its argument 'self' depends on the input"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.tensors("self"); }),
              HasSubstr("its argument 'self' is no list of tensors"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.add("Relu", {"self"}); }),
              HasSubstr("the graph has no tensor 'self' that Relu could read"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.returns("nothing"); }),
              HasSubstr("the graph has no tensor 'nothing' that could be its result"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.returns(call.tensor("self"), 1); }),
              HasSubstr("it has no result 1"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.add("Relu", {call.tensor("self")}); }),
              HasSubstr("says nothing of its result 0 (OnnxCallWriter::returns)"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.constant(torch::ones({2}, torch::kComplexFloat)); }),
              HasSubstr("ONNX has no tensors of ComplexFloat"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) { call.refuse("it is new"); }),
              HasSubstr("onnx_test::wrong has no mapping to ONNX here: it is new; behind the module 'layer0', node "));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) {
                const auto y = call.add("A", {call.tensor("self")}, {}, {"com.example", 2});
                call.returns(call.add("A", {y}, {}, {"com.example", 3}));
              }),
              HasSubstr("one file has one version of the domain 'com.example', not 2 and 3"));
  EXPECT_THAT(refusal_of([](OnnxCallWriter& call) {
                call.add("A", {}, {}, {"com.example", 0});
              }),
              HasSubstr("version 0 of the domain 'com.example' is none"));
}

TEST(RegisteredOperators, AreNamedByWhoeverAreNot) {
  torch::nn::Linear layer(4, 4);
  const auto refused = [&](const char* name) {
    Net net([&](const torch::Tensor& x) { return call_simple(name, layer(x)); }, {layer.ptr()});
    return refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
  };
  EXPECT_THAT(refused("novel"), HasSubstr("the operator onnx_test::novel has no mapping to ONNX: "
                                          "register_onnx_operator says how it is written; behind the module "
                                          "'layer0', node "));
  EXPECT_THAT(refused("squaredly"), HasSubstr("the operator onnx_test::squaredly has no mapping to ONNX "
                                              "(onnx_test::squared has one): register_onnx_operator says"));
}

std::vector<std::string> op_types_of(const Net::Function& function) {
  Net net(function);
  const auto graph =
      lower_to_onnx(trace_model(export_request("test", net, torch::ones({2, 4}), OnnxOptions{})), {}, 20);
  std::vector<std::string> types;
  for (const auto& node : graph.nodes) types.push_back(node.op_type);
  return types;
}

TEST(RegisteredOperators, GoBeforeWhatTheLibraryKnowsAndTheLastOneCounts) {
  // What the library writes as no node at all; the numbers are the same.
  register_onnx_operator("aten::positive", [](OnnxCallWriter& call) {
    call.returns(call.add("Neg", {call.add("Neg", {call.tensor("self")})}));
  });
  for (const auto* op_type : {"Sin", "Cos"}) {
    register_onnx_operator("aten::lgamma",
                           [op_type](OnnxCallWriter& call) { call.returns(call.add(op_type, {call.tensor("self")})); });
  }
  EXPECT_THAT(op_types_of([](const torch::Tensor& x) { return torch::lgamma(torch::positive(x)); }),
              ElementsAre("Neg", "Neg", "Cos", "Identity"));
}

TEST(RegisteredOperators, AreComputedWhenExportedIfTheyDependOnWeightsAloneAndAreNotRegistered) {
  const auto weight = torch::randn({4, 4});
  EXPECT_THAT(op_types_of([=](const torch::Tensor& x) { return x + call_simple("novel", weight).sum(0); }),
              testing::Not(Contains("Relu")));
}

TEST(RegisteredOperators, RefuseBadNamesAndEmptyFunctions) {
  const auto nothing = [](OnnxCallWriter&) {};
  for (const auto* name : {"squared", "::squared", "onnx_test::", ""}) {
    EXPECT_THAT(refusal([&] { register_onnx_operator(name, nothing); }),
                HasSubstr(std::string("register_onnx_operator: '") + name +
                          "' is no name of an operator with its "
                          "namespace, as 'example::squared_relu' is"));
  }
  EXPECT_THAT(refusal([] { register_onnx_operator("a::b", {}); }), HasSubstr("the function for 'a::b' is empty"));
}

}  // namespace
}  // namespace troupe
