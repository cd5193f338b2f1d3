#include "tests/support/endless_run.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/program.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/csv_sink.hpp"
#include "troupe/runtime/weights/any_weights.hpp"
#include "troupe/runtime/weights/pth_writer.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <array>
#include <cstdio>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace fs = std::filesystem;

/// The real program, in a folder of the test's own.
class CommandTest : public testing::Test {
 protected:
  Finished run(const std::string& words) const {
    return run_program("cd '" + dir_.path().string() + "' && '" TROUPE_COMMAND "' " + words + " 2>&1");
  }
  std::string refusal(const std::string& words) const {
    const auto finished = run(words);
    EXPECT_EQ(finished.status, 2) << words << "\n" << finished.output;
    return finished.output;
  }
  nlohmann::json json(const std::string& words) const {
    const auto finished = run(words);
    EXPECT_EQ(finished.status, 0) << finished.output;
    return nlohmann::json::parse(finished.output);
  }

  fs::path folder(const std::string& reference) const { return dir_ / "runs" / reference; }

  /// A run that has ended, with its card and metrics.csv.
  RunCard card(const std::string& name, const std::string& version, double started, MetricMap metrics = {}) const {
    RunCard card;
    card.id = std::string(32, '0');
    card.name = name;
    card.version = version;
    card.status = RunStatus::finished;
    card.stage = "fit";
    card.started = card.updated = started;
    card.ended = started + 75;
    card.progress = {.epoch = 3, .batch_idx = 0, .global_step = 120, .total_batches = 120, .log_step = 120};
    card.metrics = std::move(metrics);
    card.environment.host = host_name();
    return card;
  }
  void write(const RunCard& card) const {
    fs::create_directories(folder(card.name + "/" + card.version));
    write_run_card(card, folder(card.name + "/" + card.version));
  }
  void write_curve(const fs::path& run) const {
    CsvSink sink(run);
    for (int step = 0; step < 3; ++step) {
      sink.write(ScalarsRecord{step, step / 2, {{"train_loss", 1.0 / (1 + step)}}});
    }
    sink.write(ScalarsRecord{2, 1, {{"val_loss", std::numeric_limits<double>::quiet_NaN()}, {"val_acc", 0.5}}});
    sink.flush();
  }
  fs::path write_tensors(const std::string& name, double weight, int64_t step = 10) const {
    Checkpoint checkpoint;
    checkpoint.tensors = {{"model.layer.weight", torch::full({2, 3}, weight)},
                          {"model.layer.count", torch::full({}, step, torch::kLong)},
                          {"optimizer.0.layer.weight.exp_avg", torch::ones({2, 3})}};
    checkpoint.metadata = {
        {"run", {{"name", "digits"}}},
        {"progress", {{"epoch", 1}, {"global_step", step}}},
        {"optimizers", {{{"class", "FusedAdam"}, {"groups", {{{"params", {"layer.weight"}}, {"lr", 0.5}}}}}}},
        {"callbacks", {{"ModelCheckpoint", {{"best_model_path", "a.safetensors"}}}}}};
    write_checkpoint(checkpoint, dir_ / name);
    return dir_ / name;
  }

  TempDir dir_;
};

TEST_F(CommandTest, ExplainsItselfAndEachCommand) {
  EXPECT_THAT(run("--help").output, AllOf(HasSubstr("checkpoint verify"), HasSubstr("usage: troupe COMMAND")));
  EXPECT_THAT(run("--version").output, StartsWith("troupe 0."));
  for (const char* command : {"runs", "checkpoint diff"}) {
    const auto help = run(std::string(command) + " --help");
    EXPECT_EQ(help.status, 0);
    EXPECT_THAT(help.output, AllOf(StartsWith(std::string("usage: troupe ") + command), HasSubstr("examples:")));
  }
}

TEST_F(CommandTest, NamesTheNearestOfWhatItDoesNotKnow) {
  EXPECT_THAT(refusal("rusn"), HasSubstr("unknown command 'rusn'; did you mean runs?"));
  EXPECT_THAT(refusal("checkpoint dif a b"), HasSubstr("did you mean checkpoint diff?"));
  EXPECT_THAT(refusal("runs --limt 3"), HasSubstr("unknown option --limt; did you mean --limit?"));
  EXPECT_THAT(refusal("runs --limit"), HasSubstr("option --limit needs a value"));
  EXPECT_THAT(refusal("runs --limit x"), HasSubstr("limit = x is not a whole number"));
  EXPECT_THAT(refusal("runs a b"), HasSubstr("takes [DIR], and got 2 arguments"));
  EXPECT_THAT(refusal(""), HasSubstr("no command"));
  EXPECT_THAT(refusal("completion tcsh"), HasSubstr("no completion for the shell 'tcsh'"));
}

TEST_F(CommandTest, MakesAProjectWhoseNamesAreFilledIn) {
  const auto made = run("new my_net");
  EXPECT_EQ(made.status, 0);
  // A program in a build folder knows of no installation.
  EXPECT_THAT(made.output, AllOf(StartsWith("made my_net;"), HasSubstr("-DCMAKE_PREFIX_PATH=\"PREFIX OF TROUPE\""),
                                 HasSubstr("build/my_net fit --config config.toml")));
  EXPECT_THAT(content_of(dir_ / "my_net/main.cpp"), HasSubstr("troupe::main<MyNet, MyNetData>(argc, argv)"));
  EXPECT_THAT(
      content_of(dir_ / "my_net/CMakeLists.txt"),
      AllOf(HasSubstr("add_executable(my_net main.cpp)"), ContainsRegex("find_package\\(troupe [0-9]+\\.[0-9]+ REQ")));
  EXPECT_THAT(content_of(dir_ / "my_net/README.md"), HasSubstr("runs/my_net/version_N"));
  EXPECT_THAT(content_of(dir_ / "my_net/data/test.csv"), StartsWith("x,y,arm\n"));
  for (const auto& entry : fs::recursive_directory_iterator(dir_ / "my_net")) {
    if (!entry.is_regular_file()) continue;
    EXPECT_THAT(content_of(entry.path()), Not(HasSubstr("@"))) << entry.path();
  }
}

