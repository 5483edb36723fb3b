#include "models/folder.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "base/limits.hpp"
#include "models/config.hpp"
#include "models/families/families.hpp"
#include "models/families/nested.hpp"
#include "models/weights.hpp"

namespace troupe::models {
namespace {

std::optional<DType> dtype_of(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "f32" || name == "float32" || name == "float") return DType::f32;
  if (name == "f16" || name == "float16" || name == "half") return DType::f16;
  if (name == "bf16" || name == "bfloat16") return DType::bf16;
  return std::nullopt;
}

void add_tokens(const std::vector<int64_t>& ids, std::vector<int32_t>& out) {
  for (const int64_t id : ids) {
    const auto token = static_cast<int32_t>(id);
    if (id >= 0 && std::find(out.begin(), out.end(), token) == out.end()) out.push_back(token);
  }
}

int32_t token_id(const Fields& f, std::string_view key, int32_t fallback) {
  const auto ids = f.integers(key, -1, limits::vocabulary);
  return ids.empty() || ids.front() < 0 ? fallback : static_cast<int32_t>(ids.front());
}

// This rank's share of the weights, in the dtype they are placed in.
int64_t rank_weight_bytes(const ModelDescription& model, int32_t ranks, DType dtype) {
  std::set<std::pair<std::string, int64_t>> seen;  // a fused tensor is picked from several times
  int64_t elements = 0;
  visit_weights(model, [&](const TensorSpec& spec) {
    if (!seen.insert({spec.name, spec.pick.begin}).second) return;
    const auto share = share_of(spec, 0, ranks);
    if (share.ok()) elements += share->row_count * share->column_count;
  });
  return elements * static_cast<int64_t>(dtype_bytes(dtype));
}

bool file_exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

Status check_options(const LoadOptions& o) {
  const auto outside = [](const char* name, int64_t value, int64_t low, int64_t high) {
    return invalid(std::string(name) + " is " + std::to_string(value) + ", must be from " +
                   std::to_string(low) + " to " + std::to_string(high));
  };
  if (o.ranks < 1 || o.ranks > limits::ranks) return outside("ranks", o.ranks, 1, limits::ranks);
  if (o.block_tokens < 1 || o.block_tokens > 1024) {
    return outside("block_tokens", o.block_tokens, 1, 1024);
  }
  if (o.context_length < 0 || o.context_length > limits::prompt_tokens) {
    return outside("context_length", o.context_length, 0, limits::prompt_tokens);
  }
  return ok_status();
}

}  // namespace

Status Folder::read_generation(const std::string& path) {
  const std::string name = "generation_config.json";
  if (!file_exists(path + "/" + name)) return ok_status();
  TR_ASSIGN(const Fields f, Fields::read(path + "/" + name, name));
  const auto real = [&](std::string_view key, double low, double high, float& out) {
    if (f.has(key)) out = static_cast<float>(f.real(key, low, high));
  };
  real("temperature", 0.0, 1e6, defaults_.temperature);
  real("top_p", 1e-6, 1.0, defaults_.top_p);  // 0 would leave no token to choose
  real("min_p", 0.0, 1.0, defaults_.min_p);
  real("repetition_penalty", 1e-6, 1e6, defaults_.repetition_penalty);  // what is divided by it stays finite
  defaults_.top_k = static_cast<int32_t>(f.integer("top_k", -1, limits::vocabulary, -1));
  defaults_.max_new_tokens =
      static_cast<int32_t>(f.integer("max_new_tokens", 0, limits::prompt_tokens, -1));
  defaults_.greedy = !f.boolean("do_sample", true);
  add_tokens(f.integers("eos_token_id", -1, limits::vocabulary), facts_.eos_tokens);
  facts_.bos_token = token_id(f, "bos_token_id", facts_.bos_token);
  facts_.pad_token = token_id(f, "pad_token_id", facts_.pad_token);
  return f.status();
}

Status Folder::settle_dtype(const LoadOptions& options, const std::string& config_dtype) {
  std::optional<DType> dtype;
  if (options.dtype != "auto") {
    dtype = dtype_of(options.dtype);
    if (!dtype)
      return invalid("dtype is \"" + options.dtype + "\", must be auto, f32, f16 or bf16");
  } else if (checkpoint_) {
    dtype =
        checkpoint_->main_dtype();  // never expanded: what the file has is what is computed with
    if (!dtype) return unsupported(path_ + ": no tensor is F32, F16 or BF16");
  } else {
    dtype = dtype_of(config_dtype);
    if (!dtype) {
      return corrupt_model("config.json: dtype is \"" + config_dtype +
                           "\", must be float32, float16 or bfloat16");
    }
  }
  facts_.dtype = *dtype;
  return ok_status();
}

