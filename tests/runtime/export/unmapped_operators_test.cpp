// One message has everything of a model that has no mapping to ONNX.
#include "tests/runtime/export/export_cases.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/export/onnx_problems.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

std::string lines_with(const std::string& text, const std::string& part) {
  std::istringstream lines(text);
  std::string found;
  for (std::string line; std::getline(lines, line);) {
    if (line.find(part) != std::string::npos) found += line + "\n";
  }
  return found;
}

TEST(UnmappedOperators, AreNamedAllWithTheirLayersAndHowOftenTheyCome) {
  torch::nn::Linear first(4, 4), second(4, 4);
  Net net(
      [&](const torch::Tensor& x) {
        auto y = first(x).logcumsumexp(1).logcumsumexp(1);
        y = second(torch::relu(y)).logcumsumexp(1);
        y = torch::fft_fft(y).abs();
        return torch::relu(y + y.index({y > 0}).sum());
      },
      {first.ptr(), second.ptr()});
  const auto text = refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
  EXPECT_THAT(text, testing::StartsWith("to_onnx: 5 calls of the model have no mapping to ONNX:\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
  EXPECT_THAT(lines_with(text, "aten::logcumsumexp"),
              MatchesRegex("  the operator aten::logcumsumexp has no mapping to ONNX \\(aten::logsumexp has one\\); "
                           "3 times, behind the module 'layer0' \\(2 times\\), behind the module 'layer1' \\(once\\), "
                           "the first is node [0-9]+ of the graph: .* = aten::logcumsumexp\\(.*\n"));
  EXPECT_THAT(lines_with(text, "aten::fft_fft"),
              MatchesRegex("  the operator aten::fft_fft has no mapping to ONNX; behind the module 'layer1', node "
                           "[0-9]+ of the graph: .* = aten::fft_fft\\(.*\n"));
  // Its input is the absolute value of what cannot be had: it is found nevertheless.
  EXPECT_THAT(lines_with(text, "aten::index"), HasSubstr("it indexes with a mask"));
}

TEST(UnmappedOperators, DoNotMakeThoseBehindThemProblems) {
  // A list and a complex tensor have no stand-in: what takes them is passed over.
  Net net([](const torch::Tensor& x) {
    const auto parts = torch::unsafe_chunk(torch::fft_fft(x), 2, 1);
    return torch::relu(torch::real(parts[0] * parts[1])) + torch::unbind(x.logcumsumexp(1), 1)[1].unsqueeze(1);
  });
  const auto text = refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
  EXPECT_THAT(text, HasSubstr("2 calls of the model"));
  EXPECT_THAT(text, HasSubstr("aten::fft_fft"));
  EXPECT_THAT(text, HasSubstr("aten::logcumsumexp"));
}

TEST(UnmappedOperators, AreNamedBesideAViewThatIsChangedInPlace) {
  Net net([](const torch::Tensor& x) {
    auto y = x.clone();
    y.select(1, 0).fill_(1);
    return y.logcumsumexp(1);
  });
  const auto text = refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
  EXPECT_THAT(text, HasSubstr("2 calls of the model"));
  EXPECT_THAT(text, HasSubstr("\n  forward changes a tensor in place (aten::fill_)"));
  EXPECT_THAT(text, HasSubstr("\n  the operator aten::logcumsumexp"));
}

TEST(UnmappedOperators, NameTenLayersAndCountTheOthers) {
  OnnxProblems problems;
  for (int i = 0; i < 12; ++i) problems.add("no", "in the module '" + std::to_string(i) + "'", "node 1: x");
  const auto text = refusal([&] { problems.throw_if_any(); });
  EXPECT_THAT(text, HasSubstr("no; 12 times, in the module '0' (once), "));
  EXPECT_THAT(text, HasSubstr("in the module '9' (once), and in or behind 2 more, the first is node 1: x"));
  EXPECT_THAT(text, Not(HasSubstr("'10'")));
  EXPECT_EQ(refusal([] { OnnxProblems().throw_if_any(); }), "accepted");
}

}  // namespace
}  // namespace troupe
