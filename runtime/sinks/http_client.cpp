#include "troupe/runtime/sinks/http_client.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <ctime>
#include <limits>
#include <span>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kLargestAnswer = std::size_t{16} << 20;

// Its own counter makes a second call harmless; the order with other users of libcurl in the program does not matter.
void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw HttpError(std::string("libcurl does not start: ") + curl_easy_strerror(started));
}

// TLS writes to sockets without MSG_NOSIGNAL, and a signal for a connection that is gone would end the program.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutSigpipe() {
    const timespec now{};
    while (!was_pending_ && sigtimedwait(&pipe_, nullptr, &now) == SIGPIPE) continue;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  sigset_t pipe_{}, before_{};
  bool was_pending_ = false;
};

struct UrlCleanup {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

std::string url_part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return "";
  std::string out = text;
  curl_free(text);
  return out;
}

struct FileBody {
  const InputFile* file = nullptr;
  uint64_t offset = 0;
  std::string problem;
};

std::size_t take_answer(char* data, std::size_t, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + count > kLargestAnswer) return 0;
  body.append(data, count);
  return count;
}

std::size_t give_file(char* data, std::size_t size, std::size_t count, void* from) {
  auto& body = *static_cast<FileBody*>(from);
  try {
    const auto got = body.file->read(body.offset, std::as_writable_bytes(std::span(data, size * count)));
    body.offset += got;
    return got;
  } catch (const std::exception& error) {
    body.problem = error.what();
    return CURL_READFUNC_ABORT;
  }
}

int stop_if_aborted(void* flag, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return *static_cast<const std::atomic<bool>*>(flag) ? 1 : 0;
}

const char* wrong_part(const std::string& text, CURLUcode fault) {
  if (!text.starts_with("http://") && !text.starts_with("https://")) return "it has to begin with http:// or https://";
  return fault == CURLUE_BAD_PORT_NUMBER ? "its port has to be a number from 1 to 65535"
                                         : "it needs the name of a host";
}

void check_credential(const std::string& text, const char* what) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(text, is_control)) {
    throw UsageError(std::string(what) + " holds a line end or another control character");
  }
}

}  // namespace

std::string http_address(const std::string& text, const std::string& what) {
  const std::unique_ptr<CURLU, UrlCleanup> url(curl_url());
  const auto wrong = curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME);
  const auto scheme = url_part(url.get(), CURLUPART_SCHEME);
  if (!url_part(url.get(), CURLUPART_PASSWORD).empty() || !url_part(url.get(), CURLUPART_USER).empty()) {
    throw UsageError(what +
                     " holds a user's name or password, which would stand in files of the run: give them by the "
                     "variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of the environment");
  }
  if (wrong != CURLUE_OK || (scheme != "http" && scheme != "https")) {
    throw UsageError(what + " = '" + shown(text) + "' is not the address of a server: " + wrong_part(text, wrong) +
                     ", as in http://localhost:5000");
  }
  if (text.find_first_of("?#") != std::string::npos) {
    throw UsageError(what + " = '" + shown(text) +
                     "' has a query or a fragment, which the address of a server has not");
  }
  auto address = url_part(url.get(), CURLUPART_URL);
  while (address.ends_with('/')) address.pop_back();
  return address;
}

std::string url_escaped(const std::string& text) {
  char* escaped = curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size()));
  std::string out = escaped ? escaped : "";
  curl_free(escaped);
  return out;
}

struct HttpClient::Handle {
  CURL* curl = nullptr;
  curl_slist* headers = nullptr;
  std::array<char, CURL_ERROR_SIZE> problem{};

  ~Handle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
  void add_header(const std::string& header) { headers = curl_slist_append(headers, header.c_str()); }
  template <class Value>
  void set(CURLoption option, Value value) {
    if (const auto wrong = curl_easy_setopt(curl, option, value); wrong != CURLE_OK) {
      throw HttpError(std::string("libcurl refuses a setting: ") + curl_easy_strerror(wrong));
    }
  }
};

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)), handle_(std::make_unique<Handle>()) {
  check_credential(options_.credentials.user, "the user's name");
  check_credential(options_.credentials.password, "the password");
  check_credential(options_.credentials.token, "the token");
  start_curl();
  handle_->curl = curl_easy_init();
  if (!handle_->curl) throw HttpError("libcurl has no memory");
}

