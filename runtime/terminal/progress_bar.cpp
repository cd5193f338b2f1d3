#include "troupe/runtime/terminal/progress_bar.hpp"

#include <sys/ioctl.h>

#include <chrono>
#include <utility>

namespace troupe {
namespace {

constexpr int kDefaultWidth = 80;
constexpr const char* kLineUp = "\x1b[1A";
constexpr const char* kEraseToEndOfLine = "\x1b[K";
constexpr const char* kEraseBelow = "\x1b[J";

}  // namespace

int terminal_width(int file_descriptor) {
  winsize size{};
  bool known = ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : kDefaultWidth;
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ProgressBar::ProgressBar(std::ostream& out, bool is_terminal, Width width, Clock clock, ProgressBarOptions options)
    : out_(out), is_terminal_(is_terminal), width_(std::move(width)), clock_(std::move(clock)), options_(options) {}

bool ProgressBar::passes_by(Activity activity) const {
  return activity == Activity::validate && main_ && main_->state.activity == Activity::train;
}

std::optional<ProgressBar::Stage>& ProgressBar::stage_for(const ProgressState& state) {
  if (passes_by(state.activity)) return nested_;
  if (nested_) finish();
  if (main_ && main_->state.activity != state.activity) {
    if (!main_finished_) finish();
    finish_main();
  }
  // Plain lines have no place to be taken over: each epoch is a stage of its own.
  bool next_epoch = main_ && (main_finished_ || main_->state.epoch != state.epoch);
  if (next_epoch && !is_terminal_) {
    if (!main_finished_) finish();
    main_.reset();
  }
  main_finished_ = false;
  return main_;
}

void ProgressBar::update(const ProgressState& state) {
  double now = clock_();
  auto& stage = stage_for(state);
  if (!stage) stage = Stage{.state = {}, .last_line = now, .printed = false};
  stage->state = state;
  stage->printed = false;
  if (is_terminal_) {
    if (!last_drawing_ || now - *last_drawing_ >= options_.redraw_seconds) draw();
  } else if (now - stage->last_line >= options_.line_seconds) {
    print_plain(*stage, now);
  }
}

void ProgressBar::finish() {
  if (nested_) {
    if (!is_terminal_ && !nested_->printed) print_plain(*nested_, clock_());
    nested_.reset();
    if (is_terminal_ && lines_on_screen_ > 1) draw();
    return;
  }
  if (!main_ || main_finished_) return;
  main_finished_ = true;
  if (!is_terminal_) {
    if (!main_->printed) print_plain(*main_, clock_());
    return;
  }
  draw();
  bool stays_open = main_->state.activity == Activity::train && !options_.leave;
  if (!stays_open) finish_main();
}

/// Takes the main stage off the bar; its line stays on the terminal, except that of a sanity check.
void ProgressBar::finish_main() {
  if (is_terminal_ && lines_on_screen_ > 0) {
    bool vanishes = main_ && main_->state.activity == Activity::sanity_check;
    out_ << (vanishes ? std::string("\r") + kEraseBelow : "\n") << std::flush;
  }
  main_.reset();
  main_finished_ = false;
  lines_on_screen_ = 0;
}

void ProgressBar::print_line(std::string_view line) {
  if (!is_terminal_ || lines_on_screen_ == 0) {
    out_ << line << '\n' << std::flush;
    return;
  }
  for (; lines_on_screen_ > 1; --lines_on_screen_) out_ << kLineUp;
  out_ << '\r' << kEraseBelow << line << '\n';
  draw();
}

void ProgressBar::close() {
  if (nested_) finish();
  if (!main_) return;
  finish();
  if (main_) finish_main();
}

/// Goes back to the first line of the bar and draws over it; one write, so that nothing flickers.
void ProgressBar::draw() {
  // The last column stays free: writing to it makes some terminals go on to the next line.
  int width = width_() - 1;
  if (width <= 0) width = kDefaultWidth - 1;
  std::string text;
  for (; lines_on_screen_ > 1; --lines_on_screen_) text += kLineUp;
  text += '\r' + render_bar(main_->state, width) + kEraseToEndOfLine;
  if (nested_) text += '\n' + render_bar(nested_->state, width);
  text += kEraseBelow;
  lines_on_screen_ = nested_ ? 2 : 1;
  out_ << text << std::flush;
  last_drawing_ = clock_();
}

void ProgressBar::print_plain(Stage& stage, double now) {
  out_ << render_plain(stage.state) << '\n' << std::flush;
  stage.last_line = now;
  stage.printed = true;
}

}  // namespace troupe
