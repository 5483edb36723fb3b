// Opening a folder's visual half, and placing its weights on a device.
#include <algorithm>
#include <cmath>

#include "base/limits.hpp"
#include "models/config.hpp"
#include "vision/encoder.hpp"
#include "vision/families/families.hpp"
#include "vision/processors/processors.hpp"

namespace troupe::vision {
namespace {

using models::Fields;

// Tokens are named in the tokenizer's files where config.json leaves them out.
Result<int32_t> find_token(const std::string& path, const std::string& token) {
  if (auto added = Fields::read(path + "/added_tokens.json", "added_tokens.json");
      added.ok() && added->has(token)) {
    return static_cast<int32_t>(added->integer(token, 0, limits::vocabulary));
  }
  TR_ASSIGN(const Fields config,
            Fields::read(path + "/tokenizer_config.json", "tokenizer_config.json"));
  const Fields ids = config.object("added_tokens_decoder");
  for (const std::string& id : ids.keys()) {
    const bool number = !id.empty() && id.size() < 9 &&
                        std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number && ids.object(id).text("content", "") == token) return std::stoi(id);
  }
  return corrupt_model("neither config.json (image_token_id), added_tokens.json nor " +
                       config.label() + " has the id of \"" + token + "\"");
}

Result<float> load_gate(const models::TensorSpec& spec, float otherwise,
                        models::WeightLoader& loader) {
  if (!spec) return otherwise;
  TR_ASSIGN(const float value, loader.scalar(spec, 0.0F));
  return std::tanh(value);
}

// A table with a row per aspect, seen as rows of the tower's width.
Result<Matrix> load_table(const models::TensorSpec& spec, int64_t width,
                          models::WeightLoader& loader) {
  TR_ASSIGN(Matrix m, loader.matrix(spec));
  return Matrix{m.data, m.dtype, m.rows * m.cols / width, width, width};
}

}  // namespace

Status OpenedFolder::open_processor_of(const std::string& path) {
  TR_ASSIGN(OpenedProcessor opened, open_processor(path));
  processor_ = std::move(opened.processor);
  PromptRules& rules = description_.rules;
  rules.placeholder = opened.placeholder;
  if (rules.image_token < 0) {
    TR_ASSIGN(rules.image_token, find_token(path, opened.image_token));
  }
  return ok_status();
}

Result<std::shared_ptr<OpenedFolder>> OpenedFolder::open_description(
    const std::string& path, const models::LoadOptions& options) {
  auto folder = std::make_shared<OpenedFolder>();
  TR_ASSIGN(const Fields config, Fields::read(path + "/config.json", "config.json"));
  auto sighted = describe(config, folder->description_);
  if (!sighted.ok()) return sighted.status().at(path);
  if (!*sighted) return std::shared_ptr<OpenedFolder>();
  models::LoadOptions whole = options;
  whole.ranks = 1;  // every device that encodes has all of the tower
  TR_ASSIGN(folder->language_, models::Folder::open_folder(path, whole));
  return folder;
}

Result<std::shared_ptr<const OpenedFolder>> OpenedFolder::open_tower(
    const std::string& path, const models::LoadOptions& options) {
  TR_ASSIGN(auto folder, open_description(path, options));
  return std::shared_ptr<const OpenedFolder>(std::move(folder));
}

Result<std::shared_ptr<const OpenedFolder>> OpenedFolder::open_folder(
    const std::string& path, const models::LoadOptions& options) {
  TR_ASSIGN(auto folder, open_description(path, options));
  if (folder != nullptr) {
    if (Status s = folder->open_processor_of(path); !s.ok()) return s.at(path);
  }
  return std::shared_ptr<const OpenedFolder>(std::move(folder));
}

Result<std::shared_ptr<const VisionFolder>> VisionFolder::open(const std::string& path,
                                                               const models::LoadOptions& options) {
  TR_ASSIGN(auto folder, OpenedFolder::open_folder(path, options));
  return std::shared_ptr<const VisionFolder>(std::move(folder));
}

