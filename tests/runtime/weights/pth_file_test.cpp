#include "troupe/runtime/weights/pth_file.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <zlib.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// Files that the Python of the tests writes once.
class PthFile : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempDir;
    printed_ = new std::string(python_output("write_pth.py", "'" + folder_->path().string() + "' 2>/dev/null"));
  }
  static void TearDownTestSuite() {
    delete printed_;
    delete folder_;
  }
  static std::filesystem::path path(const std::string& name) { return *folder_ / name; }
  static std::string refused(const std::string& name) {
    return refusal([&] { read_pth(path(name)); });
  }

  static inline TempDir* folder_ = nullptr;
  static inline std::string* printed_ = nullptr;
};

/// "Float 2x3 1234": as write_pth.py prints a tensor.
std::string printed_tensor(const torch::Tensor& tensor) {
  const auto plain = tensor.resolve_conj().resolve_neg().contiguous();
  std::string sizes;
  for (const auto size : plain.sizes()) sizes += (sizes.empty() ? "" : "x") + std::to_string(size);
  const auto crc = crc32(0, static_cast<const Bytef*>(plain.const_data_ptr()), static_cast<uInt>(plain.nbytes()));
  return c10::str(tensor.scalar_type(), " ", sizes.empty() ? "-" : sizes, " ", crc);
}

TEST_F(PthFile, IsReadToTheBitAsInPython) {
  std::map<std::string, std::vector<std::string>> by_file;
  std::istringstream lines(*printed_);
  for (std::string line; std::getline(lines, line);) {
    const auto space = line.find(' ');
    by_file[line.substr(0, space)].push_back(line.substr(space + 1));
  }
  EXPECT_EQ(by_file.size(), 12u);
  for (const auto& [file, wanted] : by_file) {
    for (const bool mmap : {true, false}) {
      std::vector<std::string> got;
      for (const auto& [name, tensor] : tensors_of(read_pth(path(file), {.mmap = mmap}))) {
        got.push_back(name + " " + printed_tensor(tensor));
      }
      EXPECT_EQ(got, wanted) << file;
    }
  }
}

TEST_F(PthFile, SharesWhatWasSharedAndKeepsTheMapAlive) {
  auto net = pth_weights(path("net.pth"));
  const std::map<std::string, torch::Tensor> by_name(net.begin(), net.end());
  EXPECT_EQ(by_name.at("embedding.weight").const_data_ptr(), by_name.at("decoder.weight").const_data_ptr());
  const auto views = read_pth(path("views.pt"));
  auto base = views.find("base")->tensor();
  base.fill_(7);  // in memory alone
  EXPECT_EQ(views.find("middle")->tensor().sum().item<float>(), 6 * 7);
  EXPECT_EQ(read_pth(path("views.pt")).find("element")->tensor().item<float>(), 23);
}

TEST_F(PthFile, GivesNumbersTextsListsAndDictionaries) {
  const auto file = read_pth(path("lightning.ckpt"));
  EXPECT_EQ(file.find("epoch")->integer(), 3);
  EXPECT_EQ(file.find("pytorch-lightning_version")->text(), "2.5.0");
  const auto hparams = *file.find("hyper_parameters");
  EXPECT_EQ(hparams.find("big")->describe(), "a whole number of 9 bytes");
  EXPECT_EQ(hparams.find("raw")->bytes(), std::string("\0\xff", 2));
  EXPECT_EQ(hparams.find("names")->items().at(0).text(), "a");
  const auto group = file.find("optimizer_states")->items().at(0).find("param_groups")->items().at(0);
  EXPECT_EQ(group.find("lr")->number(), 1e-3);
  EXPECT_EQ(group.find("betas")->items().size(), 2u);
  EXPECT_FALSE(file.find("nothing"));
  EXPECT_EQ(refusal([&] { file.find("epoch")->tensor(); }), "the value is the number 3, not a tensor");
}

TEST_F(PthFile, FindsTheWeightsOfACheckpoint) {
  EXPECT_EQ(pth_weights(path("lightning.ckpt")).size(), 9u);
  EXPECT_EQ(pth_weights(path("lightning.ckpt"), "state_dict").front().first, "embedding.weight");
  EXPECT_EQ(pth_weights(path("nested.pth"), "a.b").front().first, "w");
  EXPECT_THAT(refusal([&] { pth_weights(path("lightning.ckpt"), "state_dic"); }),
              HasSubstr("lightning.ckpt: it has no 'state_dic', did you mean 'state_dict'? Its dictionaries are "));
  EXPECT_THAT(refusal([&] { pth_weights(path("net.pth"), "model"); }),
              HasSubstr("it has no 'model': it is a dictionary of 9 whose tensors are the weights; leave the key out"));
  EXPECT_THAT(refusal([&] { pth_weights(path("results.pth")); }), HasSubstr("it has tensors itself and in net; say"));
  EXPECT_THAT(refusal([&] { pth_weights(path("lightning.ckpt"), "epoch"); }),
              HasSubstr("its 'epoch' is the number 3, not a dictionary of tensors"));
}

