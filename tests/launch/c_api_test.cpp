// The functions of C, in this program and in a library that others load; and the server over a pipe of examples/serve.
#include "examples/digits/digits.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/program.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/version.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>
#include <troupe/troupe.hpp>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using testing::Each;
using testing::HasSubstr;

// What a module's forward does; the weight is 2.
class Scaled : public Module {
 public:
  Scaled() {
    weight = register_parameter("weight", torch::full({1}, 2.F));
    example_input_array = torch::zeros({1, 3});
  }
  torch::Tensor forward(torch::Tensor x) override { return x * weight; }
  torch::Tensor weight;
};
struct InPlace : Scaled {
  torch::Tensor forward(torch::Tensor x) override { return x.mul_(weight); }
};
struct Double : Scaled {
  Double() { to(torch::kDouble); }
};
struct CountedFromC : Scaled {
  torch::Tensor forward(torch::Tensor x) override { return x.argmax(1); }
};
struct Summed : Scaled {
  torch::Tensor forward(torch::Tensor x) override { return (x * weight).sum(); }
};
struct Paired : Scaled {  // right for the one row of open
  torch::Tensor forward(torch::Tensor x) override { return (x * weight).slice(0, 0, 1); }
};
struct Thrown : Scaled {
  torch::Tensor forward(torch::Tensor x) override {
    if (x.size(0) == 2) throw 5;
    if (x.size(0) == 3) throw std::runtime_error("three is refused");
    return x * weight;
  }
};
struct WithoutExample : Scaled {
  WithoutExample() { example_input_array = torch::Tensor(); }
};
struct Tokens : Scaled {
  Tokens() { example_input_array = torch::zeros({1, 3}, torch::kLong); }
};

TROUPE_PREDICTOR(scaled, Scaled)
TROUPE_PREDICTOR(in_place, InPlace)
TROUPE_PREDICTOR(in_double, Double)
TROUPE_PREDICTOR(counted, CountedFromC)
TROUPE_PREDICTOR(summed, Summed)
TROUPE_PREDICTOR(paired, Paired)
TROUPE_PREDICTOR(thrown, Thrown)
TROUPE_PREDICTOR(without_example, WithoutExample)
TROUPE_PREDICTOR(tokens, Tokens)
const bool is_registered_twice = register_predictor("twice", &load_predictor_module<Scaled>) &&
                                 register_predictor("twice", &load_predictor_module<Double>);

void write_weights(const std::filesystem::path& path, std::vector<std::pair<std::string, torch::Tensor>> weights) {
  write_safetensors(*real_file_system().create(path), weights, {{"format", "pt"}});
}

class CApi : public testing::Test {
 protected:
  CApi() {
    write_weights(checkpoint_, {{"weight", torch::full({1}, 2.F)}});
    write_weights(dir_ / "other", {{"bias", torch::ones({1})}});
  }
  ~CApi() override { troupe_predictor_close(predictor_); }

  troupe_status open(const char* name) { return troupe_predictor_open(name, checkpoint_.c_str(), &predictor_); }
  troupe_status predict(int64_t rows, int64_t capacity) {
    return troupe_predictor_predict(predictor_, input_.data(), rows, output_.data(), capacity);
  }
  static std::string error() { return troupe_last_error(); }

  TempDir dir_;
  std::string checkpoint_ = dir_ / "weights";
  troupe_predictor* predictor_ = nullptr;
  std::array<float, 12> input_{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  std::array<float, 12> output_{};
};

TEST_F(CApi, PredictsRowsOfTheShapesThatItTells) {
  EXPECT_STREQ(troupe_version(), library_version);
  ASSERT_EQ(open("scaled"), TROUPE_OK) << error();
  int64_t rank = 0, size = 0;
  EXPECT_EQ(troupe_predictor_input_rank(predictor_, &rank), TROUPE_OK);
  EXPECT_EQ(troupe_predictor_input_shape(predictor_, &size, 1), TROUPE_OK);
  EXPECT_EQ(std::pair(rank, size), std::pair(int64_t{1}, int64_t{3}));
  EXPECT_EQ(troupe_predictor_output_rank(predictor_, &rank), TROUPE_OK);
  EXPECT_EQ(troupe_predictor_output_shape(predictor_, &size, 1), TROUPE_OK);
  EXPECT_EQ(std::pair(rank, size), std::pair(int64_t{1}, int64_t{3}));
  EXPECT_EQ(troupe_predictor_warm_up(predictor_, 2), TROUPE_OK);
  for (const int64_t rows : {1, 2, 4, 2}) {
    output_.fill(-1);
    EXPECT_EQ(predict(rows, 12), TROUPE_OK) << error();
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_EQ(output_[i], static_cast<int64_t>(i) < rows * 3 ? 2 * input_[i] : -1) << rows << " rows, " << i;
    }
  }
}

