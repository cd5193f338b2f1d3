// Readers of what a run leaves for `troupe sync`.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace troupe::fuzz {

inline void add_mlflow_targets(std::vector<Target>& all, const TempDir& dir) {
  const auto folder = dir / "mlflow";
  std::filesystem::create_directory(folder);
  const std::string metrics =
      "{\"seq\":2,\"step\":9,\"time\":1700000000000,\"metrics\":[[\"loss\",0.25],[\"grad\",\"NaN\"]]}\n";
  const std::string others =
      "{\"seq\":1,\"tags\":[[\"mlflow.user\",\"ann\"]],\"params\":[[\"trainer.max_epochs\",\"3\"]]}\n"
      "{\"seq\":3,\"status\":\"FINISHED\",\"time\":1700000001000}\n{\"seq\":4,\"artifacts\":true}\n{\"seq\":5,\"ta";
  all.push_back({"mlflow spool", {metrics, others}, [folder](const std::string& bytes) {
                   put(folder / "mlflow.spool", bytes);
                   MlflowSpool spool(folder, 0);
                   for (auto entries = spool.next(); !entries.empty(); entries = spool.next()) {
                     spool.mark_sent(entries.back());
                   }
                 }});
  const std::string state =
      "{\"format\":1,\"address\":\"http://localhost:5000\",\"experiment\":\"digits\",\"run_name\":\"version_0\","
      "\"key\":\"0123456789abcdef0123456789abcdef\",\"run_id\":\"12ab\",\"started\":1,\"sent\":2,\"status\":"
      "\"RUNNING\"}";
  all.push_back({"mlflow state", {state}, [folder](const std::string& bytes) {
                   put(folder / "mlflow.json", bytes);
                   (void)read_mlflow_state(folder);
                 }});
}

}  // namespace troupe::fuzz
