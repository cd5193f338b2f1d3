// GPT-2 in a folder as Hugging Face's transformers keep it: config.json beside model.safetensors, or beside its shards
// and their index, or the pytorch_model.bin of former years (https://huggingface.co/docs/transformers/model_doc/gpt2).
// Names are those of the Gpt here, but the matrices of blocks are transposed there, since they belong to Conv1D layers.
#pragma once

#include "gpt_options.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace gpt {

inline const std::string conv1d_weights = R"(\.(c_attn|c_proj|c_fc)\.weight$)";

/// config.json. What it leaves out is as in the first GPT-2.
class PretrainedConfig {
 public:
  explicit PretrainedConfig(const std::filesystem::path& folder)
      : path_(in_folder(folder)),
        json_(nlohmann::json::parse(troupe::FileReader(path_).read_all(1 << 20), nullptr, /*allow_exceptions=*/false)) {
    if (!json_.is_object()) refuse("is not an object of JSON");
  }

  int64_t size(const char* key, int64_t otherwise) const {
    if (!json_.contains(key)) return otherwise;
    const auto& value = json_[key];
    if (!value.is_number_integer() || value.get<double>() < 1 || value.get<double>() > 1e9) {
      refuse(std::string("has ") + key + " = " + shown(value) + "; it is a whole number from 1 to 10^9");
    }
    return value.get<int64_t>();
  }
  /// Throws unless the value is one of `known`, or left out.
  void expect(const char* key, const std::vector<nlohmann::json>& known) const {
    if (!json_.contains(key) || std::find(known.begin(), known.end(), json_[key]) != known.end()) return;
    refuse(std::string("has ") + key + " = " + shown(json_[key]) + "; the GPT here knows " + shown(known.front()));
  }
  GptActivation activation() const {
    const auto value = json_.value("activation_function", nlohmann::json("gelu_new"));
    if (!value.is_string()) refuse("has activation_function = " + shown(value) + "; it is a text");
    return static_cast<GptActivation>(troupe::value_in(troupe::choices_of<GptActivation>(), value.get<std::string>(),
                                                       path_.string() + ": activation_function"));
  }

  /// bos_token_id, eos_token_id and so on: which tokens mean something to the tokenizer.
  nlohmann::json token_ids() const {
    auto ids = nlohmann::json::object();
    for (const auto& [key, value] : json_.items()) {
      if (key.ends_with("_token_id")) ids[key] = value;
    }
    return ids;
  }

 private:
  static std::filesystem::path in_folder(const std::filesystem::path& folder) {
    std::error_code error;
    if (std::filesystem::exists(folder, error) && !std::filesystem::is_directory(folder, error)) {
      throw troupe::UsageError("model.from_pretrained = " + folder.string() +
                               " is a file; name the folder that has it beside config.json");
    }
    return folder / "config.json";
  }
  [[noreturn]] void refuse(const std::string& why) const { throw troupe::UsageError(path_.string() + " " + why); }
  /// What a stranger wrote, as text for a message.
  static std::string shown(const nlohmann::json& value) {
    return value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace).substr(0, 80);
  }

  std::filesystem::path path_;
  nlohmann::json json_;
};

/// Throws unless the weights are those of the sizes: before a model of these sizes takes memory.
inline void check_sizes(const GptOptions& sizes, const std::filesystem::path& folder) {
  const auto weights = troupe::read_any_weights(folder).tensors;  // mapped: nothing but names and shapes is read
  const auto check = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const auto found = std::find_if(weights.begin(), weights.end(), [&](const auto& each) {
      return each.first == name || each.first == "transformer." + name;
    });
    if (found != weights.end() && found->second.sizes() == shape) return;
    throw troupe::UsageError(
        c10::str("config.json in ", folder.string(), " says that ", name, " is ", c10::IntArrayRef(shape), ", but in ",
                 troupe::find_weights(folder).path.filename().string(),
                 found == weights.end() ? " it is not" : c10::str(" it is ", found->second.sizes())));
  };
  check("wte.weight", {sizes.vocabulary, sizes.width});
  check("wpe.weight", {sizes.context, sizes.width});
  for (int64_t i = 0; i < sizes.layers; ++i) check("h." + std::to_string(i) + ".ln_1.weight", {sizes.width});
}

