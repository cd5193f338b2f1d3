// The socket in a run's folder, by which others attach to the run.
//
// A Unix socket, of the owner alone: its mode is 0600, and whoever connects must be the same user (SO_PEERCRED). The
// kernel allows 107 bytes for its path (unix(7)); folders of runs may be longer, so it is bound and found by way of the
// folder's descriptor, as /proc/self/fd/N/attach.sock, which has any length.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <sys/types.h>

namespace troupe::live {

inline constexpr const char* socket_name = "attach.sock";

/// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

/// Who is at the other end of a connection.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
};

/// The listening end, without blocking. The file goes with it.
class SocketFile {
 public:
  SocketFile() = default;
  /// One that a killed run has left is replaced. Throws std::system_error, EADDRINUSE if somebody serves there.
  explicit SocketFile(const std::filesystem::path& folder);
  SocketFile(SocketFile&&) noexcept = default;
  SocketFile& operator=(SocketFile&&) noexcept = default;
  ~SocketFile() { remove(); }

  int get() const { return socket_.get(); }
  /// Nobody finds it any more. A file that somebody else has put there stays.
  void remove();

 private:
  Descriptor folder_, socket_;
  ino_t inode_ = 0;
};

/// Connects to the run in `folder`. Throws std::system_error: ENOENT if there is no socket, ECONNREFUSED if nobody is
/// behind it any more, EACCES for somebody else's.
Descriptor connect_to(const std::filesystem::path& folder);

/// Nothing if the kernel does not say.
std::optional<Peer> peer_of(int connection);

/// Listens on 127.0.0.1 alone, without blocking. 0: any free port. Throws std::system_error.
Descriptor listen_on_loopback(int port);
/// That it has got.
int port_of(int socket);

}  // namespace troupe::live