TEST_F(CommandTest, RefusesAProjectThatCannotBe) {
  EXPECT_THAT(refusal("new"), HasSubstr("takes NAME, and got nothing"));
  EXPECT_THAT(refusal("new my-net"), HasSubstr("the name 'my-net' cannot be a program and a class: letters, digits"));
  const std::vector<std::pair<std::string, std::string>> nearest{{"my-net", "my_net"},
                                                                 {"3d", "my_3d"},
                                                                 {"class", "my_class"},
                                                                 {"torch", "my_torch"},
                                                                 {"options", "my_options"},
                                                                 {"a__b", "a_b"},
                                                                 {"_net", "net"},
                                                                 {"über", "ber"},
                                                                 {"'my net '", "my_net"},
                                                                 {"/tmp/net", "net"},
                                                                 {"''", "my_project"},
                                                                 {"..", "my_project"},
                                                                 {std::string(70, 'a'), std::string(60, 'a')}};
  for (const auto& [name, instead] : nearest) {
    EXPECT_THAT(refusal("new " + name), HasSubstr("; did you mean " + instead + "?"));
  }
  EXPECT_TRUE(fs::is_empty(dir_.path())) << "nothing was written";

  fs::create_directories(dir_ / "net");
  fs::create_directories(dir_ / "net_2");
  EXPECT_THAT(refusal("new net"), HasSubstr("there is a folder 'net' already, and nothing was written; net_3 is free"));
  EXPECT_TRUE(fs::is_empty(dir_ / "net"));
  put(dir_ / "file", "in the way");
  EXPECT_THAT(refusal("new file"), HasSubstr("there is a file 'file' already, and nothing was written"));
}

TEST_F(CommandTest, ListsRunsTheNewestFirst) {
  write(card("digits", "version_0", 1000));
  write(card("digits", "version_1", 3000));
  write(card("words", "version_0", 2000));
  const auto listed = json("runs --json");
  ASSERT_EQ(listed.size(), 3U);
  EXPECT_EQ(listed[0]["run"], "runs/digits/version_1");
  EXPECT_EQ(listed[1]["name"], "words");
  EXPECT_EQ(listed[2]["seconds"], 75);
  EXPECT_EQ(listed[2]["step"], 120);
  EXPECT_EQ(json("runs --json --limit 1").size(), 1U);
  EXPECT_EQ(json("runs --json --name words").size(), 1U);
  EXPECT_EQ(json("runs runs/digits --json").size(), 2U);
  EXPECT_THAT(refusal("runs --name word"), HasSubstr("did you mean words?"));
  EXPECT_THAT(refusal("runs nowhere"), HasSubstr("there is no folder 'nowhere'"));
}

TEST_F(CommandTest, SaysHowLongARunStillTakes) {
  auto running = card("digits", "version_0", unix_seconds());
  running.status = RunStatus::running;
  running.ended.reset();
  running.environment.pid = getpid();
  running.seconds_left = 7300;
  write(running);
  EXPECT_THAT(run("runs").output, ContainsRegex("running.* 2:01:[0-9][0-9] left"));
  const auto left = json("runs --json")[0]["seconds_left"].get<double>();
  EXPECT_GT(left, 7200);
  EXPECT_LE(left, 7300);
}

TEST_F(CommandTest, SortsRunsByAMetric) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  write(card("a", "version_0", 1, {{"val_loss", 0.5}}));
  write(card("b", "version_0", 2, {{"val_loss", 0.25}, {"val_acc", 0.75}}));
  write(card("c", "version_0", 3, {{"val_loss", nan}}));
  write(card("d", "version_0", 4));
  const auto names = [&](const std::string& words) {
    std::string out;
    for (const auto& run : json(words)) out += run["name"].get<std::string>();
    return out;
  };
  EXPECT_EQ(names("runs --json --sort val_loss"), "bacd");
  EXPECT_EQ(names("runs --json --sort -val_loss"), "abcd");
  EXPECT_EQ(names("runs --json --sort val_loss --descending"), "abcd");
  EXPECT_EQ(names("runs --json --sort run"), "abcd");
  EXPECT_EQ(names("runs --json --sort -run"), "dcba");
  EXPECT_EQ(names("runs --json --sort started"), "abcd");
  EXPECT_EQ(names("runs --json --sort -started"), "dcba");
  EXPECT_EQ(run("runs --columns").output, "val_acc\nval_loss\nrun\nstatus\nstarted\ntook\nepoch\nstep\n");
  EXPECT_THAT(run("runs --sort val_loss --metrics val_acc").output, AllOf(HasSubstr("val_loss"), HasSubstr("0.75")));
  EXPECT_THAT(refusal("runs --sort val_los"),
              HasSubstr("no metric 'val_los' in any of these runs; did you mean val_loss?"));
}

TEST_F(CommandTest, SaysWhatBecameOfEachRun) {
  auto failed = card("failed", "version_0", 5);
  failed.status = RunStatus::failed;
  failed.message = "the loss is nan\nin training_step";
  write(failed);
  auto lost = card("lost", "version_0", 4);
  lost.status = RunStatus::running;
  lost.ended = std::nullopt;
  lost.owner.pid = 2147483646;
  write(lost);
  fs::create_directories(folder("half/version_0/checkpoints"));
  fs::create_directories(folder("hostile/version_0"));
  put(folder("hostile/version_0") / "run.json", std::string(1000, '['));
  const auto listed = run("runs").output;
  EXPECT_THAT(listed, HasSubstr("the loss is nan in training_step\n"));
  EXPECT_THAT(listed, HasSubstr("lost/version_0     lost"));
  EXPECT_THAT(listed, HasSubstr("it has no run.json"));
  EXPECT_THAT(listed, HasSubstr("nested more than 100 deep"));
  const auto named = json("runs --json --status failed");
  ASSERT_EQ(named.size(), 2U);
  EXPECT_EQ(named[0]["message"], "the loss is nan in training_step");
  EXPECT_EQ(json("runs --json --status damaged")[0]["name"], "hostile");
  EXPECT_THAT(refusal("runs --status fialed"), HasSubstr("failed"));
}

TEST_F(CommandTest, TakesARunByItsNameBelowRuns) {
  write(card("digits", "version_2", 9));
  write(card("digits", "version_10", 10));
  write(card("words", "version_0", 20));
  for (const char* run : {"digits/version_2", "digits/version_10", "words/version_0"}) write_curve(folder(run));
  put(folder("digits/version_10") / "metrics.csv", "epoch,step,newest\n0,1,2\n");
  put(folder("words/version_0") / "metrics.csv", "epoch,step,of_all\n0,1,2\n");
  EXPECT_EQ(run("query digits").output, "newest\n");
  EXPECT_EQ(run("query last").output, "of_all\n");
  EXPECT_EQ(run("query runs/digits/version_2").output, "train_loss\nval_acc\nval_loss\n");
  EXPECT_THAT(refusal("query digts"), HasSubstr("there is no run 'digts'; did you mean digits?"));
}

