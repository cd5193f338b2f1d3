#include "troupe/actors/progress.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/runtime/terminal/progress_bar.hpp"
#include "troupe/runtime/terminal/terminal_style.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <mutex>

#include <unistd.h>

namespace troupe::cast {

namespace {

// Console messages go above the bar instead of through it.
class BarSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit BarSink(ProgressBar& bar) : bar_(bar) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    std::string line(text.data(), text.size());
    while (!line.empty() && line.back() == '\n') line.pop_back();
    bar_.print_line(line);
  }
  void flush_() override {}

  ProgressBar& bar_;
};

struct Terminal {
  static constexpr const char* name = "progress";

  bool is_terminal = isatty(STDERR_FILENO) != 0;
  bool is_quiet = false;
  ActorRef recorder;  // null: there is none
  TerminalStyle style = terminal_style(is_terminal);
  ProgressBar bar{std::cerr, style.redraws, [] { return terminal_width(STDERR_FILENO); }};
  spdlog::logger console{"troupe", std::make_shared<BarSink>(bar)};

  Terminal() { console.set_pattern("%n: %v"); }

  void print(const PrintLine& message) {
    if (message.is_warning()) {
      console.info(emphasized(warning_mark, Emphasis::warning, style.colours) +
                   message.line.substr(warning_mark.size()));
    } else if (message.is_note) {
      if (!is_quiet) console.info(message.line);
    } else if (is_terminal && isatty(STDOUT_FILENO) != 0) {
      bar.print_line(message.line);  // one terminal for both: the bar must know
    } else {
      std::cout << message.line << std::endl;
    }
  }
};

caf::behavior progress(caf::stateful_actor<Terminal>* self, const ActorRef& coordinator, bool quiet) {
  state_of(self).is_quiet = quiet;
  end_with(self, coordinator);
  return HandlersInLane{
      "progress",
      [self](const ShowProgress& message) {
        state_of(self).bar.update(message.state);
        if (message.is_final) state_of(self).bar.finish();
      },
      [self](const PrintLine& message) {
        state_of(self).print(message);
        if (!message.is_warning() || !state_of(self).recorder) return;
        tell(self, state_of(self).recorder, RunNews{.warning = message.line.substr(warning_mark.size())});
      },
      [self](EndRecorder& message) { tell(self, state_of(self).recorder, std::move(message)); },
      [self](PassOnWarnings& message) { state_of(self).recorder = std::move(message.recorder); },
      [self, coordinator](Drain) {
        state_of(self).bar.close();
        std::cerr.flush();
        tell(self, coordinator, Drained{});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_progress(caf::actor_system& system, ActorRef coordinator, bool quiet) {
  return spawn_shared(system, progress, std::move(coordinator), quiet);
}

}  // namespace troupe::cast
