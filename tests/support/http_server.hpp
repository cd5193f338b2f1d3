// A server on loopback whose answers a test makes.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace troupe {

struct HttpRequest {
  std::string method, path, head, body;  ///< `head` is all before the body
};

inline std::string http_response(int status, const std::string& body, const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

/// Answers each request with what the handler returns: all bytes of the answer; none closes the connection. The handler
/// is called by one thread at a time.
class HttpServer {
 public:
  using Handler = std::function<std::string(const HttpRequest&)>;

  explicit HttpServer(Handler handler, int port = 0) : handler_(std::move(handler)) {
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    socklen_t size = sizeof address;
    if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(socket_, 16) != 0 ||
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("cannot listen on loopback");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~HttpServer() {
    ::shutdown(socket_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::scoped_lock lock(mutex_);
      for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
    ::close(socket_);
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const { return port_; }
  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<HttpRequest> requests() const {
    const std::scoped_lock lock(mutex_);
    return requests_;
  }

 private:
  void accept_all() {
    for (int connection = 0; (connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      const std::scoped_lock lock(mutex_);
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] {
        serve(connection);
        const std::scoped_lock closing(mutex_);
        connections_.remove(connection);
        ::close(connection);
      });
    }
  }

  void serve(int connection) {
    std::string have;
    const auto read_more = [&] {
      char buffer[4096];
      const auto got = ::recv(connection, buffer, sizeof buffer, 0);
      if (got > 0) have.append(buffer, static_cast<std::size_t>(got));
      return got > 0;
    };
    while (true) {
      std::size_t end = 0;
      while ((end = have.find("\r\n\r\n")) == std::string::npos) {
        if (!read_more()) return;
      }
      HttpRequest request;
      request.head = have.substr(0, end + 4);
      request.method = request.head.substr(0, request.head.find(' '));
      const auto path = request.method.size() + 1;
      request.path = request.head.substr(path, request.head.find(' ', path) - path);
      const auto length = request.head.find("Content-Length: ");
      const auto body = length == std::string::npos ? 0 : std::stoul(request.head.substr(length + 16));
      while (have.size() < end + 4 + body) {
        if (!read_more()) return;
      }
      request.body = have.substr(end + 4, body);
      have.erase(0, end + 4 + body);
      std::string answer;
      {
        const std::scoped_lock handling(handler_mutex_);
        {
          const std::scoped_lock lock(mutex_);
          requests_.push_back(request);
        }
        answer = handler_(request);
      }
      for (std::size_t sent = 0; sent < answer.size();) {
        const auto count = ::send(connection, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) return;
        sent += static_cast<std::size_t>(count);
      }
      if (answer.empty()) {
        ::shutdown(connection, SHUT_RDWR);
        return;
      }
    }
  }

  Handler handler_;
  int socket_ = -1, port_ = 0;
  std::thread acceptor_;
  std::mutex handler_mutex_;
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::list<int> connections_;
  std::list<std::thread> threads_;
};

/// A port that nobody listens on.
inline int closed_port() {
  return HttpServer([](const HttpRequest&) { return ""; }).port();
}

}  // namespace troupe
