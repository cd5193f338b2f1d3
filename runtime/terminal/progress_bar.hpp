// The progress bar: when and where progress is drawn. What a line looks like is in progress_line.hpp.
#pragma once

#include "troupe/runtime/terminal/progress_line.hpp"

#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

namespace troupe {

/// Columns of the terminal behind `file_descriptor`; 80 where it is none or does not say.
int terminal_width(int file_descriptor);

/// Seconds of a clock that never goes back.
double steady_seconds();

struct ProgressBarOptions {
  double redraw_seconds = 0.1;  ///< least time between two drawings on a terminal
  double line_seconds = 5;      ///< least time between two lines of a stage if there is no terminal
  /// Keep the line of each finished training epoch on the terminal; otherwise the next epoch takes its place, as in
  /// Lightning.
  bool leave = false;
};

/// Draws the states that it is given: on a terminal as a bar that is drawn over, elsewhere as plain lines.
///
/// On a terminal, validation during training has a second line below the training bar, which disappears when it is
/// finished; so does the sanity check. Everything else that prints to the same terminal must go through `print_line`,
/// or it ends up in the middle of the bar.
///
///     ProgressBar bar(std::cout, isatty(1), [] { return terminal_width(1); });
///     bar.update(state);          // any number of times, from the first batch on
///     bar.finish();               // the last state of the stage, always drawn
///     bar.close();                // the run is over; the cursor goes to a line of its own
///
/// Used from one thread. Write errors are left to the stream's state: progress is never a reason to end a run.
class ProgressBar {
 public:
  using Clock = std::function<double()>;
  using Width = std::function<int()>;

  /// `out` must outlive the bar. `width` is asked at every drawing, so that a resized terminal is followed.
  ProgressBar(std::ostream& out, bool is_terminal, Width width, Clock clock = steady_seconds,
              ProgressBarOptions options = {});

  /// Shows `state` when a drawing is due. A state of another activity starts another stage: a stage that was not
  /// finished is finished first, except that validation leaves the training bar open.
  void update(const ProgressState& state);

  /// Ends the stage that was updated last and shows its last state. Nothing without one.
  void finish();

  /// Prints a line (or several, joined by '\n') above the bar.
  void print_line(std::string_view line);

  /// Finishes what is open and ends the line. The bar can be used again afterwards.
  void close();

 private:
  struct Stage {
    ProgressState state;
    double last_line = 0;  ///< when a plain line was last printed, or the stage began
    bool printed = false;  ///< whether the state is on a plain line already
  };

  bool passes_by(Activity activity) const;
  std::optional<Stage>& stage_for(const ProgressState& state);
  void finish_main();
  void draw();
  void print_plain(Stage& stage, double now);

  std::ostream& out_;
  bool is_terminal_;
  Width width_;
  Clock clock_;
  ProgressBarOptions options_;

  std::optional<Stage> main_;    ///< training, or a stage run by itself
  std::optional<Stage> nested_;  ///< validation during training
  bool main_finished_ = false;   ///< an epoch's last state, waiting for the next epoch to take its place
  int lines_on_screen_ = 0;
  std::optional<double> last_drawing_;
};

}  // namespace troupe
