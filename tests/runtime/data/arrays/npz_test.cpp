#include "troupe/runtime/data/arrays/npz.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/numpy_arrays.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::HasSubstr;

std::string little_endian_bytes(uint64_t number, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i));
  return out;
}

struct MemberByHand {
  std::string name, content = "x";
  uint64_t flags = 0, method = 0;
  std::string extra = "";          // of the list of members
  int64_t size = -1, packed = -1;  // what the list says in place of the content's
  int64_t offset = -1;
};

/// An archive of members that are what they are said to be.
std::string archive_of(const std::vector<MemberByHand>& members, uint64_t claimed = 0) {
  std::string out, list;
  for (const auto& member : members) {
    const auto offset = member.offset >= 0 ? static_cast<uint64_t>(member.offset) : out.size();
    const auto either = [&](int64_t said) { return said >= 0 ? static_cast<uint64_t>(said) : member.content.size(); };
    out += "PK\3\4" + std::string(22, '\0') + little_endian_bytes(member.name.size(), 2) + std::string(2, '\0') +
           member.name + member.content;
    list += "PK\1\2" + std::string(4, '\0') + little_endian_bytes(member.flags, 2) +
            little_endian_bytes(member.method, 2) + std::string(8, '\0') +
            little_endian_bytes(either(member.packed), 4) + little_endian_bytes(either(member.size), 4) +
            little_endian_bytes(member.name.size(), 2) + little_endian_bytes(member.extra.size(), 2) +
            std::string(10, '\0') + little_endian_bytes(offset, 4) + member.name + member.extra;
  }
  const auto count = little_endian_bytes(claimed > 0 ? claimed : members.size(), 2);
  return out + list + "PK\5\6" + std::string(4, '\0') + count + count + little_endian_bytes(list.size(), 4) +
         little_endian_bytes(out.size(), 4) + std::string(2, '\0');
}

TEST(Npz, GivesWhatNumpySaved) {
  const TempDir dir;
  const auto arrays = write_numpy_arrays(dir);
  for (const char* file : {"stored.npz", "compressed.npz"}) {
    for (const bool mmap : {true, false}) {
      const auto data = read_npz(dir / file, {.mmap = mmap});
      EXPECT_EQ(data.names(),
                (std::vector<std::string>{"weights", "labels", "flags", "ordered", "none", "one", "large"}));
      for (const auto& array : arrays) {
        if (data.contains(array.name)) array.expect_same(data[array.name]);
      }
    }
  }
  const auto data = read_npz(dir / "compressed.npz", {.most_bytes = 1000});
  EXPECT_EQ(refusal([&] { data["labels"]; }), "accepted");
  EXPECT_THAT(refusal([&] { data["large"]; }),
              HasSubstr("'large.npy' takes 1200128 bytes unpacked, more than the 1000 that are allowed (most_bytes)"));
  EXPECT_THAT(refusal([&] { data["label"]; }), HasSubstr("has no array 'label', did you mean 'labels'?"));
}

TEST(Npz, ATensorOutlivesTheArchive) {
  const TempDir dir;
  write_numpy_arrays(dir);
  const auto large = read_npz(dir / "stored.npz")["large"];
  std::filesystem::remove(dir / "stored.npz");
  EXPECT_TRUE(large.equal(torch::arange(300000, torch::kInt32)));
}

TEST(Npz, FindsDamage) {
  const TempDir dir;
  write_numpy_arrays(dir);
  auto content = content_of(dir / "stored.npz");
  const auto at = content.find("\x93NUMPY", content.find("labels.npy")) + 128 + 8;
  content[at] = '\7';
  put(dir / "x.npz", content);
  EXPECT_THAT(refusal([&] { read_npz(dir / "x.npz", {.mmap = false})["labels"]; }), HasSubstr("its checksum differs"));
  content = content_of(dir / "compressed.npz");
  content.replace(content.find("large.npy") + 3000, 100, std::string(100, '\xff'));
  put(dir / "x.npz", content);
  EXPECT_THAT(refusal([&] { read_npz(dir / "x.npz")["large"]; }), HasSubstr("'large.npy' "));
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, content.size() / 2, content.size() - 1}) {
    put(dir / "x.npz", content.substr(0, size));
    EXPECT_THAT(refusal([&] { read_npz(dir / "x.npz"); }), HasSubstr("x.npz: is no zip archive"));
  }
}