/// The options with the sizes of `from_pretrained`, if there is one.
inline GptOptions with_pretrained_sizes(GptOptions options) {
  const auto& folder = options.from_pretrained;
  if (folder.empty()) return options;
  const PretrainedConfig config(folder);
  const auto take = [&](const char* key, int64_t otherwise, const char* name, int64_t GptOptions::*member) {
    const auto size = config.size(key, otherwise), given = options.*member;
    if (given != size && given != GptOptions{}.*member) {
      throw troupe::UsageError(std::string("model.") + name + " = " + std::to_string(given) + ", but " + key + " in " +
                               (folder / "config.json").string() + " is " + std::to_string(size) +
                               "; leave the option out");
    }
    options.*member = size;
  };
  config.expect("model_type", {"gpt2"});
  take("n_layer", 12, "layers", &GptOptions::layers);
  take("n_head", 12, "heads", &GptOptions::heads);
  take("n_embd", 768, "width", &GptOptions::width);
  take("n_positions", 1024, "context", &GptOptions::context);
  take("vocab_size", 50257, "vocabulary", &GptOptions::vocabulary);
  options.activation = config.activation();
  config.expect("n_inner", {4 * options.width, nullptr});
  config.expect("layer_norm_epsilon", {1e-5});
  config.expect("scale_attn_weights", {true});
  config.expect("scale_attn_by_inverse_layer_idx", {false});
  config.expect("add_cross_attention", {false});
  config.expect("tie_word_embeddings", {true});
  check_sizes(options, folder);
  return options;
}

/// Names begin with "transformer." since transformers 5, and in what GPT2LMHeadModel wrote before; the first files of
/// OpenAI's have them without, and the mask of attention among the weights.
inline void load_pretrained(torch::nn::Module& model, const std::filesystem::path& folder) {
  troupe::load_weights(model, folder,
                       {.rename = {{R"(^lm_head\.weight$)", ""},  // wte.weight again
                                   {R"(^(transformer\.)?h\.\d+\.attn\.(masked_)?bias$)", ""},
                                   {R"(^(wte|wpe|h|ln_f)\.)", "transformer.$1."}},
                        .transpose = {conv1d_weights},
                        .convert_dtype = true});
}

/// Throws UsageError if it cannot be made.
inline void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (std::filesystem::is_directory(folder)) return;
  const auto why = std::filesystem::exists(folder) ? std::string("it is a file") : error.message();
  throw troupe::UsageError("model.save_pretrained = " + folder.string() + " cannot be a folder: " + why +
                           "; name one that is there, or a new one");
}

/// config.json and the weights, in place of those in the folder. `token_ids` are those of the model that this one was
/// made of (PretrainedConfig::token_ids). The tokenizer's files are not ours to write.
inline void save_pretrained(const torch::nn::Module& model, const GptOptions& o, const std::filesystem::path& folder,
                            const nlohmann::json& token_ids = nlohmann::json::object()) {
  nlohmann::json config = {{"architectures", {"GPT2LMHeadModel"}},
                           {"model_type", "gpt2"},
                           {"n_layer", o.layers},
                           {"n_head", o.heads},
                           {"n_embd", o.width},
                           {"n_positions", o.context},
                           {"vocab_size", o.vocabulary},
                           {"activation_function", troupe::name_of(o.activation)},
                           {"layer_norm_epsilon", 1e-5},
                           {"tie_word_embeddings", true}};
  for (const char* part : {"attn", "embd", "resid"}) config[std::string(part) + "_pdrop"] = o.dropout;
  // GPT-2's end of text; transformers takes it for granted in smaller vocabularies too.
  const nlohmann::json end_of_text = o.vocabulary > 50256 ? nlohmann::json(50256) : nullptr;
  config["bos_token_id"] = config["eos_token_id"] = end_of_text;
  config.update(token_ids);
  make_folder(folder);
  auto tensors = troupe::named_model_tensors(model);
  const std::regex transposed(conv1d_weights);
  for (auto& [name, tensor] : tensors) {
    if (std::regex_search(name, transposed)) tensor = tensor.t();
  }
  troupe::write_sharded_safetensors(tensors, folder,
                                    {.max_shard_bytes = static_cast<uint64_t>(o.max_shard_bytes), .overwrite = true});
  std::ofstream file(folder / "config.json");  // last: with weights that could not be written the old one stays
  file << config.dump(2) << std::endl;
  if (!file) throw troupe::UsageError("cannot write " + (folder / "config.json").string());
}

}  // namespace gpt