TEST_F(CommandTest, PrintsEveryPointOfAMetric) {
  write(card("digits", "version_0", 9));
  write_curve(folder("digits/version_0"));
  EXPECT_EQ(run("query digits train_loss --csv").output,
            "metric,step,epoch,value\ntrain_loss,0,0,1.0\ntrain_loss,1,0,0.5\ntrain_loss,2,1,0.3333333333333333\n");
  EXPECT_EQ(json("query digits train_loss --min --json"),
            nlohmann::json::parse(R"([{"metric": "train_loss", "step": 2, "epoch": 1, "value": 0.3333333333333333}])"));
  EXPECT_EQ(json("query digits train_loss --max --json")[0]["step"], 0);
  EXPECT_EQ(json("query digits val_loss val_acc --last --json")[0]["value"], "NaN");
  EXPECT_THAT(refusal("query digits vall_oss"), HasSubstr("did you mean val_loss? (train_loss, val_acc, val_loss)"));
  EXPECT_THAT(refusal("query digits val_acc --csv --json"), HasSubstr("exclude each other"));
}

TEST_F(CommandTest, PassesOverOtherRecordsOfJsonLines) {
  fs::create_directories(folder("digits/version_0"));
  put(folder("digits/version_0") / "metrics.jsonl",
      "{\"time\":1,\"hparams\":{\"lr\":1}}\n{\"step\":1,\"epoch\":0,\"time\":2,\"values\":{\"loss\":0.5}}\n"
      "{\"step\":2,\"time\":3,\"ended\":{\"stage\":\"fit\"}}\n");
  EXPECT_EQ(run("query digits loss --csv").output, "metric,step,epoch,value\nloss,1,0,0.5\n");
}

TEST_F(CommandTest, KeepsMoreThanAPageNeeds) {
  fs::create_directories(folder("long/version_0"));
  std::string text = "epoch,step,loss\n";
  for (int step = 0; step < 5000; ++step) text += "0," + std::to_string(step) + ",1\n";
  put(folder("long/version_0") / "metrics.csv", text);
  EXPECT_EQ(json("query long loss --json").size(), 5000U);
}

TEST_F(CommandTest, LeavesOutATornLastLine) {
  fs::create_directories(folder("torn/version_0"));
  put(folder("torn/version_0") / "metrics.csv", "epoch,step,loss\n0,1,2\n0,2,");
  const auto finished = run("query torn loss --csv");
  EXPECT_EQ(finished.status, 0);
  EXPECT_THAT(finished.output,
              AllOf(HasSubstr("left out 1 damaged line of"), HasSubstr("loss,1,0,2.0"), Not(HasSubstr("loss,2"))));
}

TEST_F(CommandTest, WritesThePageOfARunAndOfSeveral) {
  for (const char* version : {"version_0", "version_1"}) {
    write(card("digits", version, 9));
    write_curve(folder(std::string("digits/") + version));
  }
  EXPECT_EQ(run("report digits").output, "runs/digits/version_1/report.html\n");
  EXPECT_THAT(content_of(folder("digits/version_1") / "report.html"), HasSubstr("<html"));
  EXPECT_EQ(run("report digits/version_0 digits/version_1").output, "report.html\n");
  EXPECT_EQ(run("report digits -o both.html").output, "both.html\n");
  EXPECT_TRUE(fs::exists(dir_ / "both.html"));
  fs::create_directories(folder("half/version_0"));
  EXPECT_THAT(refusal("report half"), HasSubstr("run.json"));
}

TEST_F(CommandTest, LeavesARunThatIsDamagedOutOfThePage) {
  for (const char* version : {"version_0", "version_1", "version_2"}) write(card("digits", version, 9));
  put(folder("digits/version_1") / "run.json", "{\"format\": 1,");
  const auto finished = run("report digits/version_0 digits/version_1 digits/version_2");
  EXPECT_EQ(finished.status, 0);
  const std::string why = "runs/digits/version_1/run.json: it is not JSON: it ends in the middle\n";
  EXPECT_EQ(finished.output, "troupe: runs/digits/version_1 is left out: " + why + "report.html\n");
  EXPECT_THAT(content_of(dir_ / "report.html"), AllOf(HasSubstr("version_2"), Not(HasSubstr("version_1"))));
  EXPECT_THAT(run("runs --status damaged").output, HasSubstr(why));
  EXPECT_THAT(refusal("report digits/version_1 digits/version_1"), HasSubstr("none of the runs can be read"));
  EXPECT_EQ(refusal("report digits/version_1"), "troupe: " + why);
}

TEST_F(CommandTest, PutsTheFilesOfALostRunRight) {
  auto lost = card("digits", "version_0", 4);
  lost.status = RunStatus::running;
  lost.ended = std::nullopt;
  lost.owner.pid = 2147483646;
  for (const char* look : {"runs", "query digits", "sync digits", "query last"}) {
    write(lost);
    write_curve(folder("digits/version_0"));
    (void)run(look);
    EXPECT_EQ(stored_run_card(folder("digits/version_0")).status, RunStatus::failed) << look;
  }
  auto elsewhere = lost;
  elsewhere.environment.host = "another";
  write(elsewhere);
  EXPECT_THAT(run("runs").output, HasSubstr("nothing written for"));
}

TEST_F(CommandTest, SyncSaysWhatItCannotDo) {
  write(card("digits", "version_0", 4));
  const auto finished = run("sync digits");
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(finished.output, HasSubstr("has no mlflow.json"));
  EXPECT_THAT(refusal("sync digits --timeout 0"), HasSubstr("--timeout 0"));
  EXPECT_THAT(refusal("sync digits --uri ftp://x"), HasSubstr("--uri = 'ftp://x' is not the address of a server"));
  EXPECT_THAT(refusal("sync digits --run-id a/b"), HasSubstr("--run-id 'a/b'"));
}

TEST_F(CommandTest, ShowsWhatACheckpointHolds) {
  write_tensors("a.safetensors", 0.5);
  const auto shown = run("checkpoint show a.safetensors").output;
  EXPECT_THAT(shown, AllOf(HasSubstr("checkpoint, version 1"), HasSubstr(R"("global_step":10)"), HasSubstr("FusedAdam"),
                           HasSubstr("ModelCheckpoint"), HasSubstr("[2, 3]"), HasSubstr("optimizer.0")));
  const auto as_json = json("checkpoint show a.safetensors --json");
  EXPECT_EQ(as_json["format_version"], 1);
  EXPECT_EQ(as_json["tensors"][0]["shape"], nlohmann::json::parse("[2, 3]"));
  EXPECT_EQ(as_json["groups"]["optimizer.0"]["bytes"], 24);
  EXPECT_EQ(as_json["metadata"]["callbacks"]["ModelCheckpoint"]["best_model_path"], "a.safetensors");
  EXPECT_THAT(refusal("checkpoint show none.safetensors"), HasSubstr("none.safetensors"));
}

