#include "bench/table.hpp"

#include "troupe/base/failure.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <tuple>
#include <utility>

namespace troupe::bench {
namespace {

/// The value below which the part `share` of the samples lies, linear between neighbours.
double quantile(std::vector<double> samples, double share) {
  if (samples.empty()) throw UsageError("a benchmark needs at least one sample, there are 0");
  std::sort(samples.begin(), samples.end());
  const double position = share * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const auto above = std::min(below + 1, samples.size() - 1);
  return std::lerp(samples[below], samples[above], position - static_cast<double>(below));
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

std::string measured(const Measured& value) {
  return number(value.median) + " +- " + number(value.spread);
}

using Line = std::array<std::string, 7>;

Line line_of(const Row& row) {
  return {row.name,
          measured(row.ours),
          measured(row.peer),
          row.unit,
          number(row.ratio()),
          (row.kind == Bar::at_most ? "<= " : ">= ") + number(row.bar),
          row.met() ? "yes" : "NO"};
}

struct Arguments {
  std::string json;  ///< empty: no file
  bool help = false;
};

Arguments parse(int argc, const char* const* argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      arguments.help = true;
    } else if (argument.starts_with("--json=") && argument.size() > 7) {
      arguments.json = argument.substr(7);
    } else if (argument == "--json" && i + 1 < argc) {
      arguments.json = argv[++i];
    } else if (argument == "--json" || argument == "--json=") {
      throw UsageError("--json needs the name of a file");
    } else {
      throw UsageError("unknown argument '" + std::string(argument) + "'; there are --json FILE and --help");
    }
  }
  return arguments;
}

std::ofstream open_for_writing(const std::string& file) {
  std::ofstream out(file);
  if (!out) throw UsageError("cannot write to '" + file + "'; name a file in a folder that exists and is writable");
  return out;
}

}  // namespace

double median(std::vector<double> samples) {
  return quantile(std::move(samples), 0.5);
}

double spread(const std::vector<double>& samples) {
  return quantile(samples, 0.75) - quantile(samples, 0.25);
}

Measured summarize(const std::vector<double>& samples) {
  return {.median = median(samples), .spread = spread(samples)};
}

Row at_most(std::string name, Measured ours, Measured peer, std::string unit, double bar) {
  return {std::move(name), ours, peer, std::move(unit), Bar::at_most, bar};
}

Row at_least(std::string name, Measured ours, Measured peer, std::string unit, double bar) {
  return {std::move(name), ours, peer, std::move(unit), Bar::at_least, bar};
}

void print(std::ostream& out, std::string_view title, const std::vector<Row>& rows) {
  std::vector<Line> lines = {{"name", "ours", "peer", "unit", "ours/peer", "bar", "met"}};
  for (const auto& row : rows) lines.push_back(line_of(row));
  std::array<std::size_t, std::tuple_size_v<Line>> widths{};
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());

  out << title << "\n\n";
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - line[i].size(), ' ');
      const bool is_text = i == 0 || i == 3;  // numbers stand right
      text += (i == 0 ? "" : "  ") + (is_text ? line[i] + padding : padding + line[i]);
    }
    out << text << '\n';
  }
}

std::string to_json(const std::vector<Row>& rows) {
  auto array = nlohmann::ordered_json::array();
  for (const auto& row : rows) {
    array.push_back({{"name", row.name},
                     {"ours", row.ours.median},
                     {"peer", row.peer.median},
                     {"unit", row.unit},
                     {"ratio", row.ratio()},
                     {"bar", row.bar},
                     {"met", row.met()},
                     {"bar_is", row.kind == Bar::at_most ? "at most" : "at least"},
                     {"ours_spread", row.ours.spread},
                     {"peer_spread", row.peer.spread}});
  }
  return array.dump(2) + "\n";
}

int run(int argc, const char* const* argv, std::string_view title, const std::function<std::vector<Row>()>& measure) {
  const std::string program = argc > 0 ? std::string(argv[0]).substr(std::string(argv[0]).rfind('/') + 1) : "bench";
  std::optional<std::ofstream> json;
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.help) {
      std::cout << title << "\n\nusage: " << program << " [--json FILE]\n";
      return 0;
    }
    if (!arguments.json.empty()) json = open_for_writing(arguments.json);
  } catch (const UsageError& error) {
    std::cerr << program << ": " << error.what() << '\n';
    return 2;
  }
  try {
    const auto rows = measure();
    print(std::cout, title, rows);
    if (!json) return 0;
    if (*json << to_json(rows) << std::flush) return 0;
    std::cerr << program << ": the rows could not be written to the file that --json names\n";
  } catch (const std::exception& error) {
    std::cerr << program << ": " << error.what() << '\n';
  }
  return 1;
}

}  // namespace troupe::bench
