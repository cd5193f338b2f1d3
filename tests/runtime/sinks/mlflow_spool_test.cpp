#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace troupe {
namespace {

using testing::HasSubstr;

SpoolEntry metric_entry(const std::string& key, double value = 1) {
  SpoolEntry entry;
  entry.batch.metrics.push_back({key, value, 1700000000000, 7});
  return entry;
}

std::string keys_waiting(MlflowSpool& spool) {
  std::string keys;
  for (const auto& entry : spool.next()) {
    for (const auto& metric : entry.batch.metrics) keys += metric.key;
  }
  return keys;
}

TEST(MlflowSpool, ReadsBackWhatWasWritten) {
  SpoolEntry entry = metric_entry("loss", -INFINITY);
  entry.number = 3;
  entry.batch.metrics.push_back({"nan", std::nan(""), 1700000000000, 7});
  entry.batch.params = {{"a", "1"}};
  entry.batch.tags = {{"t", "grö\n"}};
  entry.has_artifacts = true;
  const auto back = spool_entry(spool_line(entry), "spool");
  EXPECT_EQ(spool_line(back), spool_line(entry));
  EXPECT_EQ(back.batch.metrics[0].value, -INFINITY);
  EXPECT_TRUE(std::isnan(back.batch.metrics[1].value));
  SpoolEntry ended{.number = 1, .batch = {}, .status = MlflowStatusChange{MlflowStatus::killed, 5}};
  EXPECT_EQ(spool_line(ended), "{\"seq\":1,\"status\":\"KILLED\",\"time\":5}\n");
  EXPECT_EQ(spool_line(spool_entry(spool_line(ended), "spool")), spool_line(ended));
}

TEST(MlflowSpool, RefusesWhatNoRunWrites) {
  for (const auto* line :
       {"", "[]", "{}", "{\"seq\":0}", "{\"seq\":1,\"metrics\":[[\"a\",1]]}",
        "{\"seq\":1,\"step\":1,\"time\":-1,\"metrics\":[[\"a\",1]]}",
        "{\"seq\":1,\"step\":1,\"time\":1,\"metrics\":[[\"a@\",1]]}",
        "{\"seq\":1,\"step\":1,\"time\":1,\"metrics\":[[\"a\",\"inf\"]]}",
        "{\"seq\":1,\"step\":0.5,\"time\":1,\"metrics\":[[\"a\",1]]}", "{\"seq\":1,\"params\":[[\"a\",1]]}",
        "{\"seq\":1,\"params\":{\"a\":\"1\"}}", "{\"seq\":1,\"status\":\"DONE\",\"time\":1}",
        "{\"seq\":1,\"tags\":[[\"a\"]]}", "{\"seq\":1,\"seq\":2}"}) {
    EXPECT_THAT(refusal([&] { (void)spool_entry(line, "the spool"); }), HasSubstr("the spool")) << line;
  }
}

TEST(MlflowSpool, GivesWhatIsNotSentInOrder) {
  TempDir dir;
  MlflowSpool spool(dir.path(), 0);
  for (const auto* key : {"a", "b", "c"}) spool.append(metric_entry(key));
  EXPECT_EQ(keys_waiting(spool), "");
  spool.flush();
  EXPECT_EQ(keys_waiting(spool), "abc");
  spool.mark_sent(spool.next()[1]);
  EXPECT_EQ(keys_waiting(spool), "c");
  EXPECT_EQ(spool.waiting(), 1);
}

TEST(MlflowSpool, GoesOnWithWhatAKilledRunLeft) {
  TempDir dir;
  put(dir / "mlflow.spool", "{\"seq\":1}\n{\"seq\":2,\"step\":1,\"time\":1,\"metrics\":[[\"a\",1]]}\n{\"seq\":3,\"st");
  MlflowSpool spool(dir.path(), 1);
  EXPECT_EQ(spool.waiting(), 1);
  spool.append(metric_entry("b"));
  spool.flush();
  EXPECT_EQ(keys_waiting(spool), "ab");
  EXPECT_EQ(spool.next()[1].number, 3);
}

TEST(MlflowSpool, IsEmptiedWhenAllIsSent) {
  TempDir dir;
  MlflowSpool spool(dir.path(), 4);
  for (const auto* key : {"a", "b"}) spool.append(metric_entry(key));
  spool.flush();
  spool.mark_sent(spool.next()[0]);
  spool.shrink(0);
  EXPECT_EQ(keys_waiting(spool), "b");
  spool.mark_sent(spool.next()[0]);
  spool.shrink(1000);
  EXPECT_GT(std::filesystem::file_size(dir / "mlflow.spool"), 0U);
  spool.shrink(0);
  EXPECT_EQ(std::filesystem::file_size(dir / "mlflow.spool"), 0U);
  spool.append(metric_entry("c"));
  spool.flush();
  EXPECT_EQ(spool.next().at(0).number, 7);
}

TEST(MlflowSpool, GivesWhatStandsBeforeADamagedLine) {
  TempDir dir;
  put(dir / "mlflow.spool", "{\"seq\":1,\"step\":1,\"time\":1,\"metrics\":[[\"a\",1]]}\nnonsense\n{\"seq\":3}\n");
  MlflowSpool spool(dir.path(), 0);
  EXPECT_EQ(keys_waiting(spool), "a");
  spool.mark_sent(spool.next()[0]);
  EXPECT_THAT(refusal([&] { (void)spool.next(); }), HasSubstr("the line at byte 48"));
}

TEST(MlflowSpool, IsOpenOnce) {
  TempDir dir;
  const MlflowSpool spool(dir.path(), 0);
  EXPECT_THROW(MlflowSpool(dir.path(), 0), SpoolInUse);
}

TEST(MlflowSpool, RefusesALineWithoutEnd) {
  TempDir dir;
  put(dir / "mlflow.spool", std::string(9 << 20, '{'));
  EXPECT_THAT(refusal([&] { MlflowSpool(dir.path(), 0); }), HasSubstr("more than 4 MiB"));
}

TEST(MlflowState, IsReadBackAsItWas) {
  TempDir dir;
  EXPECT_FALSE(read_mlflow_state(dir.path()));
  MlflowState state{.address = "http://localhost:5000",
                    .experiment = "digits",
                    .run_name = "version_0",
                    .key = std::string(32, 'a'),
                    .run_id = "0123abc",
                    .started = 5,
                    .sent = 7,
                    .status = MlflowStatus::finished};
  write_mlflow_state(state, dir.path());
  const auto back = read_mlflow_state(dir.path());
  ASSERT_TRUE(back);
  EXPECT_EQ(back->address, state.address);
  EXPECT_EQ(back->run_id, state.run_id);
  EXPECT_EQ(back->sent, 7);
  EXPECT_EQ(back->status, state.status);
  put(dir / "mlflow.json", "{\"format\":1}");
  EXPECT_THAT(refusal([&] { (void)read_mlflow_state(dir.path()); }), HasSubstr("mlflow.json"));
  put(dir / "mlflow.json", "half");
  EXPECT_THAT(refusal([&] { (void)read_mlflow_state(dir.path()); }), HasSubstr("mlflow.json"));
}

}  // namespace
}  // namespace troupe
