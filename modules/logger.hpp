// What a module can send to the sinks besides metrics.
#pragma once

#include "troupe/modules/record.hpp"
#include "troupe/modules/run_context.hpp"

#include <torch/types.h>

#include <functional>
#include <string>
#include <utility>

namespace troupe {

/// Module::logger(). Values are copied to the host and written by the logger's thread, whatever the sinks are; a
/// sink that has no use for a kind of record leaves it out. `step` is the global step. Valid during the run.
class Logger {
 public:
  explicit Logger(RunContext& run) : run_(&run) {}

  /// Distribution of values of any shape.
  void log_histogram(std::string tag, const torch::Tensor& values) const {
    run_->emit(HistogramRecord{step(), std::move(tag), on_host(values)});
  }
  /// [C, H, W] with C 1, 3 or 4, uint8 in 0..255 or floating in 0..1.
  void log_image(std::string tag, const torch::Tensor& image) const {
    run_->emit(ImageRecord{step(), std::move(tag), on_host(image)});
  }
  /// Markdown.
  void log_text(std::string tag, std::string text) const {
    run_->emit(TextRecord{step(), std::move(tag), std::move(text)});
  }

  /// The sink's own interface: calls `use(sink)` on the logger's thread for each sink of that class, after what was
  /// logged before. Values that `use` captures must be its own.
  ///
  ///     logger().experiment<TensorBoardSink>([](TensorBoardSink& sink) { sink.flush(); });
  template <std::derived_from<Sink> S>
  void experiment(std::function<void(S&)> use) const {
    run_->emit(SinkCall{[use = std::move(use)](Sink& sink) {
      if (auto* wanted = dynamic_cast<S*>(&sink)) use(*wanted);
    }});
  }

 private:
  int64_t step() const { return run_->progress().global_step; }
  static torch::Tensor on_host(const torch::Tensor& tensor) {
    return tensor.detach().to(torch::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  }

  RunContext* run_;
};

}  // namespace troupe
