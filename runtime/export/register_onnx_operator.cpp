#include "troupe/runtime/export/register_onnx_operator.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/export/registered_onnx_operators.hpp"

#include <torch/types.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace troupe {

namespace {

struct WritersOfOperators {
  std::mutex mutex;
  std::map<std::string, OnnxOperatorWriter> by_name;
};

// Made by the first call: registrations run before main, in any order.
WritersOfOperators& writers_of_operators() {
  static WritersOfOperators all;
  return all;
}

}  // namespace

bool register_onnx_operator(const std::string& name, OnnxOperatorWriter write) {
  const auto colons = name.find("::");
  if (colons == std::string::npos || colons == 0 || colons + 2 == name.size()) {
    throw UsageError("register_onnx_operator: '" + shown(name) +
                     "' is no name of an operator with its namespace, as "
                     "'example::squared_relu' is");
  }
  if (!write) throw UsageError("register_onnx_operator: the function for '" + shown(name) + "' is empty");
  auto& all = writers_of_operators();
  const std::scoped_lock lock(all.mutex);
  all.by_name[name] = std::move(write);
  return true;
}

OnnxOperatorWriter registered_onnx_operator(const std::string& name) {
  auto& all = writers_of_operators();
  const std::scoped_lock lock(all.mutex);
  const auto found = all.by_name.find(name);
  return found == all.by_name.end() ? OnnxOperatorWriter() : found->second;
}

std::vector<std::string> registered_onnx_operator_names() {
  auto& all = writers_of_operators();
  const std::scoped_lock lock(all.mutex);
  std::vector<std::string> names;
  for (const auto& [name, write] : all.by_name) names.push_back(name);
  return names;
}

void write_registered(const OnnxOperatorWriter& write, OnnxCall& call) {
  OnnxCallWriter writer(call);
  write(writer);
  for (std::size_t i = 0; i < call.output_count(); ++i) {
    if (call.output_is_used(i) && !call.has_returned(i)) {
      call.refuse("the function that register_onnx_operator got for it says nothing of its result " +
                  std::to_string(i) + " (OnnxCallWriter::returns)");
    }
  }
}

/// The argument's name, if the schema has it.
const char* OnnxCallWriter::checked(const std::string& argument) const {
  if (call_.takes(argument.c_str())) return argument.c_str();
  const auto names = call_.arguments();
  call_.refuse("it has no argument '" + shown(argument) + "'" +
               (names.empty() ? "" : "; did you mean '" + nearest(argument, names) + "'?"));
}

bool OnnxCallWriter::given(const std::string& argument) const {
  return call_.given(argument.c_str());
}

std::string OnnxCallWriter::tensor(const std::string& argument) {
  const auto* name = checked(argument);
  return call_.given(name) ? call_.tensor(name).name : "";
}

std::vector<std::string> OnnxCallWriter::tensors(const std::string& argument) {
  std::vector<std::string> names;
  for (const auto& tensor : call_.tensors(checked(argument))) names.push_back(tensor.name);
  return names;
}

torch::ScalarType OnnxCallWriter::dtype(const std::string& argument) {
  return call_.tensor(checked(argument)).dtype;
}

std::vector<int64_t> OnnxCallWriter::sizes(const std::string& argument) {
  const auto tensor = call_.tensor(checked(argument));
  if (!tensor.has_rank) call_.refuse("nothing is known of the sizes of '" + argument + "'");
  return tensor.sizes;
}

int64_t OnnxCallWriter::integer(const std::string& argument) const {
  return call_.integer(checked(argument));
}

std::vector<int64_t> OnnxCallWriter::integers(const std::string& argument) const {
  return call_.integers(checked(argument));
}

double OnnxCallWriter::number(const std::string& argument) const {
  return call_.number(checked(argument));
}

bool OnnxCallWriter::flag(const std::string& argument) const {
  return call_.flag(checked(argument));
}

std::string OnnxCallWriter::text(const std::string& argument) const {
  return call_.text(checked(argument));
}

int64_t OnnxCallWriter::opset_version() const {
  return call_.b.opset_version();
}

std::string OnnxCallWriter::constant(const torch::Tensor& value) {
  if (!value.defined()) call_.refuse("a constant is an undefined tensor");
  if (onnx_type(value.scalar_type()) == 0) {
    call_.refuse(std::string("ONNX has no tensors of ") + c10::toString(value.scalar_type()));
  }
  return call_.b.constant(value.detach());
}

std::string OnnxCallWriter::add(const std::string& op_type, std::vector<std::string> inputs, OnnxAttributes attributes,
                                const OnnxDomain& domain) {
  return add_many(op_type, 1, std::move(inputs), std::move(attributes), domain).front();
}

std::vector<std::string> OnnxCallWriter::add_many(const std::string& op_type, std::size_t count,
                                                  std::vector<std::string> inputs, OnnxAttributes attributes,
                                                  const OnnxDomain& domain) {
  if (op_type.empty() || count == 0) call_.refuse("a node needs an operator and an output");
  for (const auto& input : inputs) {
    if (!input.empty() && !call_.b.has_name(input)) {
      call_.refuse("the graph has no tensor '" + shown(input) + "' that " + shown(op_type) +
                   " could read: OnnxCallWriter's functions give the names");
    }
  }
  try {
    return call_.b.add_many(op_type, std::move(inputs), count, std::move(attributes), domain);
  } catch (const UsageError& error) {
    call_.refuse(error.what());
  }
}

torch::ScalarType OnnxCallWriter::result_dtype(std::size_t index) const {
  if (index >= call_.output_count()) refuse("it has no result " + std::to_string(index));
  return call_.output_type(index);
}

void OnnxCallWriter::check_result(const std::string& tensor, std::size_t index) const {
  if (index >= call_.output_count()) refuse("it has no result " + std::to_string(index));
  if (!call_.b.has_name(tensor)) refuse("the graph has no tensor '" + shown(tensor) + "' that could be its result");
}

void OnnxCallWriter::returns(const std::string& tensor, std::size_t index) {
  check_result(tensor, index);
  call_.returns(tensor, index);
}

void OnnxCallWriter::returns_list(const std::vector<std::string>& tensors, std::size_t index) {
  for (const auto& tensor : tensors) check_result(tensor, index);
  call_.returns_list(tensors, torch::kFloat, index);  // whoever unpacks the list knows the types
}

void OnnxCallWriter::refuse(const std::string& why) const {
  call_.refuse(why);
}

}  // namespace troupe