TEST_F(CommandTest, ShowsWeightsOfOtherPrograms) {
  const auto weight = torch::full({2, 3}, 0.5);
  const auto weights = PthValue::state_dict_of(NamedTensors{{"layer.weight", weight}, {"tied.weight", weight}});
  const auto state = PthValue::dictionary_of({{"exp_avg", torch::ones({4})}, {"step", 7}});
  write_pth(PthValue::dictionary_of({{"epoch", 3},
                                     {"loss", std::numeric_limits<double>::quiet_NaN()},
                                     {"state_dict", weights},
                                     {"optimizer_states", PthValue::list_of({PthValue::dictionary_of({{0, state}})})},
                                     {"long", PthValue::list_of(std::vector<PthValue>(1000, "x"))}}),
            dir_ / "a.ckpt");
  EXPECT_THAT(run("checkpoint show a.ckpt").output,
              AllOf(ContainsRegex("format +torch.save"), ContainsRegex("epoch +3\n"), ContainsRegex("loss +NaN\n"),
                    ContainsRegex(R"(optimizer_states +\[\{"0":\{"exp_avg":"F32 \[4\]","step":7\}\}\])"),
                    ContainsRegex("long +a list of 1000\n"), ContainsRegex("weights +2 +6 +24 B"),
                    ContainsRegex("optimizer_states +1 +4 +16 B"), ContainsRegex("state_dict.tied.weight .*tied")));
  const auto as_json = json("checkpoint show a.ckpt --json");
  EXPECT_EQ(as_json["format_version"], nullptr);
  EXPECT_EQ(as_json["metadata"]["epoch"], 3);
  EXPECT_FALSE(as_json["metadata"].contains("state_dict"));
  EXPECT_EQ(as_json["tensors"][1]["tied_to"], "state_dict.layer.weight");
  // Several sets of weights, and none that says which is meant.
  write_pth(PthValue::dictionary_of({{"model", weights}, {"ema", weights}}), dir_ / "two.pth");
  EXPECT_THAT(run("checkpoint show two.pth").output, AllOf(ContainsRegex("ema +2"), ContainsRegex("model +2")));
  write_sharded_safetensors(NamedTensors{{"a", torch::ones({5})}, {"b", torch::ones({5})}}, dir_ / "shards",
                            {.max_shard_bytes = 20});
  const auto shards = json("checkpoint show shards --json");
  EXPECT_EQ(shards["tensors"][1]["file"], "model-00002-of-00002.safetensors");
  EXPECT_THAT(run("checkpoint show shards").output, HasSubstr("safetensors in 2 files"));
  put(dir_ / "old.pth", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.");
  EXPECT_THAT(refusal("checkpoint show old.pth"), HasSubstr("torch.save(torch.load(old, weights_only=True"));
}

TEST_F(CommandTest, VerifiesAndComparesWeightsOfOtherPrograms) {
  write_tensors("a.safetensors", 0.5);
  for (const char* target : {"a.pth", "plain.safetensors", "shards --shard-size 10"}) {
    EXPECT_EQ(run(std::string("checkpoint convert a.safetensors -o ") + target).status, 0);
  }
  for (const char* two : {"a.safetensors a.pth", "shards a.safetensors", "a.pth shards/model.safetensors.index.json"}) {
    const auto same = run(std::string("checkpoint diff --weights ") + two);
    EXPECT_EQ(same.status, 0) << two << "\n" << same.output;
  }
  EXPECT_EQ(run("checkpoint diff a.pth plain.safetensors").output, "");
  EXPECT_THAT(run("checkpoint diff a.safetensors a.pth").output,
              AllOf(HasSubstr("only in a.safetensors\n  optimizer.0.layer.weight.exp_avg"), Not(HasSubstr("other"))));
  write_pth(NamedTensors{{"layer.weight", torch::full({3, 2}, 0.75).t()}, {"layer.count", torch::tensor(10)}},
            dir_ / "b.pth");
  EXPECT_THAT(run("checkpoint diff a.safetensors b.pth --weights").output,
              AllOf(HasSubstr("model.layer.weight"), HasSubstr("0.5 | 0.75"), HasSubstr("6 of 6")));
  EXPECT_THAT(
      run("checkpoint verify a.pth shards").output,
      AllOf(HasSubstr("a.pth: good: 2 tensors, all checksums hold"), HasSubstr("shards: good: 2 tensors; it is")));
  auto bytes = content_of(dir_ / "a.pth");
  bytes[bytes.find(std::string("\0\0\0\x3f", 4))] ^= 1;  // 0.5, of layer.weight
  put(dir_ / "damaged.pth", bytes);
  const auto damaged = run("checkpoint verify damaged.pth");
  EXPECT_EQ(damaged.status, 1);
  EXPECT_THAT(damaged.output, ContainsRegex("damaged.pth: bad: member '.*data/[01]' is damaged: its checksum differs"));
  NamedTensors every;
  for (const auto& type : torch_types()) {
    const auto bytes_of_ten = torch::ones(static_cast<int64_t>(10 * c10::elementSize(type.dtype)), torch::kByte);
    if (type.is_saved) every.emplace_back(std::string(type.name), bytes_of_ten.view(type.dtype));
  }
  write_pth(every, dir_ / "every.pth");
  EXPECT_THAT(run("checkpoint verify every.pth").output, HasSubstr("every.pth: good: 27 tensors"));
  for (auto& [name, tensor] : every) tensor = tensor.view(torch::kByte).clone().fill_(0).view(tensor.scalar_type());
  write_pth(every, dir_ / "zeros.pth");
  EXPECT_EQ(nlohmann::json::parse(run("checkpoint diff every.pth zeros.pth --json").output)["values"].size(), 27U);
}

TEST_F(CommandTest, VerifyNamesTheTensorThatIsDamaged) {
  const auto path = write_tensors("a.safetensors", 0.5);
  EXPECT_THAT(run("checkpoint verify a.safetensors").output, HasSubstr("a.safetensors: good: 3 tensors"));
  auto bytes = content_of(path);
  bytes[bytes.size() - 1] ^= 1;  // of the last tensor
  put(path, bytes);
  write_tensors("b.safetensors", std::numeric_limits<double>::infinity());
  put(dir_ / "c.safetensors", bytes.substr(0, bytes.size() - 5));
  write_tensors("d.safetensors", 1);
  const auto finished = run("checkpoint verify a.safetensors b.safetensors c.safetensors d.safetensors");
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(finished.output, HasSubstr("tensor 'optimizer.0.layer.weight.exp_avg' (bytes"));
  EXPECT_THAT(finished.output,
              HasSubstr("tensor 'model.layer.weight' has 6 values that are not finite, the first at [0, 0]"));
  EXPECT_THAT(finished.output, HasSubstr("c.safetensors: bad: cannot read"));
  EXPECT_THAT(finished.output, HasSubstr("the file is truncated"));
  EXPECT_THAT(finished.output, HasSubstr("d.safetensors: good"));
}

TEST_F(CommandTest, DiffSaysHowTwoCheckpointsDiffer) {
  write_tensors("a.safetensors", 0.5);
  write_tensors("b.safetensors", 0.75, 11);
  write_tensors("c.safetensors", 0.5);
  EXPECT_EQ(run("checkpoint diff a.safetensors c.safetensors").status, 0);
  const auto finished = run("checkpoint diff a.safetensors b.safetensors");
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(finished.output, AllOf(HasSubstr("6 of 6"), HasSubstr("0.25"), HasSubstr("[0, 0]"),
                                     HasSubstr("0.5 | 0.75"), HasSubstr("progress/global_step: 10 | 11")));
  const auto weights = run("checkpoint diff a.safetensors b.safetensors --weights --json");
  EXPECT_EQ(nlohmann::json::parse(weights.output)["metadata"].size(), 0U);
  Checkpoint other;
  other.tensors = {{"model.layer.weight", torch::ones({3, 2})}, {"model.layer.bias", torch::ones({2})}};
  write_checkpoint(other, dir_ / "d.safetensors");
  const auto shapes = run("checkpoint diff a.safetensors d.safetensors").output;
  EXPECT_THAT(shapes,
              AllOf(HasSubstr("F32 [2, 3] | F32 [3, 2]"), HasSubstr("only in d.safetensors\n  model.layer.bias")));
}

TEST_F(CommandTest, MergeAveragesWeights) {
  write_tensors("a.safetensors", 1, 10);
  write_tensors("b.safetensors", 2, 20);
  EXPECT_EQ(run("checkpoint merge a.safetensors b.safetensors -o mean.safetensors").output, "mean.safetensors\n");
  const auto mean = read_checkpoint(dir_ / "mean.safetensors");
  EXPECT_TRUE(mean.find("model.layer.weight")->equal(torch::full({2, 3}, 1.5)));
  EXPECT_EQ(mean.find("model.layer.count")->item<int64_t>(), 20);
  EXPECT_EQ(mean.metadata["progress"]["global_step"], 20);
  EXPECT_EQ(mean.metadata["merged"][0]["weight"], 0.5);
  EXPECT_EQ(run("checkpoint merge a.safetensors b.safetensors --weights 1,3 -o parts.safetensors").status, 0);
  EXPECT_TRUE(read_checkpoint(dir_ / "parts.safetensors").find("model.layer.weight")->equal(torch::full({2, 3}, 1.75)));
}

TEST_F(CommandTest, MergeAveragesWeightsOfOtherPrograms) {
  const auto write = [&](const char* name, double value) {
    const auto weight = torch::full({2, 3}, value);
    write_pth(NamedTensors{{"embedding", weight}, {"head", weight}, {"count", torch::tensor(value).to(torch::kLong)}},
              dir_ / name);
  };
  write("a.pth", 1);
  write("b.pth", 2);
  EXPECT_EQ(run("checkpoint convert b.pth -o b.safetensors").status, 0);
  for (const auto& [sources, target] :
       {std::pair("a.pth b.pth", "mean.pth"), std::pair("a.pth b.safetensors", "mean.safetensors")}) {
    EXPECT_EQ(run(std::string("checkpoint merge ") + sources + " -o " + target).output, target + std::string("\n"));
    std::map<std::string, torch::Tensor> mean;
    for (const auto& [name, tensor] : read_any_weights(dir_ / target).tensors) mean[name] = tensor;
    ASSERT_EQ(mean.size(), 3U) << sources;
    EXPECT_TRUE(mean["embedding"].equal(torch::full({2, 3}, 1.5)));
    EXPECT_TRUE(mean["head"].is_alias_of(mean["embedding"])) << sources;
    EXPECT_EQ(mean["count"].item<int64_t>(), 2);
  }
  write_tensors("own.safetensors", 1);
  EXPECT_THAT(refusal("checkpoint merge own.safetensors a.pth -o c.pth"),
              HasSubstr("troupe checkpoint convert makes weights alone"));
  EXPECT_THAT(refusal("checkpoint merge own.safetensors -o c.pth"), HasSubstr("name a *.safetensors"));
  const auto weights = PthValue::state_dict_of(NamedTensors{{"w", torch::ones({2})}});
  write_pth(PthValue::dictionary_of({{"model", weights}, {"ema", weights}}), dir_ / "two.pth");
  EXPECT_THAT(refusal("checkpoint merge two.pth -o c.pth"), HasSubstr("two.pth has several sets of weights"));
  EXPECT_FALSE(fs::exists(dir_ / "c.pth"));
}

TEST_F(CommandTest, MergeRefusesWhatDoesNotFit) {
  write_tensors("a.safetensors", 1);
  Checkpoint other;
  for (int i = 0; i < 15; ++i) other.tensors.emplace_back("model." + std::to_string(i), torch::ones({2}));
  write_checkpoint(other, dir_ / "b.safetensors");
  const auto said = refusal("checkpoint merge a.safetensors b.safetensors -o c.safetensors");
  EXPECT_THAT(said, AllOf(HasSubstr("'model.9' is missing in a.safetensors"), HasSubstr("and 7 more"),
                          Not(HasSubstr("model.11"))));
  EXPECT_FALSE(fs::exists(dir_ / "c.safetensors"));
  EXPECT_THAT(refusal("checkpoint merge a.safetensors"), HasSubstr("-o OUT"));
  EXPECT_THAT(refusal("checkpoint merge a.safetensors -o ."),
              HasSubstr("'.' is a folder; name a file: -o ./merged.safetensors"));
  EXPECT_THAT(refusal("checkpoint merge a.safetensors -o ./a.safetensors"),
              HasSubstr("is to be merged and to be written"));
  EXPECT_THAT(refusal("checkpoint merge a.safetensors -o c.safetensors --weights 1,2"),
              HasSubstr("2 numbers for 1 files"));
  EXPECT_THAT(refusal("checkpoint merge a.safetensors -o c.safetensors --weights=-1"), HasSubstr("at least 0"));
}

TEST_F(CommandTest, ConvertWritesWeightsInAnotherForm) {
  write_tensors("a.safetensors", 0.5);
  EXPECT_EQ(run("checkpoint convert a.safetensors -o plain.safetensors").output, "plain.safetensors\n");
  const auto plain = read_any_weights(dir_ / "plain.safetensors").tensors;
  ASSERT_EQ(plain.size(), 2U);
  EXPECT_EQ(plain[0].first, "layer.weight");
  EXPECT_EQ(run("checkpoint convert plain.safetensors -o shards/ --shard-size 10 --dtype bf16").output,
            "shards/model-00001-of-00002.safetensors\nshards/model-00002-of-00002.safetensors\n"
            "shards/model.safetensors.index.json\n");
  EXPECT_EQ(run("checkpoint convert shards -o own.safetensors --checkpoint --dtype fp32").output, "own.safetensors\n");
  const auto own = read_checkpoint(dir_ / "own.safetensors");
  EXPECT_TRUE(own.find("model.layer.weight")->equal(torch::full({2, 3}, 0.5)));
  EXPECT_EQ(own.find("model.layer.count")->item<int64_t>(), 10);
}

TEST_F(CommandTest, ConvertWritesAndReadsFilesOfPyTorch) {
  write_tensors("a.safetensors", 0.5);
  EXPECT_EQ(run("checkpoint convert a.safetensors -o a.pth --dtype fp64").output, "a.pth\n");
  EXPECT_EQ(run("checkpoint convert a.pth -o back.safetensors --checkpoint --dtype fp32").output, "back.safetensors\n");
  const auto back = read_checkpoint(dir_ / "back.safetensors");
  EXPECT_EQ(back.tensors.size(), 2U);
  EXPECT_TRUE(back.find("model.layer.weight")->equal(torch::full({2, 3}, 0.5)));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o a.pth"), HasSubstr("'a.pth' is there already"));
  EXPECT_THAT(refusal("checkpoint convert a.pth -o ./a.pth --force"), HasSubstr("is to be read and to be written"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c.pth --checkpoint"), HasSubstr("leave --checkpoint out"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c.pth --shard-size 5GB"), HasSubstr("name a folder"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c.ckpt"), HasSubstr("name a *.pth"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c.gguf"), HasSubstr("*.safetensors, *.pth or a folder"));
}

TEST_F(CommandTest, ConvertTakesOneOfSeveralSetsOfWeights) {
  const auto set = [](double value) { return PthValue::state_dict_of(NamedTensors{{"w", torch::full({2}, value)}}); };
  write_pth(PthValue::dictionary_of(
                {{"model", set(1)}, {"ema", PthValue::dictionary_of({{"model", set(2)}})}, {"teacher", set(3)}}),
            dir_ / "two.pth");
  EXPECT_THAT(refusal("checkpoint convert two.pth -o c.safetensors"),
              HasSubstr("it has tensors in model, teacher; say which dictionary holds the weights (key = \"model\")"));
  EXPECT_EQ(run("checkpoint convert two.pth -o c.safetensors --key ema.model").status, 0);
  EXPECT_TRUE(read_any_weights(dir_ / "c.safetensors").tensors.at(0).second.equal(torch::full({2}, 2.)));
  EXPECT_THAT(refusal("checkpoint convert two.pth -o d.safetensors --key mdel"), HasSubstr("did you mean 'model'?"));
}

TEST_F(CommandTest, ConvertRefusesWhatItCannotDoAndReplacesNothing) {
  write_tensors("a.safetensors", 0.5);
  put(dir_ / "b.safetensors", "mine");
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o b.safetensors"),
              HasSubstr("'./b.safetensors' is there already; overwrite (--force) replaces it"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o b.safetensors --checkpoint"), HasSubstr("is there already"));
  EXPECT_EQ(content_of(dir_ / "b.safetensors"), "mine");
  EXPECT_EQ(run("checkpoint convert a.safetensors -o b.safetensors --force").status, 0);
  EXPECT_THAT(refusal("checkpoint convert a.safetensors"), HasSubstr("-o TARGET"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o ./a.safetensors --force"),
              HasSubstr("is to be read and to be written"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c --shard-size 5XB"), HasSubstr("--shard-size is '5XB'"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c --shard-size 0"), HasSubstr("--shard-size is '0'"));
  EXPECT_THAT(
      refusal("checkpoint convert a.safetensors -o c.safetensor"),
      HasSubstr("'c.safetensor' would be a folder; did you mean *.safetensors? A slash at the end makes it one"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c.pht"), HasSubstr("did you mean *.pth?"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c --dtype bf61"), HasSubstr("bf16"));
  EXPECT_THAT(refusal("checkpoint convert a.safetensors -o c --checkpoint --shard-size 5GB"),
              HasSubstr("exclude each other"));
  EXPECT_THAT(refusal("checkpoint convert none -o c"), HasSubstr("none"));
  EXPECT_FALSE(fs::exists(dir_ / "c"));
}

TEST_F(CommandTest, EndsWellIfNobodyReadsOn) {
  for (int i = 0; i < 50; ++i) {
    auto long_card = card("digits", "version_" + std::to_string(i), i);
    long_card.message = std::string(4000, 'x');  // together more than a pipe holds
    write(long_card);
  }
  const auto finished =
      run_program("cd '" + dir_.path().string() +
                  "' && bash -c \"set -o pipefail; '" TROUPE_COMMAND "' runs --json | head -c 1 >/dev/null\"");
  EXPECT_EQ(finished.status, 0);
}

TEST_F(CommandTest, FitsTheTerminalAndObeysNoColor) {
  auto failed = card("digits", "version_0", 5);
  failed.status = RunStatus::failed;
  failed.message = std::string(300, 'x');
  write(failed);
  const auto on_terminal = [&](const std::string& before) {
    return run_program("cd '" + dir_.path().string() + "' && " + before +
                       " script -qec \"stty cols 70; '" TROUPE_COMMAND "' runs\" /dev/null");
  };
  const auto plain = on_terminal("NO_COLOR=1 TERM=xterm").output;
  EXPECT_THAT(plain, AllOf(HasSubstr("digits/version_0"), HasSubstr("…"), Not(HasSubstr("\x1b["))));
  EXPECT_THAT(plain, Not(HasSubstr(std::string(71, 'x'))));
  EXPECT_THAT(on_terminal("NO_COLOR= TERM=xterm").output, HasSubstr("\x1b[31mfailed"));
}

/// What bash offers behind each of `lines` of words, in `folder`; a line each.
std::string completed_in_bash(const fs::path& folder, const std::string& program,
                              const std::vector<std::string>& lines) {
  std::string script = "eval \"$('" + program + "' completion bash)\"\n";
  for (const auto& line : lines) {
    script += "COMP_WORDS=('" + program + "' " + line + ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_troupe_" +
              fs::path(program).filename().string() + "\necho \"${COMPREPLY[*]}\"\n";
  }
  put(folder / "complete.sh", script);
  return run_program("cd '" + folder.string() + "' && bash complete.sh 2>&1").output;
}

TEST_F(CommandTest, CompletesItsWordsInBash) {
  write(card("digits", "version_0", 1, {{"val_loss", 1}, {"tail", 2}}));
  for (const char* name : {"another.pth", "an.safetensors", "an.txt"}) put(dir_ / name, "");
  put(folder("digits/version_0") / "metrics.csv", "epoch,step,val_loss,$(touch hacked)\n0,1,2,3\n");
  EXPECT_EQ(
      completed_in_bash(
          dir_.path(), TROUPE_COMMAND,
          {"re", "checkpoint ''", "runs --des", "runs --status fi", "runs --status = fi", "report dig",
           "query digits v", "query digits '$'", "runs --sort v", "runs --sort -v", "runs --metrics val_loss,ta",
           "runs runs/digits --limit 3 --sort st", "checkpoint show an", "checkpoint convert anoth"}),
      "report\nshow diff verify merge convert\n--descending\nfinished\nfinished\ndigits digits/version_0\nval_loss\n"
      "\\$\\(touch\\ hacked\\)\nval_loss\n-val_loss\nval_loss,tail\nstatus started step\n"
      "an.safetensors another.pth\nanother.pth\n");
  EXPECT_FALSE(fs::exists(dir_ / "hacked"));
}

TEST_F(CommandTest, ProgramsOfTheLibraryCompleteTheirOptionsInBash) {
  EXPECT_EQ(
      completed_in_bash(dir_.path(), example("digits"),
                        {"v", "fit --trainer.max_ep", "fit --trainer.nonfinite st", "fit --trainer.loggers csv,tens",
                         "fit --ckpt_path la", "completion z", "fit --optimizer mu", "fit --callbacks timer,ear",
                         "fit --scheduler.T_m", "fit --scheduler.interval st"}),
      "validate\n--trainer.max_epochs\nstop\ncsv,tensorboard\nlast\nzsh\nmuon\ntimer,early_stopping\n"
      "--scheduler.T_max --scheduler.T_mult\nstep\n");
}

/// Types lines into a zsh on a terminal of its own and prints what it offers behind each, in order, a line each.
/// compadd is what every offer goes through (zshcompwid).
constexpr const char* kTypedIntoZsh = R"sh(zmodload zsh/zpty || exit
cat > session.zsh <<'END'
PROMPT=
autoload -U compinit; compinit -u -D
source <($PROGRAM completion zsh)
compadd () {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
    local -a offered before prefix
    builtin compadd -A offered "$@"
    zparseopts -E P:=before p:=prefix
    for one in $offered; do print -r -- "<$IPREFIX$before[2]$prefix[2]$one>"; done
  fi
  builtin compadd "$@"
}
offer () { print "[be""gin]"; _main_complete; compstate[insert]=; compstate[list]=; print "[en""d]"; }
zle -C offer complete-word offer
bindkey '^I' offer
bindkey '^U' kill-buffer
print "[rea""dy]"
END
zpty session zsh -f -i
zpty -w session 'source session.zsh'
zpty -r -m session shown '*\[ready\]*'
for line in "$@"; do
  zpty -w -n session "$PROGRAM $line"$'\t'
  zpty -r -m session shown '*\[end\]*' || exit
  offers=(${(f)"$(print -r -- "$shown" | tr -d '\r' | sed -n 's/^.*<\(.*\)>$/\1/p' | LC_ALL=C sort -u)"})
  print -r -- $offers
  zpty -w -n session $'\x15'
done
zpty -d session
)sh";

constexpr const char* kAskedOfFish = R"sh($PROGRAM completion fish | source
for line in $argv
  echo (complete -C "$PROGRAM $line" | cut -f 1 | LC_ALL=C sort -u)
end
)sh";

/// What `shell` offers behind each of `lines`, which stand behind the name of `program`, in `folder`; a line each, the
/// offers in alphabetical order.
std::string completed_in(const std::string& shell, const fs::path& folder, const std::string& program,
                         const std::vector<std::string>& lines) {
  put(folder / "complete", shell == "zsh" ? kTypedIntoZsh : kAskedOfFish);
  std::string command = "cd '" + folder.string() + "' && HOME='" + folder.string() + "' PATH='" +
                        fs::path(program).parent_path().string() + "':\"$PATH\" PROGRAM='" +
                        fs::path(program).filename().string() + "' timeout 60 " + shell +
                        (shell == "zsh" ? " -f" : " --no-config") + " complete";
  for (const auto& line : lines) command += " '" + line + "'";
  return run_program(command + " 2>&1").output;
}

/// zsh and fish offer the same, zsh in the form that is inserted.
class OtherShells : public CommandTest, public testing::WithParamInterface<std::string> {
 protected:
  /// fish puts the files of a kind first, and offers the others behind them.
  static std::string other_file(const char* name) { return GetParam() == "fish" ? std::string(" ") + name : ""; }

 private:
  void SetUp() override {
    if (run_program("command -v " + GetParam()).status != 0) GTEST_SKIP() << "no " << GetParam() << " here";
    CommandTest::SetUp();
  }
};
INSTANTIATE_TEST_SUITE_P(Named, OtherShells, testing::Values("zsh", "fish"),
                         [](const auto& shell) { return shell.param; });

TEST_P(OtherShells, CompleteTheWordsOfTheCommand) {
  write(card("digits", "version_0", 1, {{"val_loss", 1}, {"tail", 2}}));
  put(folder("digits/version_0") / "metrics.csv", "epoch,step,val_loss,$(touch hacked)\n0,1,2,3\n");
  put(dir_ / "dig.txt", "");
  put(dir_ / "w.safetensors", "");
  put(dir_ / "w.txt", "");
  EXPECT_EQ(completed_in(GetParam(), dir_.path(), TROUPE_COMMAND,
                         {"re", "checkpoint ", "runs --des", "runs --status fi", "runs --status=fi", "report dig",
                          "query digits v", "query digits ", "runs --sort v", "runs --sort=-v",
                          "runs --metrics val_loss,ta", "runs --metrics=val_loss,ta",
                          "runs runs/digits --limit 3 --sort st", "checkpoint show w", "completion z"}),
            "report\nconvert diff merge show verify\n--descending\nfinished\n--status=finished\n"
            "digits digits/version_0\nval_loss\n" +
                std::string(GetParam() == "zsh" ? "\\$\\(touch\\ hacked\\)" : "$(touch hacked)") +
                " val_loss\nval_loss\n--sort=-val_loss\nval_loss,tail\n--metrics=val_loss,tail\nstarted status step\n"
                "w.safetensors" +
                other_file("w.txt") + "\nzsh\n");
  EXPECT_FALSE(fs::exists(dir_ / "hacked"));
}

TEST_P(OtherShells, CompleteOptionsOfPrograms) {
  put(dir_ / "last.safetensors", "");
  put(dir_ / "last.txt", "");
  put(dir_ / "my.toml", "");
  EXPECT_EQ(completed_in(GetParam(), dir_.path(), example("digits"),
                         {"v", "fit --trainer.max_ep", "fit --trainer.nonfinite st", "fit --trainer.nonfinite=st",
                          "fit --trainer.loggers csv,tens", "fit --ckpt_path la", "fit --config m", "completion z",
                          "fit --optimizer mu", "fit --callbacks timer,ear", "fit --scheduler.T_m",
                          "fit --scheduler.interval st"}),
            "validate\n--trainer.max_epochs\nstop\n--trainer.nonfinite=stop\ncsv,tensorboard\nlast last.safetensors" +
                other_file("last.txt") +
                "\nmy.toml\nzsh\nmuon\ntimer,early_stopping\n--scheduler.T_max --scheduler.T_mult\nstep\n");
}

TEST_F(CommandTest, AttachShowsARunThatGoesOn) {
  TrainerOptions options;
  options.attach = Attach::view;  // the default
  EndlessRun line(dir_ / "runs", options);
  const auto seen = run("attach --once");
  EXPECT_EQ(seen.status, 0);
  EXPECT_THAT(seen.output, AllOf(StartsWith("line/version_0   fit, running for "), HasSubstr("1 rank)"),
                                 HasSubstr("epoch "), ContainsRegex("train_loss_step +[0-9]"), HasSubstr("worker 0")));
  for (const char* reference : {"line", "runs/line/version_0", "last"}) {
    const auto state = json(std::string("attach --once --json ") + reference);
    EXPECT_EQ(state.at("kind"), "state") << reference;
    EXPECT_EQ(state.at("run"), "line/version_0");
    EXPECT_EQ(state.at("pid"), getpid());
  }
  EXPECT_THAT(refusal("attach --control"), HasSubstr("it was started with trainer.attach = view"));

  // Two at once, in their lines, to the end of the run; one that leaves before the end is no matter.
  const auto first_line = "attached to line/version_0: fit, pid " + std::to_string(getpid()) + "\n";
  EXPECT_EQ(run("attach line | head -n 1").output, first_line);
  const auto viewer = "cd '" + dir_.path().string() + "' && '" TROUPE_COMMAND "' attach line 2>&1";
  std::vector<FILE*> viewers;
  std::array<char, 4096> text{};
  for (int i = 0; i < 2; ++i) {
    viewers.push_back(popen(viewer.c_str(), "r"));
    ASSERT_TRUE(fgets(text.data(), text.size(), viewers.back()));
    EXPECT_EQ(text.data(), first_line);
  }
  const auto on_terminal = "cd '" + dir_.path().string() +
                           "' && TERM=xterm script -qec \"stty cols 90 rows 30; '" TROUPE_COMMAND
                           "' attach line\" /dev/null < /dev/null";
  FILE* view = popen(on_terminal.c_str(), "r");
  ASSERT_TRUE(fgets(text.data(), text.size(), view));
  EXPECT_THAT(text.data(), AllOf(StartsWith("\x1b[?1049h"), HasSubstr("line/version_0   fit")));
  line.trainer().request_stop("the test has seen enough");
  for (FILE* each : viewers) {
    std::string rest;
    while (fgets(text.data(), text.size(), each)) rest += text.data();
    EXPECT_EQ(pclose(each), 0);
    EXPECT_THAT(rest, HasSubstr("steps: the test has seen enough"));
  }
  std::string drawn;
  while (fgets(text.data(), text.size(), view)) drawn += text.data();
  EXPECT_EQ(pclose(view), 0);
  const auto left = drawn.find("\x1b[?1049l");
  ASSERT_NE(left, std::string::npos) << "the terminal is as it was";
  EXPECT_THAT(drawn.substr(left), HasSubstr("line/version_0   fit, finished after "));
  line.ended();
  EXPECT_THAT(refusal("attach line"), HasSubstr("the run line/version_0 is over (finished); troupe report"));
}

TEST_F(CommandTest, AttachControlsARunThatPermitsIt) {
  TrainerOptions options;
  options.attach = Attach::control;
  EndlessRun line(dir_ / "runs", options);
  const auto with = [this](const std::string& commands, const std::string& options) {
    put(dir_ / "commands", commands);
    return run("attach --control " + options + " < commands");
  };
  EXPECT_THAT(with("lr 0.25\n", "--once").output, StartsWith("line/version_0   fit, running"));
  const auto wrong = with("stpo\nlr -1\nlr fast\nlr\ncheckpoint now\n", "--once");
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.output,
              AllOf(HasSubstr("unknown command 'stpo'; did you mean stop? (stop, checkpoint, validate, lr)"),
                    HasSubstr("a learning rate of -1 is negative; use 0 or more"),
                    HasSubstr("a learning rate of 'fast' is no number"), HasSubstr("lr needs a rate, such as lr 0.001"),
                    HasSubstr("checkpoint takes nothing, and got 'now'")));
  const auto stopped = with("stop by the command\n", "");
  EXPECT_EQ(stopped.status, 0) << stopped.output;
  EXPECT_THAT(stopped.output,
              AllOf(HasSubstr("the run stops after this batch"),
                    ContainsRegex("ended after [0-9]+ steps: asked for by a viewer .pid [0-9]+.: by the command")));
  EXPECT_THAT(line.ended().stop_reason(), HasSubstr("by the command"));
}

