#include "troupe/runtime/live/live_client.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include <poll.h>
#include <sys/socket.h>

namespace troupe::live {

namespace {

[[noreturn]] void refuse_connection(const std::filesystem::path& folder, const std::system_error& error) {
  const auto run = shown(folder.string());
  if (error.code() == std::errc::no_such_file_or_directory) {
    throw UsageError("nobody can attach to the run in " + run + ": it has no socket (" + socket_name +
                     "), which a run has while it goes on, unless trainer.attach = off");
  }
  if (error.code() == std::errc::connection_refused) {
    throw UsageError("the run in " + run + " is gone: its socket is left over, and nobody answers");
  }
  if (error.code() == std::errc::permission_denied) {
    throw UsageError("the run in " + run + " belongs to another user, who alone may attach to it");
  }
  throw UsageError("cannot attach to the run in " + run + ": " + error.code().message());
}

Descriptor connected(const std::filesystem::path& folder) {
  try {
    return connect_to(folder);
  } catch (const std::system_error& error) {
    refuse_connection(folder, error);
  }
}

}  // namespace

LiveClient::LiveClient(const std::filesystem::path& folder, std::chrono::milliseconds patience)
    : socket_(connected(folder)) {
  const auto run = shown(folder.string());
  const auto line = next_line(patience);
  if (!line && is_closed_) throw UsageError("the run in " + run + " has refused to be attached to");
  if (!line) throw UsageError("the run in " + run + " does not answer: it hangs, or is stopped");
  const auto message = message_from_line(*line);
  const auto* hello = message ? std::get_if<Hello>(&*message) : nullptr;
  const auto* answer = message ? std::get_if<RequestAnswer>(&*message) : nullptr;
  if (answer) throw UsageError("the run in " + run + " refuses: " + single_line(answer->text));
  if (!hello) throw UsageError("what answers in " + run + " is no run of Troupe's");
  if (hello->protocol != protocol_version) {
    throw UsageError("the run in " + run + " is of Troupe " + single_line(shown(hello->troupe)) +
                     ", which speaks protocol " + std::to_string(hello->protocol) + "; this one speaks " +
                     std::to_string(protocol_version));
  }
  hello_ = *hello;
  hello_line_ = *line;
}

bool LiveClient::ask(const Request& request) {
  const auto line = line_of(request) + "\n";
  std::size_t sent = 0;
  while (sent < line.size()) {
    const auto count = ::send(socket_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

std::optional<std::string> LiveClient::next_line(std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + patience;
  while (lines_.empty() && !is_closed_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    receive(std::max(left, std::chrono::milliseconds(0)));
    if (Clock::now() >= deadline) break;
  }
  if (lines_.empty()) return std::nullopt;
  auto line = std::move(lines_.front());
  lines_.pop_front();
  return line;
}

void LiveClient::receive(std::chrono::milliseconds patience) {
  pollfd waiting{socket_.get(), POLLIN, 0};
  if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return;
  std::array<char, 1 << 16> bytes;
  const auto count = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {
    is_closed_ = true;
    return;
  }
  buffer_.append(bytes.data(), static_cast<std::size_t>(count));
  std::size_t begin = 0;
  for (auto end = buffer_.find('\n'); end != std::string::npos; begin = end + 1, end = buffer_.find('\n', begin)) {
    lines_.push_back(buffer_.substr(begin, end - begin));
  }
  buffer_.erase(0, begin);
  if (buffer_.size() > longest_message) throw UsageError("what answers in the run's folder is no run of Troupe's");
}

}  // namespace troupe::live
