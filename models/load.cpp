// Placing a model's weights on its device: the other half of LoadedModel.
#include <algorithm>
#include <cmath>

#include "models/forward.hpp"
#include "models/rope.hpp"

namespace troupe::models {

Status LoadedModel::load_ropes(WeightLoader& loader) {
  for (const RopeConfig& config : folder_->description().ropes) {
    RopeTables tables = make_rope(config);
    TR_ASSIGN(tables.spec.frequencies,
              loader.upload(tables.frequencies, "rope frequencies", tables.tables));
    ropes_.push_back(tables.spec);
  }
  return ok_status();
}

// A tied head is placed once, as a linear weight; the embedding is a view of its values.
Status LoadedModel::load_ends(WeightLoader& loader) {
  const ModelDescription& d = folder_->description();
  TR_ASSIGN(embedding_norm_, load_norm(d.embedding_norm, loader));
  TR_ASSIGN(final_norm_, load_norm(d.final_norm, loader));
  if (d.head) {
    TR_ASSIGN(embedding_, loader.matrix(d.embedding));
    TR_ASSIGN(head_, loader.linear(d.head));
    return ok_status();
  }
  LinearSpec tied;
  tied.parts.push_back({.weight = d.embedding, .bias = {}});
  TR_ASSIGN(head_, loader.linear(tied));
  if (head_.text && head_.text.parts.size() == 1 && head_.text.parts.front().values) {
    embedding_ = head_.text.parts.front().values;
    return ok_status();
  }
  TR_ASSIGN(embedding_, loader.matrix(d.embedding));
  return ok_status();
}

Status LoadedModel::load_layer(WeightLoader& loader, size_t index) {
  const Layer& spec = folder_->description().layers[index];
  PlacedLayer layer;
  const CachePlace place = folder_->caches().places[index];
  TR_ASSIGN(layer.mixer,
            std::visit([&](const auto& m) { return load_mixer(m, place, loader); }, spec.mixer));
  TR_ASSIGN(layer.ffn, std::visit([&](const auto& f) { return load_ffn(f, loader); }, spec.ffn));
  layer.residual = spec.residual;
  layer.cross = std::holds_alternative<Cross>(spec.mixer);
  TR_ASSIGN(layer.norm, load_norm(spec.norm, loader));
  TR_ASSIGN(layer.ffn_norm, load_norm(spec.ffn_norm, loader));
  TR_ASSIGN(layer.post_norm, load_norm(spec.post_norm, loader));
  TR_ASSIGN(layer.post_ffn_norm, load_norm(spec.post_ffn_norm, loader));
  const auto gate = [&](const TensorSpec& tensor, float& out) {
    if (!tensor) return ok_status();
    TR_ASSIGN(const float value, loader.scalar(tensor, 0.0F));
    out = std::tanh(value);
    return ok_status();
  };
  TR_TRY(gate(spec.mixer_gate, layer.mixer_gate));
  TR_TRY(gate(spec.ffn_gate, layer.ffn_gate));
  layers_.push_back(std::move(layer));
  return ok_status();
}

Status LoadedModel::load_weights(WeightLoader& loader) {
  TR_TRY(load_ropes(loader));
  TR_TRY(load_ends(loader));
  const size_t count = folder_->description().layers.size();
  layers_.reserve(count);
  for (size_t i = 0; i < count; ++i) TR_TRY(load_layer(loader, i));
  return ok_status();
}

Status LoadedModel::load(const LoadOptions& options) {
  const int32_t ranks = communicator_ == nullptr ? 1 : communicator_->size();
  if (ranks != options.ranks) {
    return invalid("the model was opened for " + std::to_string(options.ranks) +
                   " ranks, the communicator has " + std::to_string(ranks));
  }
  size_t placed = 0;
  bool wanted = true;
  const auto total = static_cast<double>(std::max<int64_t>(facts().weight_bytes, 1));
  const auto report = [&](size_t bytes) {
    placed += bytes;
    const double fraction = std::min(1.0, static_cast<double>(placed) / total);
    if (options.progress && !options.progress("weights", fraction)) wanted = false;
    return wanted;
  };
  WeightLoader loader(
      backend_,
      {.checkpoint = options.format == LoadFormat::dummy ? nullptr : folder_->checkpoint(),
       .dtype = facts().dtype,
       .rank = communicator_ == nullptr ? 0 : communicator_->rank(),
       .ranks = ranks,
       .seed = options.seed,
       .renames = folder_->description().renames,
       .placed = report},
      arena_);
  return load_weights(loader);
}

Result<std::unique_ptr<Model>> Model::load(std::shared_ptr<const ModelFolder> folder,
                                           Backend& backend, Communicator* communicator,
                                           const LoadOptions& options) {
  auto own = std::dynamic_pointer_cast<const Folder>(std::move(folder));
  if (own == nullptr) return internal_error("Model::load: not a folder of this library");
  if (options.format == LoadFormat::files && own->checkpoint() == nullptr) {
    return invalid(own->path() + ": was opened for dummy weights");
  }
  const std::string path = own->path();
  auto model = std::make_unique<LoadedModel>(std::move(own), backend, communicator);
  if (Status s = model->load(options); !s.ok()) return s.at(path);
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace troupe::models
