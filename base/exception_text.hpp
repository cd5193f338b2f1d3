// What was thrown, as text: the one place that knows all that user code may throw.
#pragma once

#include "troupe/base/type_name.hpp"

#include <c10/util/Exception.h>

#include <cxxabi.h>

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <typeinfo>

namespace troupe {

/// A message of LibTorch's as one of Troupe's: "[enforce fail at alloc_cpu.cpp:127] err == 0. " names a line of its
/// own, what it advises in Python has another name here, and nobody reads its list of all kernels of an operator.
inline std::string in_our_words(std::string message) {
  if (message.starts_with("[enforce fail at ")) {
    const auto place = message.find("] ");
    const auto condition = place == std::string::npos ? place : message.find(". ", place);
    if (condition != std::string::npos) message.erase(0, condition + 2);
  }
  if (message.starts_with("Could not run '")) message.resize(std::min(message.find(". This could be"), message.size()));
  constexpr std::string_view in_python = "with torch.autograd.set_detect_anomaly(True, check_nan=False)";
  if (const auto at = message.find(in_python); at != std::string::npos) {
    message.replace(at, in_python.size(), "with trainer.detect_anomaly = true");
  }
  return message;
}

/// The text of the exception being handled: what() without LibTorch's stack trace, or a text that was thrown itself. If
/// it has none, a text that names its type; never empty. Call it inside a catch block.
inline std::string current_exception_text() {
  const auto type = [] {
    const std::type_info* thrown = abi::__cxa_current_exception_type();
    return thrown ? full_type_name(*thrown) : std::string("an unknown type");
  };
  std::string text;
  try {
    throw;
  } catch (const c10::Error& error) {
    text = in_our_words(error.what_without_backtrace());
  } catch (const std::exception& error) {
    text = error.what();
  } catch (const std::string& thrown) {
    text = thrown;
  } catch (const char* thrown) {
    text = thrown ? thrown : "";
  } catch (...) {
    return "an exception of type " + type() + ", which is not a std::exception";
  }
  return text.empty() ? "an exception of type " + type() + ", without a text" : text;
}

/// Runs `action`. Returns the text of what it throws, or "".
template <class Action>
std::string text_thrown_by(Action action) {
  try {
    action();
    return "";
  } catch (...) {
    return current_exception_text();
  }
}

}  // namespace troupe
