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

// A link is somebody else's.
bool has_own_page(const std::filesystem::path& page) {
  std::error_code error;
  return std::filesystem::symlink_status(page, error).type() == std::filesystem::file_type::regular;
}

void renew_page(const RunCard& card, const std::filesystem::path& folder) {
  const auto path = folder / "report.html";
  if (!has_own_page(path)) return;
  MetricCurves curves;
  (void)text_thrown_by([&] { curves = read_metric_curves(folder); });  // then those of the page are better than none
  if (!curves.curves.empty()) {
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