Status Folder::settle_facts(const LoadOptions& options) {
  const ModelDescription& d = description_;
  TR_TRY(check_ranks(d, options.ranks));
  facts_.family = d.family;
  facts_.vision = d.vision;
  facts_.vocab = d.vocab;
  facts_.hidden = d.hidden;
  facts_.layers = static_cast<int32_t>(d.layers.size());
  facts_.context_length = d.context_length;
  if (options.context_length > d.context_length) {
    return invalid("context_length is " + std::to_string(options.context_length) +
                   ", the model's own is " + std::to_string(d.context_length) +
                   " (config.json: max_position_embeddings)");
  }
  if (options.context_length > 0) facts_.context_length = options.context_length;
  facts_.parameters = count_parameters(d);
  facts_.weight_bytes = rank_weight_bytes(d, options.ranks, facts_.dtype);
  for (const RopeConfig& rope : d.ropes) {
    if (rope.scaling != RopeScaling::dynamic && rope.scaling != RopeScaling::longrope) continue;
    facts_.regime_length = rope.original_length;
    facts_.regime_per_length = rope.scaling == RopeScaling::dynamic;
  }
  DType kv = facts_.dtype;
  if (options.kv_dtype != "auto") {
    const auto asked = dtype_of(options.kv_dtype);
    if (!asked) {
      return invalid("kv_dtype is \"" + options.kv_dtype + "\", must be auto, f32, f16 or bf16");
    }
    kv = *asked;
  }
  caches_ = plan_caches(d, options.ranks, kv, options.block_tokens);
  facts_.groups = caches_.groups;
  return ok_status();
}

// The two configs of a vision-language model often disagree on tied heads: the files decide.
void Folder::untie_or_tie() {
  ModelDescription& d = description_;
  if (!d.vision || !d.head) return;
  const auto there = [&](const TensorSpec& t) {
    return find_weight(*checkpoint_, d.renames, t.name) != nullptr;
  };
  if (!there(d.head.parts.front().weight) && there(d.embedding)) d.head.parts.clear();
}

Status Folder::read(const std::string& path, const LoadOptions& options) {
  path_ = path;
  TR_TRY(check_options(options));
  TR_ASSIGN(const Fields config, Fields::read(path + "/config.json", "config.json"));
  if (config.has("quantization_config")) {
    const Fields quantised = config.object("quantization_config");
    const std::string method = quantised.text("quant_method", "unnamed");
    return unsupported("config.json: quantization_config: weights quantised by \"" + method +
                       "\" are not read; use the folder with f16, bf16 or f32 weights");
  }
  TR_TRY(describe(config, description_));
  const Fields text = text_config(config);  // the same, but for vision-language models
  for (const Fields& f : {config, text}) {
    add_tokens(f.integers("eos_token_id", -1, limits::vocabulary), facts_.eos_tokens);
  }
  facts_.bos_token = token_id(config, "bos_token_id", token_id(text, "bos_token_id", -1));
  facts_.pad_token = token_id(config, "pad_token_id", token_id(text, "pad_token_id", -1));
  const std::string inner = text.text(text.either("dtype", "torch_dtype"), "float32");
  const std::string dtype = config.text(config.either("dtype", "torch_dtype"), inner);
  TR_TRY(config.status());
  TR_TRY(read_generation(path));
  if (options.format == LoadFormat::files) {
    TR_ASSIGN(checkpoint_, Checkpoint::open(path));
    untie_or_tie();
  }
  TR_TRY(settle_dtype(options, dtype));
  return settle_facts(options);
}

Result<std::shared_ptr<const Folder>> Folder::open_folder(const std::string& path,
                                                          const LoadOptions& options) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Status(Code::not_found, path +
                                       ": is not a folder; a model is opened from the folder as "
                                       "downloaded (config.json, weights, tokenizer)");
  }
  auto folder = std::make_shared<Folder>();
  if (Status s = folder->read(path, options); !s.ok()) return s.at(path);
  return std::shared_ptr<const Folder>(std::move(folder));
}

Result<std::shared_ptr<const Folder>> Folder::described(ModelDescription description, DType dtype,
                                                        const LoadOptions& options) {
  auto folder = std::make_shared<Folder>();
  folder->path_ = description.family;
  folder->description_ = std::move(description);
  folder->facts_.dtype = dtype;
  TR_TRY(check_options(options));
  TR_TRY(folder->settle_facts(options));
  return std::shared_ptr<const Folder>(std::move(folder));
}

Result<std::shared_ptr<const ModelFolder>> ModelFolder::open(const std::string& path,
                                                             const LoadOptions& options) {
  TR_ASSIGN(auto folder, Folder::open_folder(path, options));
  return std::shared_ptr<const ModelFolder>(std::move(folder));
}

}  // namespace troupe::models