TEST_F(CommandTest, AttachSaysWhyItCannot) {
  EXPECT_THAT(refusal("attach"), HasSubstr("no run goes on below runs"));
  EXPECT_THAT(refusal("attach nowhere"), HasSubstr("there is no run 'nowhere'"));
  auto gone = card("digits", "version_0", 1000);
  gone.status = RunStatus::running;
  gone.ended.reset();
  gone.owner.pid = 1 << 22;  // beyond all that there are
  gone.owner.machine = machine_id();
  gone.owner.processes = fs::read_symlink("/proc/self/ns/pid").string();
  write(gone);
  EXPECT_THAT(refusal("attach digits"), HasSubstr("the run digits/version_0 is gone: its process has ended"));
  auto elsewhere = card("digits", "version_1", 1000);
  elsewhere.status = RunStatus::running;
  elsewhere.environment.host = "node7";
  write(elsewhere);
  EXPECT_THAT(refusal("attach digits"), HasSubstr("goes on at node7, and can be attached to there alone"));
  auto other = elsewhere;
  other.version = "version_2";
  write(other);
  EXPECT_THAT(refusal("attach digits"),
              HasSubstr("2 runs of digits go on: digits/version_1, digits/version_2; name one of them"));
  auto silent = elsewhere;
  silent.version = "version_3";
  silent.environment.host = host_name();
  silent.options = {{"trainer", {{"attach", "off"}}}};
  write(silent);
  EXPECT_THAT(refusal("attach digits/version_3"), HasSubstr("it was started with trainer.attach = off"));
  silent.options = nlohmann::json::object();
  write(silent);
  EXPECT_THAT(refusal("attach digits/version_3"), HasSubstr("it has no socket (attach.sock)"));
}

}  // namespace
}  // namespace troupe