TEST_F(CApi, ConvertsForAModuleInDoubleAndLeavesTheInputToTheCaller) {
  for (const char* name : {"in_double", "in_place"}) {
    ASSERT_EQ(open(name), TROUPE_OK) << error();
    const auto before = input_;
    for (int i = 0; i < 5; ++i) EXPECT_EQ(predict(2, 6), TROUPE_OK) << error();
    EXPECT_EQ(output_[5], 12);
    EXPECT_EQ(input_, before);
    troupe_predictor_close(std::exchange(predictor_, nullptr));
  }
}

TEST_F(CApi, TakesMemoryOfAnyAlignment) {
  ASSERT_EQ(open("scaled"), TROUPE_OK) << error();
  for (std::size_t offset = 0; offset < 6; ++offset) {
    EXPECT_EQ(troupe_predictor_predict(predictor_, &input_[offset], 2, &output_[offset], 6), TROUPE_OK) << error();
    EXPECT_EQ(output_[offset + 5], 2 * input_[offset + 5]);
  }
}

TEST_F(CApi, RefusesBadArgumentsAndWritesNothing) {
  ASSERT_EQ(open("scaled"), TROUPE_OK);
  int64_t number = 7;
  troupe_predictor* other = nullptr;
  const auto refused = [](troupe_status status, const char* text) {
    EXPECT_EQ(status, TROUPE_BAD_ARGUMENT) << text;
    EXPECT_THAT(error(), HasSubstr(text));
  };
  const char* path = checkpoint_.c_str();
  refused(troupe_predictor_open(nullptr, path, &other), "name is a null pointer");
  refused(troupe_predictor_open("scaled", nullptr, &other), "checkpoint is a null pointer");
  refused(troupe_predictor_open("scaled", path, nullptr), "out is a null pointer");
  refused(troupe_predictor_open("scale", path, &other), "no predictor 'scale'; did you mean 'scaled'?");
  refused(troupe_predictor_open("twice", path, &other), "two modules are registered as predictor 'twice'");
  refused(troupe_predictor_input_rank(nullptr, &number), "predictor is a null pointer");
  refused(troupe_predictor_output_rank(predictor_, nullptr), "rank is a null pointer");
  refused(troupe_predictor_input_shape(predictor_, nullptr, 1), "sizes is a null pointer");
  refused(troupe_predictor_output_shape(predictor_, &number, 0), "capacity is 0 and the shape has 1 sizes");
  refused(troupe_predictor_predict(nullptr, input_.data(), 1, output_.data(), 12), "predictor is a null pointer");
  refused(troupe_predictor_predict(predictor_, nullptr, 1, output_.data(), 12), "input is a null pointer");
  refused(troupe_predictor_predict(predictor_, input_.data(), 1, nullptr, 12), "output is a null pointer");
  refused(predict(2, 5), "capacity is 5 and the output of 2 rows has 6 numbers");
  refused(predict(2, -1), "capacity is -1");
  for (const int64_t rows : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    refused(predict(rows, 12), "it is 1 or more");
    refused(troupe_predictor_warm_up(predictor_, rows), "it is 1 or more");
  }
  refused(predict(std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max()), "fit into memory");
  refused(troupe_predictor_warm_up(nullptr, 1), "predictor is a null pointer");
  troupe_predictor_close(nullptr);
  EXPECT_EQ(other, nullptr);
  EXPECT_EQ(number, 7);
  EXPECT_THAT(output_, Each(0));
}

TEST_F(CApi, SaysWhatIsWrongWithACheckpoint) {
  put(dir_ / "garbage", std::string(100, '\xff'));
  for (const char* name : {"absent", "garbage", "other"}) {
    EXPECT_EQ(troupe_predictor_open("scaled", (dir_ / name).c_str(), &predictor_), TROUPE_BAD_CHECKPOINT) << name;
    EXPECT_THAT(error(), HasSubstr(name)) << name;
  }
  EXPECT_EQ(predictor_, nullptr);
}

TEST_F(CApi, ReportsWhatAModuleDoesWrong) {
  const auto fails = [this](const char* name, const char* text) {
    EXPECT_EQ(open(name), TROUPE_FAILED) << name;
    EXPECT_THAT(error(), HasSubstr(text));
    EXPECT_EQ(predictor_, nullptr);
  };
  fails("counted", "the module's output for one row is Long [1], not floating-point numbers");
  fails("summed", "the module's output for one row is Float []");
  fails("without_example", "has no example_input_array");
  fails("tokens", "the module takes Long");
  ASSERT_EQ(open("paired"), TROUPE_OK) << error();
  EXPECT_EQ(predict(2, 12), TROUPE_FAILED);
  EXPECT_THAT(error(), HasSubstr("[1, 3], not [2, 3]"));
  troupe_predictor_close(std::exchange(predictor_, nullptr));
  ASSERT_EQ(open("thrown"), TROUPE_OK) << error();
  EXPECT_EQ(predict(2, 12), TROUPE_FAILED);
  EXPECT_THAT(error(), HasSubstr("type int"));
  EXPECT_EQ(predict(3, 12), TROUPE_FAILED);
  EXPECT_THAT(error(), HasSubstr("three is refused"));
  EXPECT_EQ(predict(1, 12), TROUPE_OK) << "it works on after a failure";
}