TEST(Npz, RefusesAMemberThatIsLongerOrShorterThanItClaims) {
  const TempDir dir;
  // A stored block of DEFLATE, the last one, of three bytes.
  const std::string three_bytes("\1\3\0\xfc\xffxyz", 8);
  const auto refused = [&](const std::string& content, int64_t size) {
    put(dir / "x.npz", archive_of({{.name = "a.npy", .content = content, .method = 8, .size = size}}));
    return refusal([&] { read_npz(dir / "x.npz")["a"]; });
  };
  EXPECT_THAT(refused(three_bytes, 2),
              HasSubstr("member 'a.npy' cannot be unpacked: its data go on behind its 2 bytes"));
  EXPECT_THAT(refused(three_bytes, 4), HasSubstr("member 'a.npy' cannot be unpacked: its data end after 3 of 4 bytes"));
  EXPECT_THAT(refused("\7", 4), HasSubstr("member 'a.npy' cannot be unpacked: its data are damaged"));
  EXPECT_THAT(refused(three_bytes, 3), HasSubstr("member 'a.npy' is damaged: its checksum differs"));
}

TEST(Npz, RefusesArchivesThatNumpyDoesNotWrite) {
  const TempDir dir;
  const auto refused = [&](const std::string& content) {
    put(dir / "x.npz", content);
    return refusal([&] { read_npz(dir / "x.npz"); });
  };
  EXPECT_EQ(refused(archive_of({{.name = "a.npy"}, {.name = "readme.txt"}})), "accepted");
  EXPECT_EQ(read_npz(dir / "x.npz").names(), std::vector<std::string>{"a"});
  EXPECT_EQ(refused(archive_of({})), "accepted");
  EXPECT_THAT(refusal([&] { read_npz(dir / "x.npz")["a"]; }), HasSubstr("has no array 'a', nor any other"));
  EXPECT_THAT(refused(archive_of({{.name = "a.npy"}, {.name = "a.npy"}})), HasSubstr("two members 'a.npy'"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .flags = 1}})), HasSubstr("'a' is encrypted"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .method = 12}})), HasSubstr("packed by method 12"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .method = 8, .size = 3000}})),
              HasSubstr("to have 3000 bytes, for which 1"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .size = 2}})), HasSubstr("to have 2 bytes, for which 1"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .packed = 100000}})), HasSubstr("cut off or damaged"));
  EXPECT_THAT(refused(archive_of({{.name = "a", .offset = 4}})), HasSubstr("no header of member 'a' at byte 4"));
  EXPECT_THAT(refused(archive_of({{.name = "a"}, {.name = "b", .offset = 0}})), HasSubstr("overlap"));
  EXPECT_THAT(refused(archive_of({{.name = "a"}}, 60000)), HasSubstr("list of 60000 members has 47 bytes"));
  EXPECT_THAT(refused(archive_of({{.name = "a"}}).insert(0, "#!/bin/sh\n")), HasSubstr("damaged"));
  const auto large = "\1" + std::string(1, '\0') + little_endian_bytes(16, 2);
  const int64_t elsewhere = 0xffffffff;
  EXPECT_THAT(refused(archive_of({{.name = "a",
                                   .extra = large + little_endian_bytes(uint64_t{1} << 60, 8) +
                                            little_endian_bytes(uint64_t{1} << 60, 8),
                                   .size = elsewhere,
                                   .packed = elsewhere}})),
              HasSubstr("cut off or damaged"));
  EXPECT_EQ(refused(archive_of({{.name = "a",
                                 .extra = large + little_endian_bytes(1, 8) + little_endian_bytes(1, 8),
                                 .size = elsewhere,
                                 .packed = elsewhere}})),
            "accepted")
      << "sizes of 64 bits";
}

}  // namespace
}  // namespace troupe
