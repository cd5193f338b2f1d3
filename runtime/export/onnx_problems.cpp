#include "troupe/runtime/export/onnx_problems.hpp"

#include "troupe/base/failure.hpp"

#include <algorithm>

namespace troupe {

namespace {

constexpr std::size_t kMostPlaces = 10;  // a model of many equal blocks has many

std::string call_count(std::size_t count) {
  return count == 1 ? "once" : std::to_string(count) + " times";
}

}  // namespace

void OnnxProblems::add(const std::string& what, const std::string& place, const std::string& node) {
  const auto [known, is_new] = by_what_.emplace(what, problems_.size());
  if (is_new) problems_.push_back({.what = what, .first_node = node, .places = {}});
  auto& problem = problems_[known->second];
  ++problem.calls;
  ++calls_;
  if (!place.empty() && ++problem.calls_in[place] == 1) problem.places.push_back(place);
}

/// "; 3 times, in the module 'a' (2 times), in the module 'b' (once), the first is node 5: ..."; of a single call
/// "; in the module 'a', node 5: ...".
std::string OnnxProblems::where(const Problem& problem) {
  if (problem.first_node.empty()) return "";
  std::string text = problem.calls == 1 ? "; " : "; " + call_count(problem.calls) + ", ";
  const auto named = std::min(problem.places.size(), kMostPlaces);
  for (std::size_t i = 0; i < named; ++i) {
    const auto& place = problem.places[i];
    text += place + (problem.calls == 1 ? "" : " (" + call_count(problem.calls_in.at(place)) + ")") + ", ";
  }
  if (problem.places.size() > named) {
    text += "and in or behind " + std::to_string(problem.places.size() - named) + " more, ";
  }
  return text + (problem.calls == 1 ? "" : "the first is ") + problem.first_node;
}

void OnnxProblems::throw_if_any() const {
  if (problems_.empty()) return;
  if (calls_ == 1) throw UsageError(problems_[0].what + where(problems_[0]));
  std::string text = std::to_string(calls_) + " calls of the model have no mapping to ONNX:";
  for (const auto& problem : problems_) text += "\n  " + problem.what + where(problem);
  throw UsageError(text);
}

}  // namespace troupe
