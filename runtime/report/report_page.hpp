// The page of a run, and of several over each other: one HTML file that needs nothing else.
#pragma once

#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <optional>
#include <span>
#include <string>

namespace troupe {

/// What a page shows of a run. The curves must stay until the page is made.
struct RunView {
  RunCard card;
  const MetricCurves& curves;
};

/// The page as a whole file: UTF-8, with its style, its program and its data in it; it loads nothing, and its
/// Content-Security-Policy forbids it to. What comes from users (names, options, messages) is text there whatever it
/// looks like, and bytes that are not UTF-8 become U+FFFD.
///
/// One run: its page. A page of a run that goes on reads its own file anew every 10 seconds (write_report_page replaces
/// it as a whole). Several: their curves over each other, and the options that differ. None: a page that says so.
///
/// 20 metrics of 100,000 points take about 0.9 MB, since MetricCurve keeps at most 2,000 of them.
std::string report_page(std::span<const RunView> runs);

/// `page`, which report_page made of one run, with `card` in place of the run's: its curves stay. None if it is no such
/// page.
std::optional<std::string> page_with_card(const std::string& page, const RunCard& card);

/// report_page(runs) as the file `path`, which is replaced at once: who reads it sees the old page or the new one.
/// Throws FileError.
void write_report_page(std::span<const RunView> runs, const std::filesystem::path& path);

}  // namespace troupe
