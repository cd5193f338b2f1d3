// Requests over HTTP, by libcurl (https://curl.se/libcurl/c/).
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace troupe {

/// There was no whole answer: nobody listens, the connection broke, the time was over, the answer was too large. what()
/// names the address.
class HttpError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// `text` as the address of a server, without a / at its end. Throws UsageError, with `what` in front, for what is no
/// address, for other protocols than http and https, and for an address with a password, a query or a fragment.
std::string http_address(const std::string& text, const std::string& what);

/// `text` as one part of an address's path.
std::string url_escaped(const std::string& text);

/// Part of no message and of no file.
struct HttpCredentials {
  std::string user, password;  ///< both, or neither
  std::string token;           ///< counts if there is no user
};

struct HttpOptions {
  std::string user_agent = "troupe";
  HttpCredentials credentials = {};
  /// Seconds for a whole request; for a file, without a byte moved.
  double timeout = 10;
};

struct HttpAnswer {
  long status = 0;
  std::string body;
  std::string location;  ///< where a redirect points to; it is not followed
};

/// Keeps one connection between requests. Certificates are verified. What a server sends is limited to 16 MiB, and no
/// redirect is followed: credentials and files go nowhere but to the address that was given.
///
/// One thread at a time, any one, which waits for the answer; abort() may be called from others. Raises no signals.
class HttpClient {
 public:
  /// Throws UsageError for credentials that no header can hold.
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Each throws HttpError. An answer of any status is an answer.
  HttpAnswer get(const std::string& url);
  HttpAnswer post_json(const std::string& url, std::string_view body);
  /// Streams the file. Throws FileError if it cannot be read.
  HttpAnswer put_file(const std::string& url, const std::filesystem::path& path);

  /// Ends the request that is under way, within about a second, and all later ones, with HttpError.
  void abort() { is_aborted_ = true; }
  bool is_aborted() const { return is_aborted_; }

 private:
  struct Handle;
  HttpAnswer perform(const std::string& url);
  void prepare(const std::string& url);

  HttpOptions options_;
  std::unique_ptr<Handle> handle_;
  std::atomic<bool> is_aborted_ = false;
};

}  // namespace troupe
