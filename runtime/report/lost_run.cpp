#include "troupe/runtime/report/lost_run.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/report_page.hpp"

#include <optional>

namespace troupe {

namespace {

constexpr std::uintmax_t kLargestPage = std::uintmax_t{256} << 20;

// A run that was lost in its first second has none yet; with trainer.logger = false it would have got none.
bool would_have_page(const RunCard& card) {
  const auto trainer = card.options.find("trainer");
  return trainer != card.options.end() && trainer->is_object() && trainer->value("logger", nlohmann::json()) == true;
}

void renew_page(const RunCard& card, const std::filesystem::path& folder) {
  const auto path = folder / "report.html";
  std::error_code error;
  const auto type = std::filesystem::symlink_status(path, error).type();
  const bool is_missing = type == std::filesystem::file_type::not_found && would_have_page(card);
  if (!is_missing && type != std::filesystem::file_type::regular) return;  // a link is somebody else's
  MetricCurves curves;
  (void)text_thrown_by([&] { curves = read_metric_curves(folder); });  // then those of the page are better than none
  if (is_missing || !curves.curves.empty()) {
    const RunView view{card, curves};
    return write_report_page({&view, 1}, path);
  }
  const InputFile file(path);
  if (file.size() > kLargestPage) return;
  if (const auto page = page_with_card(file.read_all(), card)) write_text_atomically(path, *page);
}

}  // namespace

void record_loss(const RunCard& card, const std::filesystem::path& folder) noexcept {
  (void)text_thrown_by([&] {
    const RunLock lock(folder);  // nobody goes on with the run meanwhile
    write_run_card(card, folder);
    renew_page(card, folder);
  });
}

void record_if_lost(const std::filesystem::path& folder) noexcept {
  (void)text_thrown_by([&] {
    auto card = stored_run_card(folder);
    if (notice_loss(card, folder)) record_loss(card, folder);
  });
}

}  // namespace troupe
