// Automatic mixed precision for a stretch of code.
#pragma once

#include "troupe/modules/options/precision.hpp"

#include <ATen/autocast_mode.h>

namespace troupe {

/// While it lives, operations on the device's type that can do with a shorter format run in it, as under PyTorch's
/// `torch.autocast` (https://pytorch.org/docs/stable/amp.html); the thread's own. Does nothing for a precision that is
/// not mixed. May be nested.
class Autocast {
 public:
  Autocast(Precision precision, torch::Device device) : is_on_(is_mixed(precision)), type_(device.type()) {
    if (!is_on_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(type_);
    previous_dtype_ = at::autocast::get_autocast_dtype(type_);
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(type_, precision == Precision::float16_mixed ? torch::kFloat16 : torch::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!is_on_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_dtype(type_, previous_dtype_);
    at::autocast::set_autocast_enabled(type_, was_enabled_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool is_on_;
  at::DeviceType type_;
  bool was_enabled_ = false;
  at::ScalarType previous_dtype_ = at::kFloat;
};

/// While it lives, operations run in the formats of their arguments, within an Autocast too: for backward and steps. At
/// its end an Autocast around it casts parameters anew: they may have changed, and what was cast is kept by LibTorch
/// until the Autocast ends.
class AutocastOff {
 public:
  explicit AutocastOff(torch::Device device)
      : type_(device.type()), was_enabled_(at::autocast::is_autocast_enabled(type_)) {
    if (was_enabled_) at::autocast::set_autocast_enabled(type_, false);
  }
  ~AutocastOff() {
    if (!was_enabled_) return;
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, true);
  }
  AutocastOff(const AutocastOff&) = delete;
  AutocastOff& operator=(const AutocastOff&) = delete;

 private:
  at::DeviceType type_;
  bool was_enabled_;
};

}  // namespace troupe
