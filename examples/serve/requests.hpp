// A request and its answer, an object of JSON on a line each:
//
//     {"id": 7, "input": [0, 0.5, ...]}      the numbers of one sample, row after row
//     {"id": 7, "output": [-1.5, ...]}       or {"id": 7, "error": "..."}
//
// The id is a text or a number of the client's choice, and may be left out.
#pragma once

#include "line_reader.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

struct Request {
  nlohmann::json id;
  std::vector<float> input;
  std::string error;  // why there is no input
};

inline std::vector<float> numbers_of(const nlohmann::json& input, std::size_t size) {
  if (!input.is_array()) throw std::invalid_argument("'input' is no list of numbers");
  if (input.size() != size) {
    throw std::invalid_argument("'input' has " + std::to_string(input.size()) + " numbers, not " +
                                std::to_string(size));
  }
  std::vector<float> out;
  out.reserve(size);
  for (const auto& number : input) {
    const auto name = [&] { return "'input' at " + std::to_string(out.size()); };
    if (!number.is_number()) throw std::invalid_argument(name() + " is no number");
    const auto value = number.get<double>();
    if (std::abs(value) > std::numeric_limits<float>::max()) {
      throw std::invalid_argument(name() + " is too large for float32");
    }
    out.push_back(static_cast<float>(value));
  }
  return out;
}

/// The object on the line. Throws std::invalid_argument that says where there is none.
inline nlohmann::json object_in(const std::string& text) {
  try {
    auto object = nlohmann::json::parse(text);
    if (!object.is_object()) throw std::invalid_argument("the line is no object of JSON");
    return object;
  } catch (const nlohmann::json::parse_error& error) {
    const auto byte = std::min(error.byte == 0 ? 0 : error.byte - 1, text.size());
    const nlohmann::json found = text.substr(byte, 20);
    throw std::invalid_argument("the line is no object of JSON: at byte " + std::to_string(byte) + " " +
                                (byte == text.size()
                                     ? "it ends"
                                     : "is " + found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)));
  } catch (const nlohmann::json::out_of_range& error) {  // "... number overflow parsing '1e400'"
    const std::string said = error.what();
    throw std::invalid_argument("a number is too large for float32: " +
                                said.substr(std::min(said.find('\''), said.size()), 40));
  }
}

/// The first of the keys that an object has in place of 'input': ", but 'imput'".
inline std::string other_keys(const nlohmann::json& object) {
  std::string text;
  int count = 0;
  for (const auto& [key, value] : object.items()) {
    if (key == "id" || ++count > 5) continue;
    text += (text.empty() ? ", but '" : ", '") + key.substr(0, 40) + "'";
  }
  return text;
}

/// Of a line from anyone: what is wrong with it is in `error`. `size` is how many numbers a sample has.
inline Request read_request(const Line& line, std::size_t size) {
  Request out;
  try {
    if (line.is_too_long) throw std::invalid_argument("the line is longer than a request can be");
    const auto object = object_in(line.text);
    if (const auto id = object.find("id"); id != object.end()) {
      if (!id->is_string() && !id->is_number()) throw std::invalid_argument("'id' is neither a text nor a number");
      out.id = *id;
    }
    if (!object.contains("input")) throw std::invalid_argument("there is no 'input'" + other_keys(object));
    out.input = numbers_of(object["input"], size);
  } catch (const std::invalid_argument& error) {
    out.error = error.what();
  }
  return out;
}

/// Numbers that are not finite are null, since JSON has none.
inline std::string output_line(const Request& request, const float* output, std::size_t size) {
  return nlohmann::json{{"id", request.id}, {"output", std::vector<float>(output, output + size)}}.dump() + '\n';
}

inline std::string error_line(const Request& request, const std::string& error) {
  const nlohmann::json answer{{"id", request.id}, {"error", error}};
  return answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}
