#include "troupe/runtime/live/live_socket.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace troupe::live {

namespace {

constexpr mode_t owner_only = 0600;
constexpr int waiting_connections = 16;

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Descriptor opened_folder(const std::filesystem::path& folder) {
  Descriptor opened(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!opened) throw_errno(folder.string());
  return opened;
}

sockaddr_un address_in(const Descriptor& folder) {
  const auto path = "/proc/self/fd/" + std::to_string(folder.get()) + "/" + socket_name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

Descriptor new_unix_socket(int flags) {
  Descriptor made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!made) throw_errno("socket");
  return made;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// A socket whose process is gone refuses.
bool is_left_over(const sockaddr_un& address) {
  const auto probe = new_unix_socket(SOCK_NONBLOCK);
  return ::connect(probe.get(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

SocketFile::SocketFile(const std::filesystem::path& folder) : folder_(opened_folder(folder)) {
  const auto address = address_in(folder_);
  auto made = new_unix_socket(SOCK_NONBLOCK);
  // What the file that bind makes may be used for: there is no moment in which it is anybody else's.
  if (::fchmod(made.get(), owner_only) != 0) throw_errno("fchmod");
  if (::bind(made.get(), generic(address), sizeof address) != 0) {
    if (errno != EADDRINUSE) throw_errno("bind");
    if (!is_left_over(address)) throw std::system_error(EADDRINUSE, std::generic_category(), "bind");
    if (::unlinkat(folder_.get(), socket_name, 0) != 0 && errno != ENOENT) throw_errno("unlink");
    if (::bind(made.get(), generic(address), sizeof address) != 0) throw_errno("bind");
  }
  struct stat file {};
  if (::fstatat(folder_.get(), socket_name, &file, AT_SYMLINK_NOFOLLOW) != 0) throw_errno("stat");
  inode_ = file.st_ino;
  socket_ = std::move(made);
  if (::fchmodat(folder_.get(), socket_name, owner_only, 0) != 0) throw_errno("chmod");
  if (::listen(socket_.get(), waiting_connections) != 0) throw_errno("listen");
}

void SocketFile::remove() {
  if (!socket_) return;
  struct stat file {};
  const bool is_own = ::fstatat(folder_.get(), socket_name, &file, AT_SYMLINK_NOFOLLOW) == 0 && file.st_ino == inode_;
  if (is_own) ::unlinkat(folder_.get(), socket_name, 0);
  socket_ = Descriptor();
}

Descriptor connect_to(const std::filesystem::path& folder) {
  const auto opened = opened_folder(folder);
  const auto address = address_in(opened);
  auto made = new_unix_socket(0);
  if (::connect(made.get(), generic(address), sizeof address) != 0) throw_errno((folder / socket_name).string());
  return made;
}

std::optional<Peer> peer_of(int connection) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
  return Peer{credentials.pid, credentials.uid};
}

Descriptor listen_on_loopback(int port) {
  Descriptor made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) throw_errno("socket");
  const int yes = 1;  // the port of a run that has just ended may be taken at once
  ::setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (::bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw_errno("bind");
  if (::listen(made.get(), waiting_connections) != 0) throw_errno("listen");
  return made;
}

int port_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) throw_errno("getsockname");
  return ntohs(address.sin_port);
}

}  // namespace troupe::live
