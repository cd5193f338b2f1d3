#include "troupe/modules/batch.hpp"

#include "troupe/modules/support/tensor_bytes.hpp"

#include <algorithm>
#include <stdexcept>

namespace troupe {

namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) {
    if (name.empty()) continue;
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out.empty() ? "no names" : out;
}

}  // namespace

Batch::Batch(std::initializer_list<std::pair<std::string, torch::Tensor>> named) {
  for (const auto& [name, tensor] : named) append(name, tensor);
}

void Batch::append(std::string name, torch::Tensor tensor) {
  if (!name.empty()) {
    if (std::find(names_.begin(), names_.end(), name) != names_.end()) {
      throw std::invalid_argument("a batch holds each name once; '" + name + "' came twice");
    }
    names_.resize(tensors_.size());
  }
  tensors_.push_back(std::move(tensor));
  if (!name.empty() || !names_.empty()) names_.push_back(std::move(name));
}

const torch::Tensor& Batch::at(int position) const {
  if (position < 0 || static_cast<std::size_t>(position) >= tensors_.size()) {
    throw std::out_of_range("no tensor " + std::to_string(position) + " in a batch of " +
                            std::to_string(tensors_.size()) + " tensors");
  }
  return tensors_[static_cast<std::size_t>(position)];
}

const torch::Tensor& Batch::operator[](std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end() || name.empty()) {
    throw std::out_of_range("no tensor '" + std::string(name) + "' in the batch; it holds: " + joined(names_));
  }
  return tensors_[static_cast<std::size_t>(found - names_.begin())];
}

torch::Tensor& Batch::operator[](std::string_view name) {
  return const_cast<torch::Tensor&>(std::as_const(*this)[name]);
}

void Batch::throw_too_few(std::size_t wanted) const {
  throw std::out_of_range("get<" + std::to_string(wanted) + ">() of a batch of " + std::to_string(tensors_.size()) +
                          " tensors");
}

const Batch& Batch::part(std::size_t position) const {
  if (position < parts_.size()) return parts_[position];
  throw std::out_of_range("no part " + std::to_string(position) + " in a batch of " + std::to_string(parts_.size()) +
                          " parts");
}

const Batch& Batch::part(std::string_view name) const {
  const auto found = std::find(part_names_.begin(), part_names_.end(), name);
  if (found == part_names_.end() || name.empty()) {
    throw std::out_of_range("no part '" + std::string(name) + "' in the batch; it holds: " + joined(part_names_));
  }
  return parts_[static_cast<std::size_t>(found - part_names_.begin())];
}

void Batch::append_part(std::string name, Batch part) {
  parts_.push_back(std::move(part));
  part_names_.push_back(std::move(name));
}

int64_t Batch::first_size() const {
  for (const auto& tensor : tensors_) {
    if (tensor.defined() && tensor.dim() > 0) return tensor.size(0);
  }
  return -1;
}

int64_t Batch::size() const {
  if (said_size_ >= 0) return said_size_;
  if (!parts_.empty()) return parts_.front().size();
  const int64_t first = first_size();
  if (made_of_ == 0) return first < 0 ? 1 : first;
  const auto agrees = [first](const torch::Tensor& tensor) {
    return !tensor.defined() || tensor.dim() == 0 || tensor.size(0) == first;
  };
  return first > 0 && std::all_of(tensors_.begin(), tensors_.end(), agrees) ? first : made_of_;
}

void Batch::set_size(int64_t samples) {
  if (samples < 0) {
    throw std::invalid_argument("a batch of " + std::to_string(samples) + " samples cannot be; use 0 or more");
  }
  said_size_ = samples;
}

int64_t Batch::bytes() const {
  int64_t sum = 0;
  for (const auto& tensor : tensors_) sum += tensor_bytes(tensor);
  for (const auto& part : parts_) sum += part.bytes();
  return sum;
}

Batch Batch::to(torch::Device device, bool non_blocking) const {
  Batch out = *this;
  for (auto& tensor : out.tensors_) {
    if (tensor.defined()) tensor = tensor.to(device, non_blocking);
  }
  for (auto& part : out.parts_) part = part.to(device, non_blocking);
  return out;
}

Batch Batch::pin_memory() const {
  Batch out = *this;
  for (auto& tensor : out.tensors_) {
    if (tensor.defined() && tensor.device().is_cpu()) tensor = tensor.pin_memory();
  }
  for (auto& part : out.parts_) part = part.pin_memory();
  return out;
}

}  // namespace troupe
