#include "troupe/runtime/data/shards/tar_walker.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using testing::HasSubstr;

std::vector<TarMember> members_of(const std::string& archive) {
  const TempDir dir;
  put(dir / "a.tar", archive);
  PlainBytes bytes(std::make_shared<const FileReader>(dir / "a.tar"));
  TarWalker walker(bytes);
  std::vector<TarMember> out;
  while (auto member = walker.next()) out.push_back(*member);
  return out;
}

std::string tar_refusal(const std::string& archive) {
  return refusal([&] { members_of(archive); });
}

std::string one_member(const std::string& archive) {
  const auto all = members_of(archive);
  if (all.size() != 1) return std::to_string(all.size()) + " members";
  return all[0].name + " " + std::to_string(all[0].offset) + " " + std::to_string(all[0].size);
}

const std::string& small_entry() {
  static const std::string out = tar_entry({"a.txt", "hello"});
  return out;
}

TEST(TarWalker, FindsEachFileAndPassesOverFolders) {
  const auto found = members_of(tar_entry({"dir/", "", '5'}) + small_entry() +
                                tar_entry({"b.bin", std::string(513, 'x')}) + tar_entry({"c.txt", ""}) + tar_end());
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].name, "a.txt");
  EXPECT_EQ(found[0].offset, 1024u);
  EXPECT_EQ(found[0].size, 5u);
  EXPECT_EQ(found[1].header, 1536u);
  EXPECT_EQ(found[1].size, 513u);
  EXPECT_EQ(found[2].offset, 2048u + 1024u + 512u);
}

TEST(TarWalker, TakesAnArchiveThatEndsWhereAHeaderWouldBegin) {
  EXPECT_EQ(one_member(small_entry()), "a.txt 512 5");
  EXPECT_EQ(one_member(small_entry() + std::string(512, '\0')), "a.txt 512 5");
  EXPECT_EQ(one_member(tar_header({"a.txt", "hello"}) + "hello"), "a.txt 512 5") << "without padding";
}

TEST(TarWalker, TakesNamesAndSizesFromTheHeadersBefore) {
  const auto file = tar_entry({"short", "hello"});
  EXPECT_EQ(one_member(tar_entry({"x", pax_record("path=long/b.txt") + pax_record("mtime=1.5"), 'x'}) + file),
            "long/b.txt 1536 5");
  EXPECT_EQ(one_member(tar_entry({"././@LongLink", std::string("long/c.txt\0", 11), 'L'}) + file), "long/c.txt 1536 5");
  EXPECT_EQ(one_member(tar_entry({"g", pax_record("comment=of git archive"), 'g'}) + file), "short 1536 5");
  EXPECT_EQ(one_member(tar_entry({"x", pax_record("size=5"), 'x'}) + tar_header({"a", "", '0', "", "00000000000 "}) +
                       "hello"),
            "a 1536 5");
  std::string prefixed = tar_header({"d.txt", "hello"});
  prefixed.replace(345, 4, "some");
  EXPECT_EQ(one_member(with_tar_checksum(prefixed) + "hello"), "some/d.txt 512 5");
  std::string gnu = tar_header({"d.txt", "hello", '0', "", "", std::string("ustar  \0", 8)});
  gnu.replace(345, 4, "1234");
  EXPECT_EQ(one_member(with_tar_checksum(gnu) + "hello"), "d.txt 512 5") << "GNU tar has a time there";
  std::string base256(12, '\0');
  base256[0] = '\x80', base256[11] = 5;
  EXPECT_EQ(one_member(tar_header({"a", "", '0', "", base256}) + "hello"), "a 512 5");
  EXPECT_EQ(one_member(tar_header({"a", "hello", '\0', "", "", std::string(8, '\0')}) + "hello"), "a 512 5")
      << "old v7";
}

