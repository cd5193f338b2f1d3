#include "troupe/runtime/data/shards/tar_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/images/image_pipeline.hpp"
#include "troupe/runtime/data/images/stand_ins.hpp"
#include "troupe/runtime/data/shards/shard_paths.hpp"
#include "troupe/runtime/data/shards/shard_reader.hpp"
#include "troupe/runtime/data/shards/shard_table.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

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

FieldKind known_kind(const TarOptions& options, const std::string& extension) {
  auto found = field_kind(extension, options.decoders);
  if (found.value != FieldKind::Value::unknown) return found;
  auto known = decoded_extensions();
  for (const auto& [own, decoder] : options.decoders) known.push_back(own);
  throw UsageError("TarDataset: nothing decodes '" + shown(extension) + "'; did you mean '" +
                   nearest(extension, known) + "'? Or give a function for it in `decoders`");
}

}  // namespace

/// What replicas share.
struct TarDataset::Plan {
  struct Field {
    std::string name;        // of the tensor
    std::string value_name;  // of a value that is no tensor
    bool is_key = false;
    std::size_t place = 0;                               // among the files that are read
    FieldKind::Value value = FieldKind::Value::unknown;  // if all of its extensions are of one kind
  };

  struct Extension {
    FieldKind kind;
    std::string shown;  // for messages
  };

  Plan(const std::vector<std::string>& paths, TarOptions given) : options(std::move(given)), stand_ins(options.broken) {
    ShardTable::Choice choice{{}, options.skip_incomplete, options.unique_keys};
    for (const auto& field : options.fields) add(field, choice);
    if (choice.fields.empty()) {
      throw UsageError("TarDataset: no files are wanted; fields = {\"jpg;jpeg;png\", \"cls\"} for example");
    }
    index = {options.index_folder, options.keep_index, options.retry};
    table = std::make_shared<const ShardTable>(find_shards(paths), index, std::move(choice));
    for (const auto& extension : table->extensions()) {
      extensions.push_back({known_kind(options, extension), shown(extension)});
    }
  }

  void add(const TarField& field, ShardTable::Choice& choice) {
    const bool is_key = field.extensions == kKeyField;
    fields.push_back({field.name, field.name.empty() ? field.extensions : field.name, is_key, choice.fields.size()});
    if (is_key) return;
    choice.fields.push_back(extensions_of(field));
    auto& value = fields.back().value;
    for (const auto& extension : choice.fields.back()) {
      const auto kind = known_kind(options, extension).value;
      const bool is_first = &extension == &choice.fields.back().front();
      value = is_first || value == kind ? kind : FieldKind::Value::unknown;
    }
  }

  TarOptions options;
  ShardIndexOptions index;
  std::vector<Field> fields;
  std::shared_ptr<const ShardTable> table;
  BatchPool pool;
  std::vector<Extension> extensions;  // as the table numbers them
  mutable StandIns stand_ins;

  /// Shard and key, for messages.
  std::string shown_name(int64_t sample) const {
    const std::size_t shard = table->shard_of(sample);
    return table->shard(shard).path.native() + ": " + shown(table->key(sample, shard));
  }
};

/// What one replica has for itself.
class TarDataset::Reader {
 public:
  explicit Reader(const Plan& plan)
      : plan_(plan),
        shards_(plan.table, plan.index),
        images_({.decode = plan.options.image,
                 .transform = plan.options.transform,
                 .scaled_decode = plan.options.scaled_decode},
                plan.pool) {}

  /// A file of a sample.
  struct File {
    std::span<const std::byte> content;
    const std::string& sample;  // shard and key, for messages
    const Plan::Extension& extension;
    const FieldKind& kind() const { return extension.kind; }
    std::string name() const { return sample + "." + extension.shown; }
    std::span<const uint8_t> bytes() const {
      return {reinterpret_cast<const uint8_t*>(content.data()), content.size()};
    }
  };

  /// Calls `take` for each field with its position and, unless it is the key, its file.
  template <class Take>
  void read(int64_t sample, const Take& take) {
    const auto& table = *plan_.table;
    const std::size_t shard = table.shard_of(sample);
    const auto& contents = shards_.read(sample, shard);
    const auto places = table.places(sample);
    const std::string name = plan_.shown_name(sample);
    for (std::size_t i = 0; i < plan_.fields.size(); ++i) {
      const std::size_t place = plan_.fields[i].place;
      if (plan_.fields[i].is_key) continue;
      take(i, File{contents[place], name, plan_.extensions[places[place].extension]});
    }
  }

