#include "troupe/runtime/distributed/power_sgd.hpp"

#include "troupe/runtime/distributed/wide_type.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/random.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace troupe {

namespace {

constexpr const char* power_sgd_key = "powersgd";

std::string prefix_of(std::size_t index, const char* what) {
  return std::string(power_sgd_key) + "." + std::to_string(index) + "." + what + ".";
}

std::map<std::string, torch::Tensor> tensors_at(const Checkpoint& state, const std::string& prefix) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor] : state.tensors) {
    if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), tensor.clone());
  }
  return found;
}

using Column = std::vector<double>;

double dot(const Column& a, const Column& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Takes away what lies in the first `count` columns. Twice, since what is left of a column that nearly lies in them is
// not orthogonal to them after once (Giraud et al. 2005, "twice is enough").
void project_out(const std::vector<Column>& columns, std::size_t count, Column& column) {
  for (int i = 0; i < 2; ++i) {
    for (std::size_t other = 0; other < count; ++other) {
      const double part = dot(columns[other], column);
      for (std::size_t row = 0; row < column.size(); ++row) column[row] -= part * columns[other][row];
    }
  }
}

void scale_to_one(Column& column, double norm) {
  for (auto& value : column) value /= norm;
}

// Of the axes one is at least this far from the space of `count` columns.
void take_axis(const std::vector<Column>& columns, std::size_t count, Column& column) {
  const auto rows = static_cast<double>(column.size());
  const double far_enough = 0.5 * std::sqrt((rows - static_cast<double>(count)) / rows);
  for (std::size_t axis = 0; axis < column.size(); ++axis) {
    std::ranges::fill(column, 0.0);
    column[axis] = 1;
    project_out(columns, count, column);
    const double norm = std::sqrt(dot(column, column));
    if (norm >= far_enough) return scale_to_one(column, norm);
  }
}

template <class Number>
void orthogonalize_on_cpu(torch::Tensor& matrix) {
  const auto rows = static_cast<std::size_t>(matrix.size(0)), count = static_cast<std::size_t>(matrix.size(1));
  auto* data = matrix.mutable_data_ptr<Number>();
  std::vector<Column> columns(count, Column(rows));
  for (std::size_t i = 0; i < rows * count; ++i) columns[i % count][i / count] = static_cast<double>(data[i]);
  for (std::size_t i = 0; i < count; ++i) {
    const double before = std::sqrt(dot(columns[i], columns[i]));
    project_out(columns, i, columns[i]);
    const double norm = std::sqrt(dot(columns[i], columns[i]));
    // What is left is the rounding of what was there.
    const double nothing = 8 * std::numeric_limits<Number>::epsilon() * before;
    std::isfinite(before) && norm <= nothing ? take_axis(columns, i, columns[i]) : scale_to_one(columns[i], norm);
  }
  for (std::size_t i = 0; i < rows * count; ++i) data[i] = static_cast<Number>(columns[i % count][i / count]);
}

}  // namespace

void orthogonalize(torch::Tensor& matrix) {
  const torch::NoGradGuard no_gradients;
  if (!matrix.is_cpu()) {
    matrix.copy_(std::get<0>(at::linalg_qr(matrix)));
    return;
  }
  auto dense = matrix.contiguous();
  dense.scalar_type() == torch::kFloat64 ? orthogonalize_on_cpu<double>(dense) : orthogonalize_on_cpu<float>(dense);
  if (!dense.is_same(matrix)) matrix.copy_(dense);
}

// --- A step ---

// The gradient as a matrix that is worth it; nothing for others.
std::optional<PowerSgd::Matrix> PowerSgd::matrix_of(const Gradient& gradient) const {
  const auto& tensor = gradient.tensor;
  if (tensor.dim() < 2 || tensor.numel() == 0 || !tensor.is_floating_point()) return std::nullopt;
  const int64_t rows = tensor.size(0), columns = tensor.numel() / rows;
  const int64_t rank = std::min({rows, columns, options_.rank});
  const auto sent = static_cast<double>((rows + columns) * rank);
  if (sent * options_.least_rate >= static_cast<double>(tensor.numel())) return std::nullopt;
  Matrix matrix;
  matrix.name = gradient.name;
  matrix.gradient = tensor;
  matrix.whole = tensor.reshape({rows, columns}).to(wide_type(tensor));
  const auto kept_in = [&](const auto& all, at::IntArrayRef sizes) {
    const auto found = all.find(gradient.name);
    const bool fits = found != all.end() && found->second.sizes() == sizes && found->second.is_floating_point();
    return fits ? found->second.to(matrix.whole.options()) : torch::Tensor();
  };
  if (const auto error = kept_in(errors_, {rows, columns}); error.defined()) {
    matrix.whole = matrix.whole + error;
  } else if (options_.error_feedback && matrix.whole.is_alias_of(tensor)) {
    matrix.whole = matrix.whole.clone();  // what is left out is known when the gradient has become the mean
  }
  if (const auto q = kept_in(qs_, {columns, rank}); options_.warm_start && q.defined()) {
    matrix.q = q.clone();
  } else {
    matrix.q = first_q(gradient.name, columns, rank).to(matrix.whole.options());
  }
  orthogonalize(matrix.q);
  return matrix;
}

