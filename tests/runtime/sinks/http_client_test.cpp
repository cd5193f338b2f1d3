#include "troupe/runtime/sinks/http_client.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string http_problem(const std::function<void()>& act) {
  try {
    act();
  } catch (const HttpError& error) {
    return error.what();
  }
  return "answered";
}

TEST(HttpClient, PostsJsonAndReturnsAnAnswerOfAnyStatus) {
  HttpServer server([](const HttpRequest& request) { return http_response(418, "got " + request.body); });
  HttpClient client({.user_agent = "troupe/1.2"});
  const auto answer = client.post_json(server.address() + "/a", "{}");
  EXPECT_EQ(answer.status, 418);
  EXPECT_EQ(answer.body, "got {}");
  const auto request = server.requests().at(0);
  EXPECT_EQ(request.method + " " + request.path, "POST /a");
  EXPECT_THAT(request.head, AllOf(HasSubstr("Content-Type: application/json\r\n"),
                                  HasSubstr("User-Agent: troupe/1.2\r\n"), Not(HasSubstr("Authorization"))));
}

TEST(HttpClient, PutsAFileAndKeepsTheConnection) {
  TempDir dir;
  const std::string content(300000, 'x');
  put(dir / "file", content);
  HttpServer server([](const HttpRequest&) { return http_response(200, ""); });
  HttpClient client({});
  EXPECT_EQ(client.put_file(server.address() + "/file", dir / "file").status, 200);
  EXPECT_EQ(client.get(server.address() + "/next").status, 200);
  EXPECT_EQ(server.requests().at(0).body, content);
  EXPECT_EQ(server.requests().at(1).body, "");
}

TEST(HttpClient, SendsAUserWithAPasswordOrAToken) {
  HttpServer server([](const HttpRequest&) { return http_response(200, ""); });
  HttpClient({.credentials = {"ann", "secret", "unused"}}).get(server.address());
  HttpClient({.credentials = {"", "", "abc"}}).get(server.address());
  EXPECT_THAT(server.requests().at(0).head, HasSubstr("Authorization: Basic YW5uOnNlY3JldA==\r\n"));
  EXPECT_THAT(server.requests().at(1).head, HasSubstr("Authorization: Bearer abc\r\n"));
  EXPECT_THAT(refusal([] { HttpClient({.credentials = {"", "", "a\r\nX: b"}}); }), HasSubstr("line end"));
}

TEST(HttpClient, FollowsNoRedirect) {
  HttpServer server([](const HttpRequest&) { return http_response(302, "", "Location: https://example.org/x\r\n"); });
  const auto answer = HttpClient({}).get(server.address());
  EXPECT_EQ(answer.status, 302);
  EXPECT_EQ(answer.location, "https://example.org/x");
}

TEST(HttpClient, RefusesAnAnswerThatIsTooLarge) {
  HttpServer server([](const HttpRequest&) { return http_response(200, std::string((16 << 20) + 1, 'x')); });
  EXPECT_THAT(http_problem([&] { HttpClient({}).get(server.address()); }), HasSubstr("more than 16 MiB"));
}

TEST(HttpClient, SaysThatAConnectionWasCut) {
  HttpServer server([](const HttpRequest& request) {
    return request.path == "/cut" ? "HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nabc" : "";
  });
  HttpClient client({.timeout = 0.2});
  EXPECT_THAT(http_problem([&] { client.get(server.address() + "/none"); }), HasSubstr("cannot reach http://127"));
  EXPECT_THAT(http_problem([&] { client.get(server.address() + "/cut"); }), HasSubstr("cannot reach http://127"));
}

TEST(HttpClient, SaysThatNobodyListens) {
  const auto address = "http://127.0.0.1:" + std::to_string(closed_port());
  EXPECT_THAT(http_problem([&] { HttpClient({}).get(address); }), AllOf(HasSubstr(address), HasSubstr("connect")));
}

TEST(HttpClient, WaitsNoLongerThanItsTime) {
  std::promise<void> over;
  HttpServer server([&, wait = over.get_future().share()](const HttpRequest&) {
    wait.wait();
    return "";
  });
  EXPECT_THAT(http_problem([&] { HttpClient({.timeout = 0.05}).get(server.address()); }), HasSubstr("imed out"));
  over.set_value();
}

TEST(HttpClient, IsCalledOffByAnotherThread) {
  HttpClient client({.timeout = 1000});
  std::promise<void> over;
  HttpServer server([&, wait = over.get_future().share()](const HttpRequest&) {
    client.abort();
    wait.wait();
    return "";
  });
  EXPECT_THAT(http_problem([&] { client.get(server.address()); }), HasSubstr("called off"));
  EXPECT_THAT(http_problem([&] { client.get(server.address()); }), HasSubstr("called off"));
  over.set_value();
}

TEST(HttpAddress, IsOfAServer) {
  EXPECT_EQ(http_address("http://localhost:5000/", "uri"), "http://localhost:5000");
  EXPECT_EQ(http_address("https://a.example/mlflow", "uri"), "https://a.example/mlflow");
  for (const auto* wrong : {"localhost:5000", "ftp://a/", "file:///etc", "sqlite:///mlflow.db", "http://", "",
                            "http://a:b", "http://a?x=1", "http://a/#x", "databricks"}) {
    EXPECT_THAT(refusal([&] { http_address(wrong, "mlflow.uri"); }), HasSubstr("mlflow.uri")) << wrong;
  }
  const auto why = [](const char* wrong) { return refusal([&] { http_address(wrong, "mlflow.uri"); }); };
  EXPECT_THAT(why("ftp://a"), HasSubstr("it has to begin with http://"));
  EXPECT_THAT(why("http://127.0.0.1:99999"), HasSubstr("its port has to be a number from 1 to 65535"));
  EXPECT_THAT(why("http://"), HasSubstr("it needs the name of a host"));
  EXPECT_THAT(refusal([] { http_address("http://ann:secret@a", "mlflow.uri"); }),
              AllOf(HasSubstr("MLFLOW_TRACKING_PASSWORD"), Not(HasSubstr("secret"))));
}

}  // namespace
}  // namespace troupe