HttpClient::~HttpClient() = default;

void HttpClient::prepare(const std::string& url) {
  auto& handle = *handle_;
  curl_easy_reset(handle.curl);  // keeps the connection
  curl_slist_free_all(std::exchange(handle.headers, nullptr));
  handle.problem[0] = '\0';
  handle.set(CURLOPT_ERRORBUFFER, handle.problem.data());
  handle.set(CURLOPT_URL, url.c_str());
  handle.set(CURLOPT_PROTOCOLS_STR, "http,https");
  handle.set(CURLOPT_FOLLOWLOCATION, 0L);
  handle.set(CURLOPT_NOSIGNAL, 1L);
  handle.set(CURLOPT_USERAGENT, options_.user_agent.c_str());
  handle.set(CURLOPT_NOPROGRESS, 0L);
  handle.set(CURLOPT_XFERINFOFUNCTION, stop_if_aborted);
  handle.set(CURLOPT_XFERINFODATA, static_cast<void*>(&is_aborted_));
  const double milliseconds = std::clamp(options_.timeout * 1000, 1.0, 1e9);
  handle.set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(milliseconds));
  handle.set(CURLOPT_TIMEOUT_MS, static_cast<long>(milliseconds));
  const auto& [user, password, token] = options_.credentials;
  if (!user.empty()) {
    handle.set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    handle.set(CURLOPT_USERNAME, user.c_str());
    handle.set(CURLOPT_PASSWORD, password.c_str());
  } else if (!token.empty()) {
    handle.add_header("Authorization: Bearer " + token);
  }
  handle.add_header("Expect:");  // servers that do not know it would cost a second
}

HttpAnswer HttpClient::perform(const std::string& url) {
  auto& handle = *handle_;
  if (is_aborted_) throw HttpError("the request to " + url + " was called off");
  HttpAnswer answer;
  handle.set(CURLOPT_HTTPHEADER, handle.headers);
  handle.set(CURLOPT_WRITEFUNCTION, take_answer);
  handle.set(CURLOPT_WRITEDATA, static_cast<void*>(&answer.body));
  const WithoutSigpipe guard;
  const auto result = curl_easy_perform(handle.curl);
  if (result == CURLE_ABORTED_BY_CALLBACK) throw HttpError("the request to " + url + " was called off");
  if (result == CURLE_WRITE_ERROR) throw HttpError(url + " sends an answer of more than 16 MiB");
  if (result != CURLE_OK) {
    throw HttpError("cannot reach " + url + ": " +
                    (handle.problem[0] != '\0' ? single_line(handle.problem.data()) : curl_easy_strerror(result)));
  }
  curl_easy_getinfo(handle.curl, CURLINFO_RESPONSE_CODE, &answer.status);
  char* location = nullptr;
  curl_easy_getinfo(handle.curl, CURLINFO_REDIRECT_URL, &location);
  if (location) answer.location = location;
  return answer;
}

HttpAnswer HttpClient::get(const std::string& url) {
  prepare(url);
  return perform(url);
}

HttpAnswer HttpClient::post_json(const std::string& url, std::string_view body) {
  prepare(url);
  handle_->add_header("Content-Type: application/json");
  handle_->set(CURLOPT_POST, 1L);
  handle_->set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  handle_->set(CURLOPT_POSTFIELDS, body.data());
  return perform(url);
}

HttpAnswer HttpClient::put_file(const std::string& url, const std::filesystem::path& path) {
  const InputFile file(path);
  FileBody body{&file, 0, ""};
  prepare(url);
  handle_->add_header("Content-Type: application/octet-stream");
  handle_->set(CURLOPT_UPLOAD, 1L);
  handle_->set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(file.size()));
  handle_->set(CURLOPT_READFUNCTION, give_file);
  handle_->set(CURLOPT_READDATA, static_cast<void*>(&body));
  handle_->set(CURLOPT_TIMEOUT_MS, 0L);
  handle_->set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  handle_->set(CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(std::min(options_.timeout, 1e6))));
  try {
    return perform(url);
  } catch (const HttpError&) {
    if (!body.problem.empty()) throw HttpError(body.problem);
    throw;
  }
}

}  // namespace troupe
