// register_predictor is defined here so that a library whose sources register one links these functions with it.
#include "troupe/launch/c_api/troupe_c.h"

#include "troupe/base/exception_text.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/version.hpp"
#include "troupe/launch/c_api/predictor_library.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/inference/predictor.hpp"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/linspace.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

struct troupe_predictor {
  troupe::Predictor predictor;
  std::vector<int64_t> input_row, output_row;
  at::TensorOptions input_type;
  bool writes_input = false;  // a layer that works in place on the input, which belongs to the caller
};

namespace troupe {
namespace {

// What a call is refused for; anything else that is thrown is a failure of the module or of the machine.
struct Refusal {
  troupe_status status;
  std::string text;
};

struct PredictorNames {
  std::mutex mutex;
  std::map<std::string, std::vector<PredictorModule>, std::less<>> loads;
};

PredictorNames& predictor_names() {
  static PredictorNames names;
  return names;
}

thread_local std::string last_c_error;

// Runs `action`, which throws a Refusal or anything else. Texts are kept without copying: no memory may be left.
template <class Action>
troupe_status guarded(Action action) noexcept {
  try {
    try {
      action();
      return TROUPE_OK;
    } catch (Refusal& refusal) {
      last_c_error = std::move(refusal.text);
      return refusal.status;
    } catch (...) {
      last_c_error = current_exception_text();
      return TROUPE_FAILED;
    }
  } catch (...) {
    last_c_error.clear();
    last_c_error.append("no memory");  // fits where std::string keeps short texts
    return TROUPE_FAILED;
  }
}

void require_pointer(const void* pointer, const char* name) {
  if (!pointer) throw Refusal{TROUPE_BAD_ARGUMENT, std::string(name) + " is a null pointer"};
}

PredictorModule predictor_module(const std::string& name) {
  auto& names = predictor_names();
  const std::lock_guard lock(names.mutex);
  const auto found = names.loads.find(name);
  if (found == names.loads.end()) {
    std::vector<std::string> known;
    for (const auto& [each, loads] : names.loads) known.push_back(each);
    throw Refusal{TROUPE_BAD_ARGUMENT,
                  "there is no predictor '" + shown(name) + "'; " +
                      (known.empty() ? "none is registered"
                                     : "did you mean '" + nearest(name, known) + "'? There are " + brief_list(known))};
  }
  if (found->second.size() > 1) {
    throw Refusal{TROUPE_BAD_ARGUMENT, "two modules are registered as predictor '" + shown(name) + "'"};
  }
  return found->second.front();
}

std::shared_ptr<Module> checkpoint_module(const std::string& name, const std::string& checkpoint) {
  const auto load = predictor_module(name);
  try {
    return load(checkpoint);
  } catch (const UsageError& error) {  // a CheckpointError too
    throw Refusal{TROUPE_BAD_CHECKPOINT, error.what()};
  } catch (const FileError& error) {
    throw Refusal{TROUPE_BAD_CHECKPOINT, error.what()};
  }
}

// A row like those of the module's example input.
at::Tensor example_row(const Predictor& predictor) {
  const auto& example = predictor.example_input();
  if (!example.defined()) throw UsageError("the module has no example_input_array, which says what its input is");
  if (!example.is_floating_point()) {
    throw UsageError("the module takes " + std::string(c10::toString(example.scalar_type())) +
                     ", and these functions pass floating-point numbers");
  }
  if (example.dim() == 0) throw UsageError("the module's example_input_array is a single number, without a batch axis");
  auto shape = example.sizes().vec();
  shape[0] = 1;
  return at::linspace(-1, 1, c10::multiply_integers(shape), example.options()).reshape(shape);
}

std::vector<int64_t> row_shape(const at::Tensor& batch) {
  return batch.sizes().slice(1).vec();
}

std::unique_ptr<troupe_predictor> open_predictor(const std::string& name, const std::string& checkpoint) {
  Predictor predictor(checkpoint_module(name, checkpoint));
  const auto row = example_row(predictor);
  auto out =
      std::make_unique<troupe_predictor>(troupe_predictor{std::move(predictor), row_shape(row), {}, row.options()});
  const auto before = row.clone();
  const auto output = out->predictor.predict(row);
  if (output.dim() == 0 || output.size(0) != 1 || !output.is_floating_point()) {
    throw UsageError("the module's output for one row is " + std::string(c10::toString(output.scalar_type())) + " [" +
                     joined(output.sizes()) + "], not floating-point numbers whose first axis is the batch");
  }
  out->output_row = row_shape(output);
  out->writes_input = !row.equal(before);
  return out;
}

// The numbers of `rows` rows, which fit into memory.
int64_t count_of_rows(int64_t rows, const std::vector<int64_t>& row) {
  if (rows < 1) throw Refusal{TROUPE_BAD_ARGUMENT, "rows is " + std::to_string(rows) + "; it is 1 or more"};
  const int64_t numbers = c10::multiply_integers(row);
  constexpr int64_t limit = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(sizeof(double));
  if (rows > limit / std::max<int64_t>(numbers, 1)) {
    throw Refusal{TROUPE_BAD_ARGUMENT, "rows is " + std::to_string(rows) + ", more than fit into memory"};
  }
  return rows * numbers;
}

std::vector<int64_t> batch_shape(int64_t rows, const std::vector<int64_t>& row) {
  std::vector<int64_t> shape{rows};
  shape.insert(shape.end(), row.begin(), row.end());
  return shape;
}

at::Tensor predicted(const troupe_predictor& predictor, const at::Tensor& input, int64_t rows) {
  auto output = predictor.predictor.predict(predictor.writes_input ? input.clone() : input);
  const auto expected = batch_shape(rows, predictor.output_row);
  if (output.sizes() != at::IntArrayRef(expected)) {
    throw UsageError("the module's output for " + std::to_string(rows) + " rows is [" + joined(output.sizes()) +
                     "], not [" + joined(expected) + "]");
  }
  return output.to(at::kCPU, at::kFloat).contiguous();
}

void predict_rows(const troupe_predictor& predictor, const float* input, int64_t rows, float* output,
                  int64_t capacity) {
  require_pointer(input, "input");
  require_pointer(output, "output");
  count_of_rows(rows, predictor.input_row);
  const int64_t numbers = count_of_rows(rows, predictor.output_row);
  if (capacity < numbers) {
    throw Refusal{TROUPE_BAD_ARGUMENT, "capacity is " + std::to_string(capacity) + " and the output of " +
                                           std::to_string(rows) + " rows has " + std::to_string(numbers) + " numbers"};
  }
  const auto shape = batch_shape(rows, predictor.input_row);
  const auto batch = at::from_blob(const_cast<float*>(input), shape, at::kFloat).to(predictor.input_type);
  const auto result = predicted(predictor, batch, rows);
  std::memcpy(output, result.const_data_ptr<float>(), static_cast<std::size_t>(numbers) * sizeof(float));
}

troupe_status shape_to(const troupe_predictor* predictor, std::vector<int64_t> troupe_predictor::*row, int64_t* sizes,
                       int64_t capacity) {
  return guarded([&] {
    require_pointer(predictor, "predictor");
    require_pointer(sizes, "sizes");
    const auto& shape = predictor->*row;
    if (capacity < static_cast<int64_t>(shape.size())) {
      throw Refusal{TROUPE_BAD_ARGUMENT, "capacity is " + std::to_string(capacity) + " and the shape has " +
                                             std::to_string(shape.size()) + " sizes"};
    }
    std::copy(shape.begin(), shape.end(), sizes);
  });
}

troupe_status rank_to(const troupe_predictor* predictor, std::vector<int64_t> troupe_predictor::*row, int64_t* rank) {
  return guarded([&] {
    require_pointer(predictor, "predictor");
    require_pointer(rank, "rank");
    *rank = static_cast<int64_t>((predictor->*row).size());
  });
}

}  // namespace

bool register_predictor(const char* name, PredictorModule load) noexcept {
  auto& names = predictor_names();
  const std::lock_guard lock(names.mutex);
  names.loads[name].push_back(load);
  return true;
}

}  // namespace troupe

