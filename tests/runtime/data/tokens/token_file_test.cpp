#include "troupe/runtime/data/tokens/token_file.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <string>

namespace troupe {
namespace {

using testing::HasSubstr;

std::string token_header(int32_t magic, int32_t version, int32_t count) {
  const std::array<int32_t, 256> numbers{magic, version, count};
  return {reinterpret_cast<const char*>(numbers.data()), sizeof(numbers)};
}

TEST(TokenFile, ReadsWhatNanoGptAndLlmCWrite) {
  const TempDir dir;
  python_output("write_tokens.py", dir.path().string());
  const TokenFile plain(dir / "nanogpt.bin", TokenType::uint16);
  EXPECT_EQ(plain.size(), 1000);
  EXPECT_FALSE(plain.has_header());
  EXPECT_EQ(static_cast<const uint16_t*>(plain.data())[999], 999 * 50);
  const TokenFile gpt2(dir / "gpt2.bin"), llama3(dir / "llama3.bin");
  EXPECT_EQ(gpt2.type(), TokenType::uint16);
  EXPECT_EQ(gpt2.size(), 1000);
  EXPECT_EQ(static_cast<const uint16_t*>(gpt2.data())[999], 999 * 50);
  EXPECT_EQ(llama3.type(), TokenType::uint32);
  EXPECT_EQ(llama3.size(), 1000);
  EXPECT_EQ(static_cast<const uint32_t*>(llama3.data())[999], 999u * 120);
  EXPECT_EQ(TokenFile(dir / "llama3.bin", TokenType::uint32).offset(), 1024) << "saying the type again is no error";

  write_token_file(dir / "new" / "gpt2.bin", torch::arange(1000) * 50, TokenType::uint16);
  EXPECT_EQ(content_of(dir / "new" / "gpt2.bin"), content_of(dir / "gpt2.bin"));
  write_token_file(dir / "llama3_too.bin", torch::arange(1000, torch::kInt32) * 120, TokenType::uint32);
  EXPECT_EQ(content_of(dir / "llama3_too.bin"), content_of(dir / "llama3.bin"));
}

TEST(TokenFile, SaysWhatIsWrongWithAFile) {
  const TempDir dir;
  const auto path = dir / "x.bin";
  const auto refused = [&](const std::string& content, std::optional<TokenType> type = {}) {
    put(path, content);
    return refusal([&] { TokenFile(path, type); });
  };
  const auto name = path.string();
  EXPECT_THAT(refusal([&] { TokenFile(dir / "absent.bin"); }), HasSubstr("absent.bin: No such file"));
  EXPECT_EQ(refused(""), name + " is empty; a file of tokens was expected");
  EXPECT_THAT(refused("abcdef"), HasSubstr("say of which type: TokenType::uint16 (nanoGPT's) or TokenType::uint32"));
  EXPECT_EQ(
      refused("abcdefg", TokenType::uint16),
      name + " has 7 bytes, which is no whole number of uint16 tokens of 2 bytes; it is cut off, or of another type");
  EXPECT_THAT(refused("abcdef", TokenType::uint32), HasSubstr("6 bytes, which is no whole number of uint32"));
  EXPECT_EQ(refused("abcdef", TokenType::uint16), "accepted");
  EXPECT_THAT(refused(token_header(20240520, 2, 0)), HasSubstr("of version 2; version 1 is read"));
  EXPECT_THAT(refused(token_header(20240801, 1, 0)), HasSubstr("of version 1; version 7 is read"));
  EXPECT_EQ(refused(token_header(20240520, 1, 3) + "abcd"),
            name +
                " begins with llm.c's header for uint16 (magic 20240520) and 3 tokens, which take 1030 bytes with it; "
                "the file has 1028: it is cut off");
  EXPECT_THAT(refused(token_header(20240801, 7, 1) + "abcdefgh"),
              HasSubstr("take 1028 bytes with it; the file has 1032"));
  EXPECT_THAT(refused(token_header(20240520, 1, -5)), HasSubstr("-5 tokens"));
  EXPECT_THAT(refused(token_header(20240520, 1, 5).substr(0, 40)), HasSubstr("the file has 40: it is cut off"));
  EXPECT_THAT(refused(token_header(20240520, 1, 0)), HasSubstr("has a header and no tokens"));
  EXPECT_THAT(refused(token_header(20240520, 1, 2) + "abcd", TokenType::uint32),
              HasSubstr("but TokenType::uint32 was given; leave it out"));
  EXPECT_THAT(refused(token_header(20240522, 1, 2) + "abcd"), HasSubstr("is an evaluation file of llm.c's"));
}

TEST(TokenFile, AreNotWrittenOfWhatTheyCannotHold) {
  const TempDir dir;
  const auto refused = [&](const torch::Tensor& tokens) {
    return refusal([&] { write_token_file(dir / "x.bin", tokens, TokenType::uint16); });
  };
  EXPECT_EQ(refused(torch::tensor({1, 65536})), "token 1 is 65536, which uint16 cannot hold (0 to 65535)");
  EXPECT_THAT(refused(torch::tensor({-1})), HasSubstr("token 0 is -1"));
  EXPECT_THAT(refused(torch::ones({2, 2}, torch::kInt64)), HasSubstr("these are [2, 2] of Long"));
  EXPECT_THAT(refused(torch::ones(2)), HasSubstr("these are [2] of Float"));
  EXPECT_THAT(refused(torch::ones(0, torch::kInt64)), HasSubstr("these are [0] of Long"));
  EXPECT_THAT(refused({}), HasSubstr("are undefined"));
  EXPECT_FALSE(std::filesystem::exists(dir / "x.bin"));
}

}  // namespace
}  // namespace troupe
