// The viewer's end of the socket in a run's folder.
#pragma once

#include "troupe/runtime/live/live_message.hpp"
#include "troupe/runtime/live/live_socket.hpp"

#include <chrono>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>

namespace troupe::live {

/// Used by one thread.
class LiveClient {
 public:
  /// Connects, and waits for the first message. Throws UsageError, in one sentence, if nobody serves there, if the run
  /// is another user's, and if it says something else than this version understands.
  explicit LiveClient(const std::filesystem::path& folder,
                      std::chrono::milliseconds patience = std::chrono::seconds(5));

  const Hello& hello() const { return hello_; }
  /// The line that said so.
  const std::string& hello_line() const { return hello_line_; }
  /// Readable when something has come.
  int descriptor() const { return socket_.get(); }

  /// False if the run is not there any more; next_line() then gives what it has said before.
  bool ask(const Request& request);
  /// Waits that long for a line. Nothing: none has come, or none will (has_ended). Throws UsageError for a line beyond
  /// longest_message.
  std::optional<std::string> next_line(std::chrono::milliseconds patience);
  /// The run has closed its end, and all that it said has been taken.
  bool has_ended() const { return is_closed_ && lines_.empty(); }

 private:
  void receive(std::chrono::milliseconds patience);

  Descriptor socket_;
  Hello hello_;
  std::string hello_line_, buffer_;
  std::deque<std::string> lines_;
  bool is_closed_ = false;
};

}  // namespace troupe::live