TEST(TarWalker, RefusesSizesThatAreNoneOrBeyondTheEnd) {
  EXPECT_THAT(tar_refusal(tar_entry({"a.txt", "hello", '0', "", "00000100000 "}) + tar_end()),
              HasSubstr("a.tar: at offset 0 'a.txt' claims 32768 bytes; the archive has 1536 more"));
  std::string base256(12, '\0');
  base256[0] = '\x80', base256[4] = '\x10';  // 2^60
  EXPECT_THAT(tar_refusal(tar_entry({"a.txt", "hello", '0', "", base256}) + tar_end()),
              HasSubstr("'a.txt' claims 1152921504606846976 bytes; the archive has 1536 more"));
  base256[1] = 1;
  EXPECT_THAT(tar_refusal(tar_entry({"a.txt", "", '0', "", base256})), HasSubstr("is no number of bytes"));
  EXPECT_THAT(tar_refusal(tar_entry({"a.txt", "", '0', "", std::string(12, '\xff')})),
              HasSubstr("is no number of bytes"));
  EXPECT_THAT(tar_refusal(tar_entry({"a.txt", "", '0', "", "0000000009x\0"})), HasSubstr("is no number of bytes"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("size=1152921504606846976"), 'x'}) + small_entry()),
              HasSubstr("claims 1152921504606846976 bytes"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("size=-1"), 'x'}) + small_entry()),
              HasSubstr("at offset 0 the size '-1' of the pax header is no number of bytes"));
}

TEST(TarWalker, RefusesDamageAndWhatIsCutOff) {
  EXPECT_THAT(tar_refusal("no archive"), HasSubstr("at offset 0 the archive is cut off"));
  EXPECT_THAT(tar_refusal(std::string(2000, 'x')), HasSubstr("at offset 0 there is no header of a tar archive"));
  EXPECT_THAT(tar_refusal(small_entry() + small_entry().substr(0, 500)),
              HasSubstr("at offset 1024 the archive is cut off"));
  EXPECT_THAT(tar_refusal(small_entry().substr(0, 515)), HasSubstr("'a.txt' claims 5 bytes; the archive has 3 more"));
  std::string damaged = small_entry() + small_entry();
  damaged[1030] = '!';
  EXPECT_THAT(tar_refusal(damaged), HasSubstr("at offset 1024 the header's checksum is wrong"));
  EXPECT_THAT(tar_refusal(small_entry() + tar_end() + small_entry()),
              HasSubstr("at offset 2048 the archive goes on after its end at offset 1024"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("path=b"), 'x'})), HasSubstr("describes no file"));
}

TEST(TarWalker, RefusesNamesThatLeaveTheArchive) {
  EXPECT_THAT(tar_refusal(tar_entry({"/etc/passwd", "x"})), HasSubstr("the name '/etc/passwd' is absolute"));
  EXPECT_THAT(tar_refusal(tar_entry({"a/../../b.jpg", "x"})), HasSubstr("the name 'a/../../b.jpg' climbs"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("path=.."), 'x'}) + small_entry()), HasSubstr("climbs"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record(std::string("path=a\0b", 8)), 'x'}) + small_entry()),
              HasSubstr("holds a NUL"));
  EXPECT_THAT(tar_refusal(tar_entry({"", "x"})), HasSubstr("is empty"));
  EXPECT_EQ(one_member(tar_entry({"./a..b.jpg", "x"})), "./a..b.jpg 512 1");
}

TEST(TarWalker, RefusesWhatIsNoPlainFile) {
  EXPECT_THAT(tar_refusal(tar_entry({"a.jpg", "", '2', "b.jpg"})), HasSubstr("at offset 0 'a.jpg' is a symbolic link"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", '3'})), HasSubstr("is a device"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", '4'})), HasSubstr("is a device"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", '6'})), HasSubstr("is a named pipe"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", 'S'})), HasSubstr("is a sparse file"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("GNU.sparse.major=1"), 'x'}) + small_entry()),
              HasSubstr("is a sparse file"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", 'M'})), HasSubstr("of another volume"));
  EXPECT_THAT(tar_refusal(tar_entry({"a", "", '?'})), HasSubstr("unknown kind '?'"));
}

TEST(TarWalker, RefusesExtendedHeadersThatDoNotHoldTogether) {
  EXPECT_THAT(tar_refusal(tar_entry({"x", "99 path=b\n", 'x'}) + small_entry()), HasSubstr("has no valid length"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", "path=b\n", 'x'}) + small_entry()), HasSubstr("has no valid length"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", "2 \n", 'x'}) + small_entry()), HasSubstr("has no valid length"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", pax_record("path"), 'x'}) + small_entry()), HasSubstr("has no '='"));
  EXPECT_THAT(tar_refusal(tar_entry({"x", std::string((1 << 20) + 1, 'y'), 'x'}) + small_entry()),
              HasSubstr("claims 1048577 bytes; at most 1048576"));
}

}  // namespace
}  // namespace troupe
