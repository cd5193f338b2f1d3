// Readers of what strangers may hand over, each as a function of bytes: what they may do is return, or refuse with an
// error of the library's. Anything else (another exception, a crash, a report of a sanitizer) is a finding.
#pragma once

#include "tests/fuzz/array_targets.hpp"
#include "tests/fuzz/curve_targets.hpp"
#include "tests/fuzz/image_targets.hpp"
#include "tests/fuzz/json_lines_targets.hpp"
#include "tests/fuzz/live_targets.hpp"
#include "tests/fuzz/metadata.hpp"
#include "tests/fuzz/mlflow_targets.hpp"
#include "tests/fuzz/pth_targets.hpp"
#include "tests/fuzz/report_targets.hpp"
#include "tests/fuzz/request_targets.hpp"
#include "tests/fuzz/shard_targets.hpp"
#include "tests/fuzz/sharded_targets.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/troupe.hpp"

#include "troupe/launch/config_file.hpp"
#include "troupe/launch/part_setting.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "troupe/runtime/data/csv_table.hpp"
#include "troupe/runtime/data/mnist.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace troupe::fuzz {

// An IDX file: magic, sizes, data.
inline std::string idx(uint8_t dimensions, const std::vector<uint32_t>& sizes, const std::string& data) {
  std::string out{'\0', '\0', '\x08', static_cast<char>(dimensions)};
  for (const uint32_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(size >> shift));
  }
  return out + data;
}

/// The folder of its inputs below tests/fuzz/corpus.
inline std::string corpus_name(const Target& target) {
  std::string name = target.name;
  std::ranges::replace(name, ' ', '_');
  return name;
}

inline std::vector<Target> targets(const TempDir& dir) {
  std::vector<Target> all;
  const auto in_file = [&dir](const std::string& name, auto read) {
    return [path = dir / name, read](const std::string& bytes) {
      put(path, bytes);
      read(path);
    };
  };

  std::filesystem::create_directory(dir / "found");
  const auto metadata = std::make_shared<Metadata>(dir / "found" / "metadata.safetensors");
  const NamedTensors few = {{"a", torch::ones(1)},
                            {"b", torch::ones({1, 3}, torch::kBool)},
                            {"c", torch::ones(1, torch::kComplexFloat)},
                            {"d", torch::ones(2).to(torch::kFloat8_e4m3fn)},
                            {"e", torch::ones(1).to(torch::kUInt16)},
                            {"f", torch::ones(2, torch::kByte).view(torch::kFloat4_e2m1fn_x2)}};
  write_safetensors(*real_file_system().create(dir / "few.safetensors"), few, {{"format", "pt"}});
  all.push_back({"safetensors",
                 {content_of(dir / "few.safetensors"), content_of(dir / "found" / "metadata.safetensors")},
                 in_file("a.safetensors", [](const auto& path) {
                   const auto weights = read_weights(path);
                   torch::nn::Module module;
                   module.register_buffer("a", torch::zeros(1));
                   module.register_buffer("c", torch::zeros(1, torch::kComplexFloat));
                   load_model_state(weights, module, false);
                   const SafetensorsFile file(path);
                   for (const auto& entry : file.entries()) (void)file.read(entry);
                 })});
  all.push_back({"metadata", {metadata->seed()}, [metadata](const auto& bytes) { metadata->read(bytes); }});
  all.push_back({"csv",
                 {"a,b,c\n1,2,3\n4,5.5,-6e3\n", "\"x\",\"y\"\n\"1\",\"2\"\r\n", "a,b,\r1,2,\r"},
                 in_file("table.csv", [](const auto& path) { (void)read_csv(path); })});
  all.push_back({"blank csv",
                 {" a b\t\tc\n 1 2\t3 \n 4  5,5 -6e3\n", "\"x y\"  z\n\"1,5\" 2\r\n"},
                 in_file("blanks.csv", [](const auto& path) {
                   (void)read_csv(path, {.delimiter = ' ', .decimal = ',', .on_missing = CsvOptions::Missing::nan});
                 })});
  all.push_back({"mnist csv",
                 {[] {
                    std::string row;
                    for (int i = 0; i < 784; ++i) row += std::to_string(i == 0 ? 255 : i % 10) + ",";
                    return row + "7\n" + row + "3\n";
                  }(),
                  [] {
                    std::string names = "label", row = "7";
                    for (int i = 0; i < 784; ++i) names += ",pixel" + std::to_string(i), row += ",0";
                    return names + "\n" + row + "\n";
                  }()},
                 in_file("mnist.csv", [](const auto& path) { (void)read_mnist_csv(path); })});
  const auto folder = dir / "mnist";
  std::filesystem::create_directory(folder);
  const auto images = idx(3, {2, 28, 28}, std::string(2 * 784, '\x10')),
             labels = idx(1, {2}, std::string("\x03\x07", 2));
  all.push_back({"idx", {images, labels}, [folder, images, labels](const auto& bytes) {
                   const bool is_labels = bytes.size() > 3 && bytes[3] == 1;
                   put(folder / "t10k-images-idx3-ubyte", is_labels ? images : bytes);
                   put(folder / "t10k-labels-idx1-ubyte", is_labels ? bytes : labels);
                   (void)read_mnist(folder, MnistPart::test);
                 }});
  all.push_back(
      {"config",
       {"[trainer]\nmax_epochs = 3\nprecision = \"32-true\"\nlimit_train_batches = 0.5\n",
        "ckpt_path = 'last'\ntrainer.devices = 2 # two\ntrainer.seed = 31\n", "\xEF\xBB\xBF[trainer]\nmax_epochs = 3\n",
        "optimizer.name = 'adam'\n[[callbacks]]\npatience = 3\nname = 'x'\n[[callbacks]]\nname = ['y']\n"},
       in_file("run.toml", [](const auto& path) {
         TrainerOptions options;
         std::vector<OptionGroup> groups{option_group("trainer", options)};
         class Parts final : public PartSettings {
          public:
           std::vector<std::string> kinds() const override { return {"optimizer", "callbacks"}; }
           std::vector<std::string> lists() const override { return {"callbacks"}; }
           bool takes(std::string_view name) const override {
             return name.starts_with("optimizer") || name.starts_with("callbacks");
           }
           void begin_place() override {}
           void add(PartSetting) override {}
           void forget_loggers() override {}
         } parts;
         (void)apply_config_file(path, groups, &parts);
       })});
  // Of one subject each, in files of their own.
  add_array_targets(all, dir);
  add_image_targets(all, dir);
  add_mlflow_targets(all, dir);
  add_shard_targets(all, dir);
  add_sharded_targets(all, dir);
  add_report_targets(all, dir);
  add_curve_targets(all, dir);
  add_json_lines_targets(all, dir);
  add_pth_targets(all, dir);
  add_request_targets(all, dir);
  add_live_targets(all, dir);
  return all;
}

}  // namespace troupe::fuzz