// The same numbers on all workers, and others in each step.
torch::Tensor PowerSgd::first_q(const std::string& name, int64_t rows, int64_t columns) const {
  uint64_t seed = mix(options_.seed, static_cast<uint64_t>(steps_));
  for (const char letter : name) seed = mix(seed, static_cast<unsigned char>(letter));
  return torch::randn({rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kFloat32);
}

void PowerSgd::begin(std::vector<Gradient> gradients, const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  const torch::NoGradGuard no_gradients;
  Bucket bucket;
  bucket.group = group;
  std::vector<torch::Tensor> parts;
  for (const auto& gradient : gradients) {
    if (auto matrix = matrix_of(gradient)) {
      matrix->p = torch::matmul(matrix->whole, matrix->q);
      bucket.matrices.push_back(std::move(*matrix));
    } else {
      bucket.others.push_back(gradient.tensor);
      parts.push_back(gradient.tensor.flatten().to(wide_type(gradient.tensor)));
    }
  }
  for (const auto& matrix : bucket.matrices) parts.push_back(matrix.p.flatten());
  if (!parts.empty()) {
    bucket.first = torch::cat(parts);
    std::vector<torch::Tensor> tensors{bucket.first};
    bucket.work = bucket.group->allreduce(tensors);
  }
  buckets_.push_back(std::move(bucket));
}

void PowerSgd::finish() {
  const torch::NoGradGuard no_gradients;
  auto buckets = std::exchange(buckets_, {});
  for (auto& bucket : buckets) take_first(bucket);
  for (auto& bucket : buckets) take_second(bucket);
  count_step();
}

// The sums of what is not compressed and of the Ps have come; the Qs go.
void PowerSgd::take_first(Bucket& bucket) {
  if (!bucket.work) return;
  bucket.work->wait();
  int64_t at = 0;
  for (auto& gradient : bucket.others) {
    const auto sum = bucket.first.narrow(0, at, gradient.numel());
    gradient.copy_((sum / bucket.group->getSize()).view(gradient.sizes()));
    at += gradient.numel();
  }
  std::vector<torch::Tensor> parts;
  for (auto& matrix : bucket.matrices) {
    matrix.p = bucket.first.narrow(0, at, matrix.p.numel()).view(matrix.p.sizes()).clone();
    at += matrix.p.numel();
    orthogonalize(matrix.p);
    matrix.q = torch::matmul(matrix.whole.t(), matrix.p);
    parts.push_back(matrix.q.flatten());
  }
  if (parts.empty()) return;
  bucket.second = torch::cat(parts);
  std::vector<torch::Tensor> tensors{bucket.second};
  bucket.work = bucket.group->allreduce(tensors);
}

void PowerSgd::take_second(Bucket& bucket) {
  if (bucket.matrices.empty()) return;
  bucket.work->wait();
  bucket.second.div_(bucket.group->getSize());
  const bool is_finite = torch::isfinite(bucket.first).all().item<bool>() &&
                         torch::isfinite(bucket.second).all().item<bool>();  // alike on all workers
  int64_t at = 0;
  for (auto& matrix : bucket.matrices) {
    matrix.q = bucket.second.narrow(0, at, matrix.q.numel()).view(matrix.q.sizes()).clone();
    at += matrix.q.numel();
    const auto mean = torch::matmul(matrix.p, matrix.q.t());
    matrix.gradient.copy_(mean.view(matrix.gradient.sizes()));
    if (!is_finite) continue;
    if (options_.error_feedback) errors_[matrix.name] = matrix.whole.sub_(mean);
    if (options_.warm_start) qs_[matrix.name] = matrix.q;
  }
}

// --- State ---

void PowerSgd::append_shared(Checkpoint& checkpoint, std::size_t index) const {
  auto& all = checkpoint.metadata[power_sgd_key];
  while (all.size() <= index) all.push_back({{"steps", 0}});
  all[index]["steps"] = steps_;
  for (const auto& [name, q] : qs_) checkpoint.tensors.emplace_back(prefix_of(index, "q") + name, q);
}

void PowerSgd::append_own(Checkpoint& state, std::size_t index) const {
  for (const auto& [name, error] : errors_) state.tensors.emplace_back(prefix_of(index, "error") + name, error);
}

void PowerSgd::load_shared(const Checkpoint& checkpoint, std::size_t index) {
  const auto all = checkpoint.metadata.value(power_sgd_key, nlohmann::json::array());
  const StateReader reader(checkpoint.metadata, "the checkpoint");
  if (!all.is_array()) reader.refuse("powersgd is not a list");
  if (index >= all.size()) return;
  steps_ = StateReader(all[index], "the checkpoint's powersgd " + std::to_string(index)).count("steps");
  qs_ = tensors_at(checkpoint, prefix_of(index, "q"));
}

void PowerSgd::load_own(const Checkpoint& state, std::size_t index) {
  errors_ = tensors_at(state, prefix_of(index, "error"));
}

void PowerSgd::load_mean(const std::vector<Checkpoint>& states, std::size_t index) {
  errors_.clear();
  for (const auto& state : states) {
    for (const auto& [name, error] : tensors_at(state, prefix_of(index, "error"))) {
      auto& sum = errors_[name];
      if (sum.defined() && sum.sizes() != error.sizes()) {
        throw CheckpointError("the checkpoint's errors of " + shown(name) + " differ in their shapes among the ranks");
      }
      sum = sum.defined() ? sum + error : error;
    }
  }
  for (auto& [name, sum] : errors_) sum.div_(static_cast<double>(states.size()));
}

}  // namespace troupe