TEST_F(PthFile, ComparesChecksumsIfItIsAsked) {
  const TempDir dir;
  const auto whole = compare_pth_checksums(path("net.pth"));
  EXPECT_GT(whole.compared, 8u);
  EXPECT_TRUE(whole.damaged.empty());
  auto bytes = content_of(path("net.pth"));
  const auto tensor = pth_weights(path("net.pth")).front().second;
  const auto at = bytes.find(std::string(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()));
  ASSERT_NE(at, bytes.npos);
  bytes[at] ^= 1;
  put(dir / "damaged.pth", bytes);
  EXPECT_EQ(pth_weights(dir / "damaged.pth").size(), 9u) << "mapped tensors are not compared";
  const auto damaged = compare_pth_checksums(dir / "damaged.pth");
  EXPECT_EQ(damaged.compared, whole.compared);
  EXPECT_THAT(damaged.damaged,
              testing::ElementsAre(AllOf(HasSubstr("net/data/"), HasSubstr("is damaged: its checksum differs"))));
  const auto without = compare_pth_checksums(path("no_crc.pth"));
  EXPECT_EQ(without.compared, 0u);
  EXPECT_TRUE(without.damaged.empty());
  EXPECT_EQ(pth_weights(path("no_crc.pth")).size(), 9u);
  EXPECT_THAT(refused("refused_crc.pth"), HasSubstr("data.pkl' is damaged: its checksum differs"));
}

TEST_F(PthFile, RunsNothingAndNamesWhatItRefuses) {
  EXPECT_THAT(refused("refused_evil.pth"), HasSubstr("the file names posix.system, which is no part of a state_dict"));
  EXPECT_FALSE(std::filesystem::exists(path("was_run")));
  EXPECT_THAT(refused("refused_module.pth"),
              AllOf(HasSubstr("__main__.Net"), HasSubstr("model.state_dict()"), HasSubstr("if x is the model itself")));
  EXPECT_THAT(refused("refused_quantized.pth"), HasSubstr("the tensor is quantized: save tensor.dequantize()"));
  EXPECT_THAT(refused("refused_sparse.pth"), HasSubstr("the tensor is sparse: save tensor.to_dense()"));
  EXPECT_THAT(refused("refused_meta.pth"), HasSubstr("has no values"));
  EXPECT_THAT(refused("refused_class.pth"), HasSubstr("the file names __main__.Special"));
  EXPECT_THAT(refused("refused_numpy.pth"), HasSubstr("torch.from_numpy(x)"));
}

TEST_F(PthFile, SaysWhatToDoWithOtherFiles) {
  EXPECT_THAT(refused("refused_old.pth"), HasSubstr("torch.save(torch.load(old, weights_only=True"));
  EXPECT_THAT(refused("refused_pickle.pth"), HasSubstr("torch.save(torch.load(old, weights_only=True"));
  EXPECT_THAT(refused("refused_script.pt"), HasSubstr("it is a TorchScript archive, a program and not weights"));
  for (const char* name : {"refused_big_endian.pth", "refused_big_endian_deflated.pth"}) {
    EXPECT_THAT(refused(name), HasSubstr("its numbers are big-endian"));
  }
  EXPECT_THAT(refused("refused_long_order.pth"), HasSubstr("its byteorder has 6000 bytes"));
  EXPECT_THAT(refused("refused_short.pth"), HasSubstr("is to have 80 bytes, the archive has 76 of it"));
  EXPECT_THAT(refusal([&] { read_pth(path("deflated.pth"), {.most_bytes = 10}); }), HasSubstr("(most_bytes)"));
  EXPECT_THAT(refusal([&] { read_pth(path("none.pth")); }), HasSubstr("cannot open"));
  const TempDir dir;
  put(dir / "page.pth", "<html>not found</html>");
  EXPECT_THAT(refusal([&] { read_pth(dir / "page.pth"); }),
              HasSubstr("page.pth: is no zip archive but a page of HTML, as a failed download leaves"));
  put(dir / "pointer.pth", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
  EXPECT_THAT(refusal([&] { read_pth(dir / "pointer.pth"); }), HasSubstr("git lfs pull fetches it"));
}

}  // namespace
}  // namespace troupe
