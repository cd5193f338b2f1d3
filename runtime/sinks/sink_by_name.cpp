#include "troupe/runtime/sinks/sink_by_name.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/sinks/csv_sink.hpp"
#include "troupe/runtime/sinks/mlflow_sink.hpp"
#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace troupe {

namespace {

struct NamedSink {
  std::string_view name;
  std::shared_ptr<Sink> (*make)(const SinkPlace& place);
};

constexpr std::array kNamedSinks = {
    NamedSink{"csv",
              [](const SinkPlace& place) -> std::shared_ptr<Sink> { return std::make_shared<CsvSink>(place.folder); }},
    NamedSink{"tensorboard",
              [](const SinkPlace& place) -> std::shared_ptr<Sink> {
                return std::make_shared<TensorBoardSink>(place.folder);
              }},
    NamedSink{"mlflow",
              [](const SinkPlace& place) -> std::shared_ptr<Sink> { return std::make_shared<MlflowSink>(place); }},
};

const NamedSink& named_sink(const std::string& name) {
  const auto found = std::ranges::find(kNamedSinks, name, &NamedSink::name);
  if (found != kNamedSinks.end()) return *found;
  throw UsageError("trainer.loggers names '" + shown(name) + "', which is no logger; did you mean '" +
                   nearest(name, sink_names()) + "'? There are " + joined(sink_names()));
}

}  // namespace

std::vector<std::string> sink_names() {
  std::vector<std::string> names;
  for (const auto& sink : kNamedSinks) names.emplace_back(sink.name);
  return names;
}

void check_sink_names(const std::vector<std::string>& names) {
  for (auto name = names.begin(); name != names.end(); ++name) {
    (void)named_sink(*name);
    if (std::find(names.begin(), name, *name) != name) {
      throw UsageError("trainer.loggers names '" + *name + "' twice");
    }
  }
}

std::vector<std::shared_ptr<Sink>> make_sinks(const std::vector<std::string>& names, const SinkPlace& place) {
  check_sink_names(names);
  std::vector<std::shared_ptr<Sink>> sinks;
  for (const auto& name : names) sinks.push_back(named_sink(name).make(place));
  return sinks;
}

}  // namespace troupe
