#include "troupe/runtime/live/prometheus.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

namespace troupe::live {

namespace {

using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

std::string escaped_label(std::string_view text) {
  std::string out;
  for (const char c : valid_utf8(text)) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

std::string value_text(double value) {
  if (std::isfinite(value)) return double_to_text(value);
  return std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

/// Families of samples, one below the other.
class Exposition {
 public:
  void begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    ((text_ += "# HELP ") += name_) += ' ';
    (text_ += help) += "\n# TYPE ";
    ((text_ += name_) += ' ') += type;
    text_ += '\n';
  }
  void add(double value, Labels labels = {}) {
    text_ += name_;
    char before = '{';
    for (const auto& [name, label] : labels) {
      text_ += before;
      ((text_ += name) += "=\"") += escaped_label(label);
      text_ += '"';
      before = ',';
    }
    if (labels.size() > 0) text_ += '}';
    (text_ += ' ') += value_text(value) + "\n";
  }
  void one(std::string_view name, std::string_view type, std::string_view help, double value) {
    begin(name, type, help);
    add(value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_, name_;
};

std::string response(std::string_view status, std::string_view body, bool with_body, std::string_view more = "") {
  std::string out = "HTTP/1.1 ";
  out += status;
  out += "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: ";
  out += std::to_string(body.size());
  out += "\r\nConnection: close\r\n";
  out += more;
  out += "\r\n";
  if (with_body) out += body;
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/// Of the header that is called so, in small letters; nothing if there is none.
std::optional<std::string> header_in(std::string_view head, std::string_view wanted) {
  while (!head.empty()) {
    const auto end = std::min(head.find("\r\n"), head.size());
    const auto line = head.substr(0, end);
    const auto colon = line.find(':');
    if (colon != std::string_view::npos && small_letters(std::string(line.substr(0, colon))) == wanted) {
      return small_letters(std::string(trimmed(line.substr(colon + 1))));
    }
    head.remove_prefix(std::min(end + 2, head.size()));
  }
  return std::nullopt;
}

bool is_this_machine(std::string_view host) {
  const auto colon = host.rfind(':');
  const auto name = host.substr(0, colon);
  return name == "127.0.0.1" || name == "localhost";
}

}  // namespace

std::string prometheus_text(const State& state) {
  Exposition out;
  out.begin("troupe_run_info", "gauge", "What runs; always 1.");
  out.add(1, {{"run", state.run}, {"stage", state.stage}, {"status", name_of(state.status)}, {"host", state.host}});
  out.one("troupe_run_start_time_seconds", "gauge", "When the run began, in seconds since 1970.", state.started);
  out.one("troupe_run_update_time_seconds", "gauge", "When these numbers were taken, in seconds since 1970.",
          state.updated);
  out.one("troupe_epoch", "gauge", "The epoch in progress, from 0.", static_cast<double>(state.progress.epoch));
  out.one("troupe_batches_total", "counter", "Training batches finished, of all epochs.",
          static_cast<double>(state.progress.total_batches));
  out.one("troupe_optimizer_steps_total", "counter", "Steps taken, of all optimizers together.",
          static_cast<double>(state.progress.global_step));
  if (state.total_batches) {
    out.one("troupe_batches_expected", "gauge", "Training batches of the whole run.",
            static_cast<double>(*state.total_batches));
  }
  if (state.seconds_left) {
    out.one("troupe_run_seconds_left", "gauge", "Seconds until the end of training, as estimated.",
            *state.seconds_left);
  }
  out.one("troupe_ranks", "gauge", "Ranks of the run.", static_cast<double>(state.world_size));
  out.one("troupe_checkpoints", "gauge", "Checkpoints that are kept.", static_cast<double>(state.checkpoints));
  out.one("troupe_warnings_total", "counter", "Warnings of the run.", static_cast<double>(state.warnings));
  if (!state.metrics.empty()) out.begin("troupe_metric", "gauge", "The latest value of what the module logs.");
  for (const auto& [name, value] : state.metrics) out.add(value, {{"name", name}});
  if (state.phases && !state.phases->phases.empty()) {
    out.begin("troupe_phase_seconds_total", "counter", "Where the time of the first worker went in this stage.");
    for (const auto& phase : state.phases->phases) {
      out.add(phase.seconds, {{"stage", state.phases->stage}, {"phase", phase.name}});
    }
  }
  return out.take();
}

std::optional<std::string> scrape_answer(std::string_view received, const std::function<std::string()>& metrics) {
  const auto end = received.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (received.size() < longest_scrape) return std::nullopt;
    return response("431 Request Header Fields Too Large", "the request is too long\n", true);
  }
  const auto line = received.substr(0, received.find("\r\n"));
  const auto method = line.substr(0, line.find(' '));
  if (method.size() == line.size() || line.substr(line.rfind(' ') + 1).substr(0, 5) != "HTTP/") {
    return response("400 Bad Request", "this is no HTTP request\n", true);
  }
  const bool with_body = method != "HEAD";
  const auto host = header_in(received.substr(line.size() + 2, end - line.size()), "host");
  if (host && !is_this_machine(*host)) {
    return response("403 Forbidden", "this endpoint is for 127.0.0.1 alone\n", with_body);
  }
  if (method != "GET" && method != "HEAD") {
    return response("405 Method Not Allowed", "only GET and HEAD are answered\n", with_body, "Allow: GET, HEAD\r\n");
  }
  auto target = line.substr(method.size() + 1);
  target = target.substr(0, target.find_first_of(" ?"));
  if (target != "/metrics") return response("404 Not Found", "the numbers are at /metrics\n", with_body);
  return response("200 OK", metrics(), with_body);
}

}  // namespace troupe::live
