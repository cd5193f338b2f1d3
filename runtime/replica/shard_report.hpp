// What the shards of a batch have to tell the run.
#pragma once

#include "troupe/modules/log_options.hpp"
#include "troupe/modules/run_context.hpp"

#include <torch/types.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace troupe {

class Module;

/// Of one shard, in the order in which it was said; filled by the thread that computes it.
class ShardReport {
 public:
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options);
  void log(std::string_view name, double value, const LogOptions& options);
  /// A metric of the module, by its place among those that are registered.
  void log_metric(std::string_view name, std::size_t metric, const LogOptions& options);
  /// Anything else.
  void say(std::function<void(RunContext&)> what) { said_.push_back(std::move(what)); }

  /// Tells `run`, whose module is `module`, what all shards said, of `sizes` samples each: logged values as one that
  /// the whole batch had given (a mean is weighted by samples), everything else shard by shard.
  static void tell(RunContext& run, const Module& module, std::span<const ShardReport> shards,
                   std::span<const int64_t> sizes);

 private:
  using Value = std::variant<double, torch::Tensor, std::size_t>;
  struct Logged {
    std::string name;
    std::size_t repeat;  // how often the shard had logged that name before
    Value value;
    LogOptions options;
  };

  struct Combined;

  void add(std::string_view name, Value value, const LogOptions& options);
  static void combine(std::vector<Combined>& all, const Logged& logged, double weight);
  static void tell_combined(RunContext& run, const Module& module, const Combined& each);

  std::vector<Logged> logged_;
  std::vector<std::function<void(RunContext&)>> said_;
};

}  // namespace troupe