  FieldValue value(const File& file) {
    switch (file.kind().value) {
      case FieldKind::Value::image: return images_.decode(file.bytes(), file.name());
      case FieldKind::Value::number: return at::scalar_tensor(class_number(file.content, file.name()), at::kLong);
      default: return file.kind().decode(file.content, file.name());
    }
  }
  ImagePipeline& images() { return images_; }

 private:
  const Plan& plan_;
  ShardReader shards_;
  ImagePipeline images_;
};

TarDataset::TarDataset(const std::string& paths, TarOptions options)
    : TarDataset(std::vector<std::string>{paths}, std::move(options)) {}

TarDataset::TarDataset(std::initializer_list<std::string> paths, TarOptions options)
    : TarDataset(std::vector<std::string>(paths), std::move(options)) {}

TarDataset::TarDataset(const std::vector<std::string>& paths, TarOptions options)
    : TarDataset(std::make_shared<const Plan>(paths, std::move(options))) {}

TarDataset::TarDataset(std::shared_ptr<const Plan> plan)
    : plan_(std::move(plan)), reader_(std::make_unique<Reader>(*plan_)) {}

TarDataset::~TarDataset() = default;

int64_t TarDataset::size() const {
  return plan_->table->size();
}

int64_t TarDataset::skipped() const {
  return plan_->table->skipped();
}

int64_t TarDataset::broken_count() const {
  return plan_->stand_ins.count();
}

std::vector<std::string> TarDataset::broken_samples() const {
  std::vector<std::string> out;
  for (const int64_t index : plan_->stand_ins.broken()) out.push_back(plan_->shown_name(index));
  return out;
}

void TarDataset::check(int64_t index) const {
  if (index >= 0 && index < size()) return;
  throw std::out_of_range("TarDataset has no sample " + std::to_string(index) + " among " + std::to_string(size()));
}

std::string TarDataset::key(int64_t index) const {
  check(index);
  return std::string(plan_->table->key(index));
}

std::vector<int64_t> TarDataset::shard_sizes() const {
  std::vector<int64_t> out;
  for (std::size_t i = 0; i < plan_->table->shard_count(); ++i) out.push_back(plan_->table->samples_of(i));
  return out;
}

std::shared_ptr<const Sampler> TarDataset::shuffled(int64_t buffer) const {
  return std::make_shared<ShardShuffleSampler>(shard_sizes(), buffer);
}

std::shared_ptr<Dataset> TarDataset::replicate() const {
  return std::shared_ptr<Dataset>(new TarDataset(plan_));
}

Batch TarDataset::get(int64_t index) {
  check(index);
  Batch out;
  plan_->stand_ins.first_readable(index, size(), [&](int64_t at) { out = sample(at); });
  return out;
}

Batch TarDataset::sample(int64_t index) {
  Batch sample;
  FieldValues others;
  for (const auto& field : plan_->fields) {
    if (field.is_key) others[field.value_name] = std::string(plan_->table->key(index));
  }
  reader_->read(index, [&](std::size_t i, const Reader::File& file) {
    const auto& field = plan_->fields[i];
    auto value = reader_->value(file);
    if (auto* tensor = std::get_if<torch::Tensor>(&value)) {
      sample.append(field.name, std::move(*tensor));
    } else {
      others[field.value_name] = std::move(std::get<std::any>(value));
    }
  });
  if (!others.empty()) sample.extra = std::move(others);
  return sample;
}

std::optional<Batch> TarDataset::batch_memory(int64_t samples) {
  Batch out;
  for (const auto& field : plan_->fields) {
    if (field.value == FieldKind::Value::number) {
      out.append(field.name, at::empty({samples}, at::kLong));
    } else if (field.value == FieldKind::Value::image) {
      auto images = reader_->images().batch_memory(samples);
      if (!images) return std::nullopt;
      out.append(field.name, std::move(*images));
    } else {
      return std::nullopt;
    }
  }
  return out;
}

void TarDataset::get_into(int64_t index, Batch& batch, int64_t row) {
  check(index);
  plan_->stand_ins.first_readable(index, size(), [&](int64_t at) { write(at, batch, row); });
}

void TarDataset::write(int64_t index, Batch& batch, int64_t row) {
  reader_->read(index, [&](std::size_t i, const Reader::File& file) {
    auto& to = batch.tensors()[i];
    if (file.kind().value == FieldKind::Value::number) {
      to.mutable_data_ptr<int64_t>()[row] = class_number(file.content, file.name());
    } else {
      reader_->images().decode_into(file.bytes(), file.name(), to.select(0, row));
    }
  });
}

}  // namespace troupe