TEST_F(CApi, ServesSeveralThreadsEachWithItsOwnError) {
  ASSERT_EQ(open("scaled"), TROUPE_OK);
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this, thread] {
      EXPECT_EQ(error(), "");
      for (int i = 0; i < 50; ++i) {
        std::array<float, 12> output{};
        EXPECT_EQ(troupe_predictor_predict(predictor_, input_.data(), 1 + thread, output.data(), 12), TROUPE_OK);
        EXPECT_EQ(output[2], 6);
        EXPECT_EQ(troupe_predictor_predict(predictor_, input_.data(), 2, output.data(), thread), TROUPE_BAD_ARGUMENT);
        EXPECT_THAT(error(), HasSubstr("capacity is " + std::to_string(thread)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

// A checkpoint of examples/digits, out of a short run, and what it says of images.
class ServedDigits : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    const auto run = run_program(example("digits") + " fit --trainer.max_epochs 1 --trainer.limit_train_batches 20" +
                                 " --trainer.limit_val_batches 1 --trainer.num_threads 1 --trainer.seed 1" +
                                 " --trainer.default_root_dir " + dir_->path().string() + " 2>&1");
    ASSERT_EQ(run.status, 0) << run.output;
    checkpoint_ = *dir_ / "digits/version_0/checkpoints/last.safetensors";
  }
  static void TearDownTestSuite() {
    delete dir_;
    dir_ = nullptr;
  }

  static torch::Tensor expected(const torch::Tensor& images) {
    return Predictor::load<Digits>(checkpoint_).predict(images);
  }
  static std::string request(int64_t id, const torch::Tensor& image) {
    const auto flat = image.flatten();
    return nlohmann::json{{"id", id},
                          {"input", std::vector<float>(flat.data_ptr<float>(), flat.data_ptr<float>() + 784)}}
               .dump() +
           "\n";
  }
  // The objects that the server answers to `lines`.
  static std::vector<nlohmann::json> served(const std::string& lines) {
    put(*dir_ / "requests", lines);
    const auto run = run_program("OMP_NUM_THREADS=1 " + example("serve") + " " + checkpoint_ + " < '" +
                                 (*dir_ / "requests").string() + "' 2>&1");
    EXPECT_EQ(run.status, 0) << run.output;
    std::vector<nlohmann::json> answers;
    std::istringstream text(run.output);
    for (std::string line; std::getline(text, line);) answers.push_back(nlohmann::json::parse(line));
    return answers;
  }
  static void expect_near(const std::vector<float>& numbers, const torch::Tensor& expected) {
    ASSERT_EQ(static_cast<int64_t>(numbers.size()), expected.numel());
    EXPECT_TRUE(torch::tensor(numbers).allclose(expected.flatten(), 1e-4, 1e-5)) << expected;
  }

  inline static TempDir* dir_ = nullptr;
  inline static std::string checkpoint_;
};

TEST_F(ServedDigits, SayHowTheServerIsCalled) {
  const auto help = run_program(example("serve") + " --help 2>/dev/null");
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.output, "usage: serve CHECKPOINT < REQUESTS\n");
  EXPECT_EQ(run_program(example("serve") + " 2>/dev/null").status, 2);
}

// The numbers of the last line.
std::vector<float> last_numbers(const std::string& output) {
  std::istringstream lines(output);
  std::string line, last;
  while (std::getline(lines, line)) last = line;
  std::istringstream words(last);
  return {std::istream_iterator<float>(words), {}};
}

TEST_F(ServedDigits, GiveAProgramInCTheSameNumbers) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the program has no sanitizer";
#endif
  const auto program = (*dir_ / "client").string();
  // GCC looks at libraries of libraries too, which the library itself finds when it is loaded.
  const auto built = run_program("gcc -std=c11 -Wall -Wextra -pedantic -Werror -I '" TROUPE_SOURCE_DIR
                                 "' '" TROUPE_SOURCE_DIR "/tests/launch/c_api_client.c' -L '" TROUPE_EXAMPLES
                                 "' -ldigits_predictor -Wl,-rpath,'" TROUPE_EXAMPLES
                                 "' -Wl,--unresolved-symbols=ignore-in-shared-libs -o " +
                                 program + " 2>&1");
  ASSERT_EQ(built.status, 0) << built.output;
  const auto run = run_program("OMP_NUM_THREADS=1 " + program + " " + checkpoint_ + " 2>&1");
  EXPECT_EQ(run.status, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr(std::string(library_version) + "\n1 28 28 \n10 \n"));
  expect_near(last_numbers(run.output), expected(torch::zeros({2, 1, 28, 28})));
  const auto refused = run_program(program + " /dev/null 2>&1");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.output, HasSubstr("2: cannot read the checkpoint '/dev/null'"));
}

