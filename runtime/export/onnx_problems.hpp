// What of a model has no mapping to ONNX: all of it in one message.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace troupe {

class OnnxProblems {
 public:
  /// A call that cannot be written: `what` is wrong with it, in which layer it is ("in the module 'encoder.0'", or
  /// nothing if that is unknown), and its line of the graph (describe_node; nothing if `what` has it).
  void add(const std::string& what, const std::string& place = "", const std::string& node = "");

  /// Throws UsageError with every problem, the layers that have it and how often, in the order of the graph.
  void throw_if_any() const;

 private:
  struct Problem {
    std::string what, first_node;
    std::size_t calls = 0;
    std::vector<std::string> places;                ///< each once, in the order of the graph
    std::map<std::string, std::size_t> calls_in{};  ///< by place
  };
  static std::string where(const Problem& problem);

  std::vector<Problem> problems_;
  std::map<std::string, std::size_t> by_what_;
  std::size_t calls_ = 0;
};

}  // namespace troupe
