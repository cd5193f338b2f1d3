// What was thrown, as text: the one place that knows all that user code may throw.
#pragma once

#include "troupe/base/type_name.hpp"

#include <c10/util/Exception.h>

#include <cxxabi.h>

#include <exception>
#include <string>
#include <typeinfo>

namespace troupe {

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
    text = error.what_without_backtrace();
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