const char* troupe_version(void) {
  return troupe::library_version;
}

const char* troupe_last_error(void) {
  return troupe::last_c_error.c_str();
}

troupe_status troupe_predictor_open(const char* name, const char* checkpoint, troupe_predictor** out) {
  return troupe::guarded([&] {
    troupe::require_pointer(name, "name");
    troupe::require_pointer(checkpoint, "checkpoint");
    troupe::require_pointer(out, "out");
    *out = troupe::open_predictor(name, checkpoint).release();
  });
}

void troupe_predictor_close(troupe_predictor* predictor) {
  delete predictor;
}

troupe_status troupe_predictor_input_rank(const troupe_predictor* predictor, int64_t* rank) {
  return troupe::rank_to(predictor, &troupe_predictor::input_row, rank);
}

troupe_status troupe_predictor_input_shape(const troupe_predictor* predictor, int64_t* sizes, int64_t capacity) {
  return troupe::shape_to(predictor, &troupe_predictor::input_row, sizes, capacity);
}

troupe_status troupe_predictor_output_rank(const troupe_predictor* predictor, int64_t* rank) {
  return troupe::rank_to(predictor, &troupe_predictor::output_row, rank);
}

troupe_status troupe_predictor_output_shape(const troupe_predictor* predictor, int64_t* sizes, int64_t capacity) {
  return troupe::shape_to(predictor, &troupe_predictor::output_row, sizes, capacity);
}

troupe_status troupe_predictor_predict(const troupe_predictor* predictor, const float* input, int64_t rows,
                                       float* output, int64_t capacity) {
  return troupe::guarded([&] {
    troupe::require_pointer(predictor, "predictor");
    troupe::predict_rows(*predictor, input, rows, output, capacity);
  });
}

troupe_status troupe_predictor_warm_up(const troupe_predictor* predictor, int64_t rows) {
  return troupe::guarded([&] {
    troupe::require_pointer(predictor, "predictor");
    troupe::count_of_rows(rows, predictor->input_row);
    predictor->predictor.warm_up({&rows, 1});
  });
}
