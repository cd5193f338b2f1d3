#include "troupe/runtime/data/shards/tar_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/shards/shard_paths.hpp"
#include "troupe/runtime/data/shards/shard_reader.hpp"
#include "troupe/runtime/data/shards/shard_table.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace troupe {

namespace {

constexpr std::string_view kKeyField = "__key__";

std::vector<std::string> extensions_of(const TarField& field) {
  std::vector<std::string> out;
  for (std::size_t start = 0; start <= field.extensions.size();) {
    const auto end = std::min(field.extensions.find(';', start), field.extensions.size());
    out.push_back(small_letters(field.extensions.substr(start, end - start)));
    start = end + 1;
  }
  return out;
}

FieldDecoder decoder_of(const TarOptions& options, const std::string& extension) {
  if (auto found = find_field_decoder(extension, options.decoders, options.image, options.transform)) return found;
  auto known = decoded_extensions();
  for (const auto& [own, decoder] : options.decoders) known.push_back(own);
  throw UsageError("TarDataset: nothing decodes '" + shown(extension) + "'; did you mean '" + nearest(extension, known) +
                   "'? Or give a function for it in `decoders`");
}

}  // namespace

/// What the replicas share.
struct TarDataset::Plan {
  struct Field {
    std::string name;
    bool is_key = false;
    std::size_t place = 0;  // among those that are read
  };

  Plan(const std::vector<std::string>& paths, TarOptions given) : options(std::move(given)) {
    ShardTable::Choice choice{{}, options.skip_incomplete, options.unique_keys};
    for (const auto& field : options.fields) {
      const bool is_key = field.extensions == kKeyField;
      fields.push_back({field.name.empty() && is_key ? field.extensions : field.name, is_key, choice.fields.size()});
      if (is_key) continue;
      choice.fields.push_back(extensions_of(field));
      for (const auto& extension : choice.fields.back()) (void)decoder_of(options, extension);
    }
    if (choice.fields.empty()) throw UsageError("TarDataset: no fields are given; {\"jpg;jpeg;png\", \"cls\"} for example");
    index = {options.index_folder, options.keep_index, options.retry};
    table = std::make_shared<const ShardTable>(find_shards(paths), index, std::move(choice));
    for (const auto& extension : table->extensions()) decoders.push_back(decoder_of(options, extension));
  }

  TarOptions options;
  ShardIndexOptions index;
  std::vector<Field> fields;
  std::shared_ptr<const ShardTable> table;
  std::vector<FieldDecoder> decoders;  // of the extensions as the table numbers them
};

TarDataset::TarDataset(const std::string& paths, TarOptions options)
    : TarDataset(std::vector<std::string>{paths}, std::move(options)) {}

TarDataset::TarDataset(std::initializer_list<std::string> paths, TarOptions options)
    : TarDataset(std::vector<std::string>(paths), std::move(options)) {}

TarDataset::TarDataset(const std::vector<std::string>& paths, TarOptions options)
    : TarDataset(std::make_shared<const Plan>(paths, std::move(options))) {}

TarDataset::TarDataset(std::shared_ptr<const Plan> plan)
    : plan_(std::move(plan)), reader_(std::make_unique<ShardReader>(plan_->table, plan_->index)) {}

TarDataset::~TarDataset() = default;

int64_t TarDataset::size() const {
  return plan_->table->size();
}

int64_t TarDataset::skipped() const {
  return plan_->table->skipped();
}

std::string TarDataset::key(int64_t index) const {
  if (index < 0 || index >= size()) {
    throw UsageError("TarDataset: there is no sample " + std::to_string(index) + " among " + std::to_string(size()));
  }
  return std::string(plan_->table->key(index));
}

std::vector<int64_t> TarDataset::shard_sizes() const {
  std::vector<int64_t> out;
  for (std::size_t i = 0; i < plan_->table->shard_count(); ++i) {
    out.push_back(plan_->table->shard(i + 1).first - plan_->table->shard(i).first);
  }
  return out;
}

std::shared_ptr<const Sampler> TarDataset::shuffled(int64_t buffer) const {
  return std::make_shared<ShardShuffleSampler>(shard_sizes(), buffer);
}

std::shared_ptr<Dataset> TarDataset::replicate() const {
  return std::shared_ptr<Dataset>(new TarDataset(plan_));
}

Batch TarDataset::get(int64_t index) {
  const ShardTable& table = *plan_->table;
  const auto& contents = reader_->read(index);
  const auto places = table.places(index);
  const std::string key(table.key(index));
  Batch sample;
  FieldValues others;
  for (std::size_t i = 0; i < plan_->fields.size(); ++i) {
    const auto& field = plan_->fields[i];
    if (field.is_key) {
      others[field.name] = key;
      continue;
    }
    const uint32_t number = places[field.place].extension;
    const std::string name = table.shard(table.shard_of(index)).path.string() + ": " + shown(key) + "." +
                             shown(table.extensions()[number]);
    FieldValue value = plan_->decoders[number](contents[field.place], name);
    if (auto* tensor = std::get_if<torch::Tensor>(&value)) {
      sample.append(field.name, std::move(*tensor));
    } else {
      const auto& named = field.name.empty() ? plan_->options.fields[i].extensions : field.name;
      others[named] = std::move(std::get<std::any>(value));
    }
  }
  if (!others.empty()) sample.extra = std::move(others);
  return sample;
}

}  // namespace troupe
