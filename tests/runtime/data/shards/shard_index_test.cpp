#include "troupe/runtime/data/shards/shard_index.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include <sys/wait.h>
#include <unistd.h>

namespace troupe {
namespace {

using testing::HasSubstr;

std::shared_ptr<const FileReader> shard_file(const std::filesystem::path& path) {
  return std::make_shared<const FileReader>(path);
}

std::unique_ptr<ShardBytes> shard_content(const std::filesystem::path& path, const ShardIndex& index) {
  if (index.is_gzip) return std::make_unique<GzipBytes>(shard_file(path), index.points);
  return std::make_unique<PlainBytes>(shard_file(path));
}

/// "KEY EXTENSION SIZE" of each file, as write_shards.py prints it.
std::vector<std::string> lines_of(const ShardIndex& index) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < index.samples(); ++i) {
    for (const auto& file : index.files_of(i)) {
      out.push_back(std::string(index.key(i)) + " " + index.extensions[file.extension] + " " +
                    std::to_string(file.size));
    }
  }
  return out;
}

std::string shard_index_refusal(const std::string& archive) {
  const TempDir dir;
  put(dir / "a.tar", archive);
  return refusal([&] { build_shard_index(shard_file(dir / "a.tar")); });
}

/// Samples "0", "1", ... of a file each that holds its key 1000 times, or random bytes.
std::string many_samples(int64_t count, bool is_random = false) {
  std::mt19937 random(1);
  std::string out;
  for (int64_t i = 0; i < count; ++i) {
    std::string content;
    for (int j = 0; j < 1000; ++j)
      content += is_random ? std::string(1, static_cast<char>(random())) : std::to_string(i);
    out += tar_entry({std::to_string(i) + ".txt", content});
  }
  return out + tar_end();
}

TEST(ShardIndex, FindsTheFilesThatTarfileAndGnuTarWrite) {
  const TempDir dir;
  std::istringstream lines(python_output("write_shards.py", dir.path().string()));
  std::map<std::string, std::vector<std::string>> expected;
  std::string shard, line;
  while (lines >> shard && std::getline(lines, line)) expected[shard].push_back(line.substr(1));
  EXPECT_EQ(expected.size(), 10u);
  for (const auto& [name, files] : expected) {
    const auto index = build_shard_index(shard_file(dir / name), 1 << 12);
    EXPECT_EQ(lines_of(index), files) << name;
    const auto content = shard_content(dir / name, index);
    for (std::size_t i = index.samples(); i-- > 0;) {  // backwards, so that gzip has to seek
      for (const auto& file : index.files_of(i)) {
        std::string found(file.size, '\0');
        EXPECT_EQ(content->read(file.offset, found.data(), found.size()), file.size) << name;
        const auto start = std::string(index.key(i)) + ".";
        EXPECT_EQ(found.substr(0, start.size()), start.substr(0, found.size())) << name;
      }
    }
  }
  const auto links = build_shard_index(shard_file(dir / "links.tar"));
  ASSERT_EQ(lines_of(links), (std::vector<std::string>{"a txt 15", "b txt 15"}));
  EXPECT_EQ(links.files[0].offset, links.files[1].offset);
}

TEST(ShardIndex, PartsNamesAsWebDatasetDoesButLeavesOutHiddenFiles) {
  const auto parts = [](const std::string& name) {
    const auto found = key_and_extension(name);
    return found ? found->first + " + " + found->second : "none";
  };
  EXPECT_EQ(parts("a.b.jpg"), "a + b.jpg");
  EXPECT_EQ(parts("v1.0/b.JPG"), "v1.0/b + jpg");
  EXPECT_EQ(parts("./a.cls"), "./a + cls");
  EXPECT_EQ(parts("x 1.5.jpg"), "x 1 + 5.jpg");
  EXPECT_EQ(parts("b."), "b + ");
  EXPECT_EQ(parts("README"), "none");
  EXPECT_EQ(parts("v1.0/b"), "none");
  EXPECT_EQ(parts(".hid.jpg"), "none");
  EXPECT_EQ(parts("d/._a.jpg"), "none");
}

TEST(ShardIndex, RefusesSamplesThatAreNotOneAfterTheOther) {
  const auto a = tar_entry({"a.jpg", "1"}), b = tar_entry({"b.jpg", "1"});
  EXPECT_THAT(shard_index_refusal(a + b + tar_entry({"a.cls", "1"})),
              HasSubstr("a.tar: at offset 2048 the sample 'a' of offset 0 comes back"));
  EXPECT_THAT(shard_index_refusal(b + a + a),
              HasSubstr("a.tar: at offset 2048 the sample 'a' has a second file 'jpg'"));
  EXPECT_THAT(shard_index_refusal(a + tar_entry({"a.JPG", "1"})), HasSubstr("has a second file 'jpg'"));
  EXPECT_THAT(shard_index_refusal(a + tar_entry({"b.jpg", "", '1', "c.jpg"})),
              HasSubstr("at offset 1024 'b.jpg' is a hard link to 'c.jpg', which is no file before it"));
  EXPECT_THAT(shard_index_refusal(""), HasSubstr("a.tar is empty; a tar archive was expected"));
  EXPECT_EQ(shard_index_refusal(a + tar_entry({"README", "x"}) + tar_entry({"a.cls", "1"}) + b), "accepted");
}

