#include "troupe/modules/callbacks/on_exception_checkpoint.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"

namespace troupe {

OnExceptionCheckpoint::OnExceptionCheckpoint(std::filesystem::path dirpath, std::string filename)
    : dirpath_(std::move(dirpath)), filename_(std::move(filename)) {
  if (!filename_.empty() && filename_.find('/') == std::string::npos) return;
  throw UsageError("OnExceptionCheckpoint: filename = '" + shown(filename_) + "' is not the name of one file");
}

void OnExceptionCheckpoint::on_fit_start(RunContext&, Module&) {
  has_begun_ = false;
}

void OnExceptionCheckpoint::on_train_start(RunContext&, Module&) {
  has_begun_ = true;
}

void OnExceptionCheckpoint::on_exception(RunContext& run, Module&, const Failure&) {
  if (!has_begun_ || run.stage() != Stage::fit) return;
  if (dirpath_.empty() && run.run_dir().empty()) return;
  const auto folder = dirpath_.empty() ? run.run_dir() / "checkpoints" : dirpath_;
  run.save_checkpoint(folder / (filename_ + ".safetensors"));
}

}  // namespace troupe