TEST_F(ServedDigits, GiveAProgramInPythonTheSameNumbers) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "Python has no sanitizer";
#endif
  const auto images = torch::rand({3, 1, 28, 28});
  put(*dir_ / "images", std::string(static_cast<const char*>(images.data_ptr()), images.nbytes()));
  const auto run = run_program("OMP_NUM_THREADS=1 python3 '" TROUPE_SOURCE_DIR "/examples/serve/library/predict.py' '" +
                               example("libdigits_predictor.so") + "' " + checkpoint_ + " '" +
                               (*dir_ / "images").string() + "' 2>&1");
  EXPECT_EQ(run.status, 0) << run.output;
  expect_near(last_numbers(run.output), expected(images)[2]);
}

TEST_F(ServedDigits, AnswerEachRequestInItsPlace) {
  const auto images = torch::rand({100, 1, 28, 28});
  const auto logits = expected(images);
  std::string lines;
  for (int64_t i = 0; i < 100; ++i) lines += request(i, images[i]);
  lines.pop_back();  // the last line may lack its end
  const auto answers = served(lines);
  ASSERT_EQ(answers.size(), 100u);
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(answers[i].at("id"), i);
    expect_near(answers[i].at("output").get<std::vector<float>>(), logits[i]);
  }
}

TEST_F(ServedDigits, AnswerBadLinesWithAnErrorAndGoOn) {
  const auto good = request(7, torch::zeros({784}));
  std::string wrong_number = good, infinite = good;
  wrong_number.replace(wrong_number.find("0.0"), 3, "\"x\"");
  infinite.replace(infinite.find("0.0"), 3, "1e300");
  const std::vector<std::pair<std::string, std::string>> cases{
      {"\n", "no object of JSON"},
      {"garbage\n", "no object of JSON"},
      {"[1, 2]\n", "no object of JSON"},
      {good.substr(0, 200) + "\n", "no object of JSON"},
      {R"({"id": "a"})"
       "\n",
       "there is no 'input'"},
      {R"({"id": "a", "imput": [1, 2]})"
       "\n",
       "there is no 'input', but 'imput'"},
      {R"({"id": "a", "input": [1, NaN]})"
       "\n",
       R"(no object of JSON: at byte 25 is "NaN]}")"},
      {R"({"id": "a", "input": [1, -1e400]})"
       "\n",
       "a number is too large for float32: '-1e400'"},
      {R"({"id": [1], "input": []})"
       "\n",
       "'id' is neither"},
      {R"({"id": "a", "input": 3})"
       "\n",
       "'input' is no list"},
      {R"({"id": "a", "input": [1, 2]})"
       "\n",
       "'input' has 2 numbers, not 784"},
      {wrong_number, "'input' at 0 is no number"},
      {infinite, "'input' at 0 is too large for float32"},
      {std::string(100'000, '[') + "\n", "longer than a request can be"},
      {std::string(20'000, '[') + "\n", "no object of JSON"},
      {std::string(5'000'000, 'x') + "\n", "longer than a request can be"},
      {"{\"id\": \"\xff\"}\n", "no object of JSON"},
  };
  std::string lines;
  for (const auto& [line, text] : cases) lines += line + good;
  const auto answers = served(lines);
  ASSERT_EQ(answers.size(), 2 * cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_THAT(answers[2 * i].value("error", ""), HasSubstr(cases[i].second)) << cases[i].first.substr(0, 100);
    EXPECT_EQ(answers[2 * i + 1].at("id"), 7);
    EXPECT_TRUE(answers[2 * i + 1].contains("output")) << cases[i].first.substr(0, 100);
  }
}

TEST_F(ServedDigits, SurviveAnyBytes) {
  std::mt19937 random(1);
  const auto good = request(7, torch::zeros({784}));
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    std::string line = i % 2 == 0 ? good : std::string(random() % 200, ' ');
    for (std::size_t changes = i % 2 == 0 ? 3 : line.size(); changes > 0; --changes) {
      line[random() % line.size()] = static_cast<char>(random());
    }
    lines += line + "\n";
  }
  const auto answers = served(lines + "\n" + good);
  EXPECT_EQ(static_cast<int64_t>(answers.size()), std::count(lines.begin(), lines.end(), '\n') + 2);
  EXPECT_TRUE(answers.back().contains("output"));
}

}  // namespace
}  // namespace troupe