TEST(GzipBytes, ReadsTheContentFromAnywhere) {
  const TempDir dir;
  for (const bool is_random : {false, true}) {
    const auto content = many_samples(600, is_random);
    put(dir / "one.tar.gz", gzipped(content));
    put(dir / "three.tar.gz",
        gzipped(content.substr(0, 100'000)) + gzipped("") + gzipped(content.substr(100'000)) + std::string(700, '\0'));
    for (const auto* name : {"one.tar.gz", "three.tar.gz"}) {
      const auto index = build_shard_index(shard_file(dir / name), 1 << 15);
      EXPECT_EQ(index.samples(), 600u);
      EXPECT_GE(index.points->size(), is_random ? 4u : 0u) << name;
      GzipBytes bytes(shard_file(dir / name), index.points);
      std::mt19937 random(2);
      for (int i = 0; i < 300; ++i) {
        const auto offset = random() % content.size();
        std::string found(random() % 5000, '\0');
        found.resize(bytes.read(offset, found.data(), found.size()));
        ASSERT_EQ(found, content.substr(offset, std::min(found.size(), content.size() - offset))) << name;
      }
      std::string rest(100, '\0');
      EXPECT_EQ(bytes.read(content.size() - 10, rest.data(), 100), 10u);
      EXPECT_EQ(bytes.read(content.size() + 10, rest.data(), 100), 0u);
    }
  }
}

TEST(GzipBytes, RefusesDamageAndWhatIsCutOff) {
  const TempDir dir;
  const auto whole = gzipped(many_samples(100, true));
  const auto told = [&](const std::string& bytes) {
    put(dir / "a.tar.gz", bytes);
    return refusal([&] { build_shard_index(shard_file(dir / "a.tar.gz")); });
  };
  EXPECT_EQ(told(whole), "accepted");
  EXPECT_THAT(
      told(whole.substr(0, whole.size() / 2)),
      HasSubstr("the compressed data cannot be read: it is cut off, at byte " + std::to_string(whole.size() / 2)));
  EXPECT_THAT(told(whole.substr(0, whole.size() - 4)), HasSubstr("it is cut off"));
  auto damaged = whole;
  damaged[damaged.size() - 6] ^= 1;  // of its checksum
  EXPECT_THAT(told(damaged), HasSubstr("incorrect data check"));
  damaged = whole;
  damaged[3] |= '\x80';
  EXPECT_THAT(told(damaged), HasSubstr("the compressed data cannot be read: unknown header flags set"));
  for (const std::size_t size : {5, 10'000}) {
    EXPECT_THAT(told(gzipped(tar_header({"a.txt", "", '0', "", "00000100000 "}) + std::string(size, 'x'))),
                HasSubstr("at offset 0 'a.txt' claims 32768 bytes; the archive has " + std::to_string(size) + " more"));
  }
}

TEST(ShardIndexFile, IsUsedAgainUntilTheShardChanges) {
  const TempDir dir;
  const auto shard = dir / "a.tar", file = dir / "a.tar.index";
  put(shard, many_samples(3));
  EXPECT_EQ(load_shard_index(shard, {.keep = false}).samples(), 3u);
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 3u);
  const auto written = content_of(file);
  // The index is what tells of the samples now: zeros of the same size and time are not read.
  const auto time = std::filesystem::last_write_time(shard);
  put(shard, std::string(std::filesystem::file_size(shard), '\0'));
  std::filesystem::last_write_time(shard, time);
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 3u);
  std::filesystem::last_write_time(shard, time + std::chrono::seconds(1));
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 0u);
  put(shard, many_samples(4));
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 4u);
  EXPECT_NE(content_of(file), written);
}

TEST(ShardIndexFile, IsBuiltAnewWhenItIsDamaged) {
  const TempDir dir;
  const auto shard = dir / "a.tar.gz", file = dir / "a.tar.gz.index";
  put(shard, gzipped(many_samples(50, true)));
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 50u);
  const auto whole = content_of(file);
  for (std::size_t at = 0; at < whole.size(); at += 7) {
    auto damaged = whole;
    damaged[at] ^= 4;
    put(file, damaged);
    ASSERT_EQ(load_gzip_points(shard, {}), nullptr) << at;
    put(file, whole.substr(0, at));
    ASSERT_EQ(load_gzip_points(shard, {}), nullptr) << at;
  }
  EXPECT_EQ(load_shard_index(shard, {}).samples(), 50u);
  EXPECT_EQ(content_of(file), whole);
}

