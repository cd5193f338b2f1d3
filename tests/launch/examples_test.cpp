// The examples as programs, on their real data, cut short.
#include "tests/support/file_content.hpp"
#include "tests/support/program.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>

namespace troupe {
namespace {

// `program arguments` on one thread, with its files in `dir`.
Finished run(const char* program, std::string_view arguments, const TempDir& dir, const char* redirection) {
  std::ostringstream command;
  command << example(program) << ' ' << arguments << " --trainer.num_threads 1 --trainer.enable_progress_bar=false"
          << " --trainer.default_root_dir " << dir.path() << ' ' << redirection;
  return run_program(command.str());
}

// What it prints on stdout.
std::string output_of(const char* program, std::string_view arguments, const TempDir& dir) {
  const auto finished = run(program, arguments, dir, "2>/dev/null");
  EXPECT_EQ(finished.status, 0) << program << " " << arguments;
  return finished.output;
}

// What it says on stderr when it cannot.
std::string refusal_of(const char* program, std::string_view arguments, const TempDir& dir) {
  const auto finished = run(program, arguments, dir, "2>&1 >/dev/null");
  EXPECT_THAT(finished.status, testing::AnyOf(1, 2)) << program << " " << arguments;
  return finished.output;
}

// The number behind `name ` in "name number" lines.
double metric(const std::string& output, const std::string& name) {
  std::istringstream lines(output);
  std::string key;
  double value = 0;
  while (lines >> key >> value) {
    if (key == name) return value;
  }
  ADD_FAILURE() << "no " << name << " in:\n" << output;
  return 0;
}

TEST(Examples, HaveStepsThatCanBeCapturedWithTheSameBits) {
  for (const char* program :
       {"autoencoder", "char_rnn", "custom_operator", "digits", "gan", "gpt", "images", "regression", "transfer"}) {
    const TempDir dir;
    std::string arguments =
        "fit --trainer.max_epochs 1 --trainer.limit_train_batches 8 --trainer.limit_val_batches 4"
        " --trainer.limit_test_batches 4 --trainer.seed 1 --trainer.capture_step check"
        " --trainer.capture_step_check_every 1";
    if (program == std::string_view("images")) arguments += " --data.dir " + (dir / "digits").string();
    const auto finished = run(program, arguments, dir, "2>&1 >/dev/null");
    EXPECT_EQ(finished.status, 0) << program << "\n" << finished.output;
    EXPECT_THAT(finished.output, testing::HasSubstr("captured training_step")) << program;
    EXPECT_THAT(finished.output, testing::Not(testing::HasSubstr("training_step is not captured"))) << program;
  }
}

TEST(Examples, DigitsFindsALearningRate) {
  const TempDir dir;
  const auto found = output_of("digits", "tune --tune.lr --lr_find.num_training 40 --trainer.seed 1", dir);
  EXPECT_THAT(found, testing::MatchesRegex("--model.lr 0.00?[0-9]+\n"));
}

TEST(Examples, TheAutoencoderLearnsToReconstruct) {
  const TempDir dir;
  output_of("autoencoder", "fit --trainer.max_epochs 3 --trainer.seed 1", dir);
  const double loss = metric(output_of("autoencoder", "test --ckpt_path best", dir), "test_loss");
  EXPECT_GT(loss, 0);
  EXPECT_LT(loss, 0.05);  // 0.23 before training
}

TEST(Examples, TheResidualNetLearnsFromAFolderOfImages) {
  const TempDir dir;
  const std::string data = " --data.dir " + (dir / "digits").string();
  output_of("images", "fit --trainer.max_epochs 2 --trainer.seed 1" + data, dir);
  EXPECT_TRUE(std::filesystem::exists(dir / "digits/train/7"));
  const double accuracy = metric(output_of("images", "test --ckpt_path best" + data, dir), "test_acc");
  EXPECT_GT(accuracy, 0.8);
  EXPECT_LE(accuracy, 1);
  std::filesystem::remove_all(dir / "digits/val");
  EXPECT_THAT(refusal_of("images", "fit" + data, dir), testing::HasSubstr("digits/val"));
}

TEST(Examples, TheGanComesNearerToTheImagesEitherWay) {
  for (const char* mode : {"false", "true"}) {
    const TempDir dir;
    std::ostringstream fit, validate;
    fit << "fit --trainer.max_epochs 2 --trainer.seed 1 --model.manual=" << mode;
    validate << "validate --ckpt_path last --model.manual=" << mode;
    output_of("gan", fit.str(), dir);
    const double gap = metric(output_of("gan", validate.str(), dir), "val_mean_gap");
    EXPECT_GT(gap, 0) << mode;
    EXPECT_LT(gap, 0.12) << mode;  // 0.2 before training
  }
}

TEST(Examples, TheCharacterRnnLearnsTextAndWritesOn) {
  const TempDir dir;
  const std::string small = " --model.hidden 64";
  EXPECT_NEAR(metric(output_of("char_rnn", "validate" + small, dir), "val_bits"), 8, 0.3);
  output_of("char_rnn", "fit --trainer.max_epochs 1 --trainer.seed 1" + small, dir);
  EXPECT_LT(metric(output_of("char_rnn", "validate --ckpt_path best" + small, dir), "val_bits"), 4.5);
  const auto text =
      output_of("char_rnn", "predict --ckpt_path best --model.generate 20 --data.prompt 'You may '" + small, dir);
  EXPECT_EQ(text.substr(0, 8), "You may ");
  EXPECT_EQ(text.size(), 8 + 20 + 1u);
}

TEST(Examples, TheGptLearnsTextAndWritesOn) {
  const TempDir dir;
  const std::string small = " --model.layers 2 --model.heads 2 --model.width 64 --model.context 64 --data.length 64";
  EXPECT_NEAR(metric(output_of("gpt", "validate" + small, dir), "val_bits"), 8, 0.3);
  output_of("gpt",
            "fit --trainer.max_steps 100 --model.warmup_steps 20 --trainer.seed 1 --model.activation_checkpoints true" +
                small,
            dir);
  EXPECT_LT(metric(output_of("gpt", "validate --ckpt_path best" + small, dir), "val_bits"), 5);
  const auto text =
      output_of("gpt", "predict --ckpt_path best --model.generate 80 --data.prompt 'You may '" + small, dir);
  EXPECT_EQ(text.substr(0, 8), "You may ");
  EXPECT_EQ(text.size(), 8 + 80 + 1u) << "it goes on where the text is longer than its context";
}

TEST(Examples, LoraFineTunesTheGptAndSavesItsAdaptersAlone) {
  const TempDir dir;
  const std::string licence = " --data.length 64 --data.files /usr/share/common-licenses/GFDL-1.3";
  output_of("gpt",
            "fit --trainer.max_steps 60 --model.warmup_steps 10 --trainer.seed 1 --model.layers 2 --model.heads 2"
            " --model.width 64 --model.context 64 --data.length 64 --trainer.name base",
            dir);
  const std::string base = " --model.weights " + (dir / "base/version_0/checkpoints/last.safetensors").string();
  const auto tuned = dir / "tuned/version_0/checkpoints/last.safetensors";
  const double before = metric(output_of("lora", "validate" + base + licence, dir), "val_bits");
  output_of(
      "lora",
      "fit --trainer.max_steps 100 --trainer.max_epochs 30 --trainer.seed 1 --trainer.name tuned --model.merged " +
          (dir / "merged.pth").string() + base + licence,
      dir);
  const double after =
      metric(output_of("lora", "validate --ckpt_path " + tuned.string() + base + licence, dir), "val_bits");
  EXPECT_LT(after, before - 0.05);  // 4.79 and 4.71
  for (const auto& [name, tensor] : read_any_weights(tuned).tensors) {
    EXPECT_THAT(name, testing::HasSubstr(".lora_"));
  }
  for (const auto& [name, tensor] : read_any_weights(dir / "merged.pth").tensors) {
    EXPECT_THAT(name, testing::Not(testing::HasSubstr(".lora_")));
  }
}

TEST(Examples, TransferNeedsFewerImagesThanTrainingFromScratch) {
  const TempDir dir;
  const auto output =
      output_of("transfer",
                "fit --trainer.max_epochs 10 --transfer.unfreeze_at_epoch 5 --transfer.pretrain_epochs 2"
                " --transfer.shots 5 --trainer.seed 1",
                dir);
  EXPECT_GT(metric(output, "pretrained"), 0.9);
  EXPECT_GT(metric(output, "transferred"), metric(output, "from_scratch"));
  EXPECT_GT(metric(output, "transferred"), 0.6);  // 0.2 by chance
}

TEST(Examples, TransferStartsFromWeightsThatOthersTrained) {
  const TempDir dir;
  python_output("trained_models.py", "'" + dir.path().string() + "'");
  const auto output = output_of("transfer",
                                "fit --trainer.max_epochs 6 --transfer.unfreeze_at_epoch 3 --transfer.shots 5"
                                " --trainer.seed 1 --transfer.weights " +
                                    (dir / "printed_text.pt").string(),
                                dir);
  EXPECT_THAT(output, testing::Not(testing::HasSubstr("pretrained")));
  EXPECT_GT(metric(output, "transferred"), 0.4);  // 0.2 by chance
}

TEST(Examples, TheLoopWithoutATrainerLearnsOnOneDeviceAndOnTwo) {
  const TempDir dir;
  for (const char* devices : {"1", "2"}) {
    const auto loop = [&](const std::string& arguments) {
      return run_program(example("raw_loop") +
                         " fit --fabric.accelerator cpu --fabric.num_threads 1 --fabric.devices " + devices +
                         arguments + " 2>&1");
    };
    const auto file = [&](const std::string& name) { return dir / (name + devices + ".safetensors"); };
    const auto plain = loop(" --fabric.capture_step off --loop.save " + file("plain").string());
    EXPECT_EQ(plain.status, 0) << plain.output;
    const double accuracy = std::stod("0" + plain.output.substr(plain.output.rfind(' ') + 1));
    EXPECT_GT(accuracy, 0.85) << plain.output;
    EXPECT_LE(accuracy, 1) << plain.output;
    const auto captured = loop(" --fabric.capture_step require --loop.save " + file("captured").string());
    EXPECT_EQ(captured.status, 0) << captured.output;
    EXPECT_THAT(captured.output, testing::HasSubstr("captured step: "));
    const auto tensors = [](const std::string& bytes) { return bytes.substr(bytes.size() / 2); };
    EXPECT_EQ(tensors(content_of(file("plain"))), tensors(content_of(file("captured"))));
  }
  const auto wrong = run_program(example("raw_loop") + " fit --fabric.device 2 2>&1");
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.output, testing::HasSubstr("did you mean --fabric.devices"));
}

TEST(Examples, TheRegressionExplainsMostOfTheVariance) {
  const TempDir dir;
  output_of("regression", "fit --trainer.max_epochs 60 --trainer.seed 1", dir);
  const auto output = output_of("regression", "test --ckpt_path best", dir);
  EXPECT_GT(metric(output, "test_r2"), 0.8);
  EXPECT_LT(metric(output, "test_mse") * 4, metric(output, "test_mse_of_mean"));
}

TEST(Examples, SayInOneSentenceWhatIsWrongWithTheirData) {
  const TempDir dir;
  put(dir / "empty", "");
  put(dir / "short", std::string(100, 'x'));
  put(dir / "cars.csv", "8,307.0,130.0,3504.0,12.0,70,1,chevrolet,18.0\n");
  const auto refused = [&](const char* program, const std::string& arguments) {
    const auto said = refusal_of(program, "fit " + arguments, dir);
    return said.substr(said.find(std::string(program) + ": "));
  };
  const auto in_dir = [&](const char* name) { return (dir / name).string(); };
  using testing::HasSubstr;
  for (const char* program : {"char_rnn", "gpt"}) {
    EXPECT_THAT(refused(program, "--data.files " + in_dir("absent")), HasSubstr("absent: No such file"));
    EXPECT_THAT(refused(program, "--data.files " + in_dir("empty")), HasSubstr("empty holds no text"));
    EXPECT_THAT(refused(program, "--data.files " + in_dir("short")), HasSubstr("90 tokens are too few"));
  }
  EXPECT_THAT(refused("gpt", "--data.length 129"),
              HasSubstr("samples of 129 tokens are longer than model.context = 128; set data.length = 128"));
  EXPECT_THAT(refused("gpt", "--model.heads 3"),
              HasSubstr("model.heads = 3 does not divide model.width = 128; 2 does"));
  EXPECT_THAT(refused("gpt", "--data.val " + in_dir("short")), HasSubstr("data.val is given without data.train"));
  EXPECT_THAT(refused("regression", "--data.csv " + in_dir("cars.csv")), HasSubstr("holds 1 cars; at least 14"));
  EXPECT_THAT(refused("regression", "--data.csv " + in_dir("short")), HasSubstr("line 1 has 1 columns"));
  EXPECT_THAT(refused("transfer", "--transfer.shots 500"), HasSubstr("transfer.shots = 500"));
  EXPECT_THAT(refused("transfer", "--transfer.weights " + in_dir("short")),
              testing::AllOf(HasSubstr("transfer.weights is to be legere's model.pt: "), HasSubstr("short")));
  EXPECT_THAT(refused("transfer", "--transfer.weights " + in_dir("shrot")),
              HasSubstr("shrot': No such file or directory; did you mean '" + in_dir("short")));
  EXPECT_THAT(refused("gpt", "--model.from_pretrained " + in_dir("absent")), HasSubstr("absent/config.json"));
}

}  // namespace
}  // namespace troupe
