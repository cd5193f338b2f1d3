// What bench/distributed prints: medians with their spread, rows held against a bar, as a table on stdout and as JSON.
// The programs that bench/run starts print cells.hpp's lines instead.
//
// Functions without state, for any thread.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::bench {

/// The middle of the samples, the mean of the two middle ones where their number is even. Throws UsageError for none.
double median(std::vector<double> samples);

/// The interquartile range: the third quartile less the first, interpolated between samples (numpy's default). Throws
/// UsageError for no samples.
double spread(const std::vector<double>& samples);

/// A measured quantity in its row's unit.
struct Measured {
  double median = 0;
  double spread = 0;  ///< 0 for a single sample
};
Measured summarize(const std::vector<double>& samples);

enum class Bar { at_most, at_least };

/// One claim: `ratio` is ours / peer, whatever the unit, and the bar is a bound of it.
struct Row {
  std::string name;
  Measured ours;
  Measured peer;
  std::string unit;
  Bar kind = Bar::at_most;
  double bar = 0;

  double ratio() const { return ours.median / peer.median; }
  bool met() const { return kind == Bar::at_most ? ratio() <= bar : ratio() >= bar; }
};

/// ours / peer may be `bar` at most: for times and sizes.
Row at_most(std::string name, Measured ours, Measured peer, std::string unit, double bar);
/// ours / peer has to be `bar` at least: for rates.
Row at_least(std::string name, Measured ours, Measured peer, std::string unit, double bar);

/// The title and an aligned table, numbers as median +- spread.
void print(std::ostream& out, std::string_view title, const std::vector<Row>& rows);

/// An array of {name, ours, peer, unit, ratio, bar, met} and, beyond these, bar_is ("at most" or "at least"),
/// ours_spread and peer_spread.
std::string to_json(const std::vector<Row>& rows);

/// The whole main function: reads the arguments (`--json FILE`, `--help`), measures, prints the table, writes the file.
/// Returns 0 when it measured, bars met or not; 2 with one sentence on stderr for bad arguments and a file that cannot
/// be written, which is found out before measuring; 1 with the message of what `measure` throws.
int run(int argc, const char* const* argv, std::string_view title, const std::function<std::vector<Row>()>& measure);

}  // namespace troupe::bench