Status VisionEncoder::load_layers(models::WeightLoader& loader) {
  for (const TowerLayer& spec : folder_->description().tower.layers) {
    PlacedLayer layer;
    TR_ASSIGN(layer.qkv, loader.linear(spec.qkv));
    TR_ASSIGN(layer.out, loader.linear(spec.out));
    TR_ASSIGN(layer.q_norm, models::load_norm(spec.q_norm, loader));
    TR_ASSIGN(layer.k_norm, models::load_norm(spec.k_norm, loader));
    TR_ASSIGN(layer.norm, models::load_norm(spec.norm, loader));
    TR_ASSIGN(layer.ffn_norm, models::load_norm(spec.ffn_norm, loader));
    TR_ASSIGN(layer.post_norm, models::load_norm(spec.post_norm, loader));
    TR_ASSIGN(layer.post_ffn_norm, models::load_norm(spec.post_ffn_norm, loader));
    TR_ASSIGN(layer.ffn, models::load_ffn(spec.ffn, loader));
    TR_ASSIGN(layer.gain, loader.matrix(spec.gain));
    TR_ASSIGN(layer.ffn_gain, loader.matrix(spec.ffn_gain));
    TR_ASSIGN(layer.gate, load_gate(spec.gate, 1.0F, loader));
    TR_ASSIGN(layer.ffn_gate, load_gate(spec.ffn_gate, 1.0F, loader));
    layers_.push_back(std::move(layer));
  }
  return ok_status();
}

Status VisionEncoder::load(const models::LoadOptions& options) {
  const VisionDescription& d = folder_->description();
  const Tower& t = d.tower;
  models::WeightLoader::Options how;
  how.checkpoint =
      options.format == models::LoadFormat::dummy ? nullptr : folder_->checkpoint();
  how.dtype = folder_->dtype();
  how.seed = options.seed;
  how.renames = d.renames;
  how.placed = [&, placed = int64_t{0}](size_t bytes) mutable {
    placed += static_cast<int64_t>(bytes);
    const double share = static_cast<double>(placed) /
                         static_cast<double>(std::max<int64_t>(folder_->weight_bytes(), 1));
    return !options.progress || options.progress("vision weights", std::min(1.0, share));
  };
  models::WeightLoader loader(backend_, how, arena_);
  TR_ASSIGN(patches_, loader.linear(t.patches));
  TR_ASSIGN(class_token_, loader.matrix(t.class_token));
  if (const auto* table = std::get_if<PositionTable>(&t.positions)) {
    TR_ASSIGN(positions_, loader.matrix(table->table));
  }
  if (const TiledPositions* p = tiled()) {
    TR_ASSIGN(positions_, loader.matrix(p->table));
    TR_ASSIGN(tile_positions_, load_table(p->tile_table, t.hidden, loader));
    TR_ASSIGN(before_tiles_, load_table(p->before, t.hidden, loader));
    TR_ASSIGN(behind_tiles_, load_table(p->behind, t.hidden, loader));
    TR_ASSIGN(tiled_gates_.positions, load_gate(p->gate, 0.0F, loader));
    TR_ASSIGN(tiled_gates_.before, load_gate(p->before_gate, 0.0F, loader));
    TR_ASSIGN(tiled_gates_.behind, load_gate(p->behind_gate, 0.0F, loader));
    TR_ASSIGN(middle_norm_, models::load_norm(p->middle_norm, loader));
  }
  if (const auto* join = std::get_if<Unpadded>(&d.join)) {
    TR_ASSIGN(row_end_, loader.matrix(join->row_end));
  }
  TR_ASSIGN(first_norm_, models::load_norm(t.first_norm, loader));
  TR_ASSIGN(final_norm_, models::load_norm(t.final_norm, loader));
  if (!t.rope.frequencies.empty()) {
    RopeSpec rope;
    rope.rotary_dim = static_cast<int32_t>(2 * t.rope.frequencies.size());
    TR_ASSIGN(rope.frequencies, loader.upload(t.rope.frequencies, "patch rope"));
    rope.sections[1] = t.rope.row_pairs;
    rope.sections[2] = rope.rotary_dim / 2 - t.rope.row_pairs;
    ropes_.push_back(rope);
  }
  TR_TRY(load_layers(loader));
  for (const Stage& stage : d.projector) {
    TR_ASSIGN(auto placed, load_stage(stage, loader));
    stages_.push_back(std::move(placed));
  }
  return ok_status();
}

Result<std::unique_ptr<VisionModel>> VisionModel::load(std::shared_ptr<const VisionFolder> folder,
                                                       Backend& backend,
                                                       const models::LoadOptions& options) {
  auto own = std::dynamic_pointer_cast<const OpenedFolder>(std::move(folder));
  if (own == nullptr) return internal_error("VisionModel::load: not a folder of this library");
  if (options.format == models::LoadFormat::files && own->checkpoint() == nullptr) {
    return invalid(own->path() + ": was opened for dummy weights");
  }
  const std::string path = own->path();
  auto model = std::make_unique<VisionEncoder>(std::move(own), backend);
  if (Status s = model->load(options); !s.ok()) return s.at(path);
  return std::unique_ptr<VisionModel>(std::move(model));
}

}  // namespace troupe::vision