TEST(ShardIndexFile, MayBeInAFolderOfItsOwnOrNowhere) {
  const TempDir dir;
  for (const auto* folder : {"x", "y"}) {
    std::filesystem::create_directory(dir / folder);
    put(dir / folder / "a.tar", many_samples(folder[0] == 'x' ? 1 : 2));
  }
  const ShardIndexOptions options{.folder = dir / "made" / "here"};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(load_shard_index(dir / "x" / "a.tar", options).samples(), 1u);
    EXPECT_EQ(load_shard_index(dir / "y" / "a.tar", options).samples(), 2u);
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "x" / "a.tar.index"));
  put(dir / "file", "");
  put(dir / "b.tar.gz", gzipped(many_samples(100, true)));
  const auto in_memory = load_shard_index(dir / "b.tar.gz", {.folder = dir / "file" / "no folder"});
  EXPECT_EQ(in_memory.samples(), 100u);
  EXPECT_NE(in_memory.points, nullptr) << "nothing else has them";
}

TEST(ShardIndexFile, MayBeBuiltByTwoProcessesAtOnce) {
  const TempDir dir;
  const auto shard = dir / "a.tar.gz", file = dir / "a.tar.gz.index";
  put(shard, gzipped(many_samples(300, true)));
  load_shard_index(shard, {});
  const auto whole = content_of(file);
  for (int round = 0; round < 10; ++round) {
    std::filesystem::remove(file);
    std::array<int, 2> gate{};  // the children begin when its end is closed for writing
    ASSERT_EQ(pipe(gate.data()), 0);
    std::array<pid_t, 2> children{};
    for (auto& child : children) {
      child = fork();
      ASSERT_GE(child, 0);
      if (child != 0) continue;
      close(gate[1]);
      char byte = 0;
      if (read(gate[0], &byte, 1) != 0) _exit(2);
      try {
        _exit(load_shard_index(shard, {}).samples() == 300 ? 0 : 3);
      } catch (...) {
        _exit(4);
      }
    }
    close(gate[0]);
    close(gate[1]);
    for (std::size_t ended = 0; ended < children.size();) {
      // Whoever reads meanwhile finds the whole file or none.
      if (std::filesystem::exists(file)) {
        EXPECT_EQ(content_of(file), whole);
      }
      int status = 0;
      if (waitpid(-1, &status, WNOHANG) <= 0) continue;
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      ++ended;
    }
    EXPECT_EQ(content_of(file), whole);
  }
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) left.insert(entry.path().filename());
  EXPECT_EQ(left, (std::set<std::string>{"a.tar.gz", "a.tar.gz.index"}));
}

TEST(ShardIndexFile, IsNotTrusted) {
  ShardIndex index;
  index.extensions = {"txt"};
  index.keys = "ab";
  index.key_ends = {1, 2};
  index.file_ends = {1, 2};
  index.files = {{512, 5, 0}, {1536, 5, 0}};
  const ShardStamp stamp{2048, 7};
  const auto told = [&](auto change) {
    ShardIndex changed = index;
    change(changed);
    return refusal([&] { shard_index_from_bytes(shard_index_to_bytes(changed, stamp), stamp); });
  };
  EXPECT_EQ(told([](ShardIndex&) {}), "accepted");
  EXPECT_THAT(told([](ShardIndex& i) { i.files[1].size = 513; }), HasSubstr("lies beyond the shard's end"));
  EXPECT_THAT(told([](ShardIndex& i) { i.files[1].size = ~uint64_t{0}; }), HasSubstr("lies beyond the shard's end"));
  EXPECT_THAT(told([](ShardIndex& i) { i.files[1].offset = ~uint64_t{0}; }), HasSubstr("lies beyond the shard's end"));
  EXPECT_THAT(told([](ShardIndex& i) { i.files[1].extension = 1; }), HasSubstr("unknown extension"));
  EXPECT_THAT(told([](ShardIndex& i) { i.key_ends = {2, 1}; }), HasSubstr("run backwards"));
  EXPECT_THAT(told([](ShardIndex& i) { i.key_ends = {1, 3}; }), HasSubstr("other keys or files"));
  EXPECT_THAT(told([](ShardIndex& i) { i.file_ends = {1, 3}; }), HasSubstr("other keys or files"));
  EXPECT_THAT(refusal([&] {
                shard_index_from_bytes(shard_index_to_bytes(index, stamp), {2048, 8});
              }),
              HasSubstr("the shard was changed"));
  index.is_gzip = true;
  const auto with_point = [&](GzipPoint point) {
    return told([&](ShardIndex& i) { i.points = std::make_shared<const GzipPoints>(GzipPoints{std::move(point)}); });
  };
  EXPECT_EQ(with_point({1, 7, 10, "window"}), "accepted");
  EXPECT_THAT(with_point({2049, 0, 10, ""}), HasSubstr("a point that cannot be"));
  EXPECT_THAT(with_point({0, 1, 10, ""}), HasSubstr("a point that cannot be"));
  EXPECT_THAT(with_point({1, 8, 10, ""}), HasSubstr("a point that cannot be"));
  EXPECT_THAT(with_point({1, 1, 10, std::string(40'000, 'x')}), HasSubstr("a point that cannot be"));
}

}  // namespace
}  // namespace troupe
