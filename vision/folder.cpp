#include "vision/folder.hpp"

#include <set>

#include "models/weights.hpp"
#include "vision/rows.hpp"

namespace troupe::vision {
namespace {

using models::TensorSpec;
using models::WeightVisitor;

struct StageVisitor {
  const WeightVisitor& visit;
  void operator()(const Shuffle&) const {}
  void operator()(const Pool&) const {}
  void operator()(const Activate&) const {}
  void operator()(const Norm& s) const { models::visit_norm(s.norm, visit); }
  void operator()(const Linear& s) const { models::visit_linear(s.weight, visit); }
  void operator()(const Gated& s) const { models::visit_ffn(s.ffn, visit); }
  void operator()(const Resampler& s) const {
    visit(s.queries);
    for (const auto* l : {&s.kv, &s.q, &s.k, &s.v, &s.out, &s.projection}) {
      models::visit_linear(*l, visit);
    }
    for (const auto* n : {&s.query_norm, &s.kv_norm, &s.post_norm}) models::visit_norm(*n, visit);
  }
  void operator()(const Bookends& s) const {
    visit(s.before);
    visit(s.behind);
  }
};

void visit_tower(const Tower& tower, const WeightVisitor& visit) {
  models::visit_linear(tower.patches, visit);
  if (tower.class_token) visit(tower.class_token);
  if (const auto* table = std::get_if<PositionTable>(&tower.positions)) visit(table->table);
  if (const auto* tiled = std::get_if<TiledPositions>(&tower.positions)) {
    for (const TensorSpec* t :
         {&tiled->table, &tiled->tile_table, &tiled->before, &tiled->behind, &tiled->gate,
          &tiled->before_gate, &tiled->behind_gate}) {
      visit(*t);
    }
    models::visit_norm(tiled->middle_norm, visit);
  }
  models::visit_norm(tower.first_norm, visit);
  models::visit_norm(tower.final_norm, visit);
  for (const TowerLayer& layer : tower.layers) {
    models::visit_linear(layer.qkv, visit);
    models::visit_linear(layer.out, visit);
    for (const models::NormSpec* n : {&layer.q_norm, &layer.k_norm, &layer.norm, &layer.ffn_norm,
                                      &layer.post_norm, &layer.post_ffn_norm}) {
      models::visit_norm(*n, visit);
    }
    models::visit_ffn(layer.ffn, visit);
    for (const TensorSpec* t : {&layer.gain, &layer.ffn_gain, &layer.gate, &layer.ffn_gate}) {
      if (*t) visit(*t);
    }
  }
}

double linear_flop(const models::LinearSpec& linear) {
  double elements = 0.0;
  for (const auto& part : linear.parts) {
    elements += static_cast<double>(part.weight.rows) * static_cast<double>(part.weight.cols);
  }
  return 2.0 * elements;
}

// Of all pairs that attend to each other, per head column.
double attention_pairs(std::span<const int32_t> ends) {
  double pairs = 0.0;
  int32_t begin = 0;
  for (const int32_t end : ends) {
    pairs += static_cast<double>(end - begin) * (end - begin);
    begin = end;
  }
  return pairs;
}

}  // namespace

void visit_weights(const VisionDescription& d, const WeightVisitor& visit) {
  visit_tower(d.tower, visit);
  for (const Stage& stage : d.projector) std::visit(StageVisitor{visit}, stage);
  if (const auto* join = std::get_if<Unpadded>(&d.join)) visit(join->row_end);
}

int64_t OpenedFolder::parameters() const {
  std::set<std::string> seen;
  int64_t elements = 0;
  visit_weights(description_, [&](const TensorSpec& spec) {
    if (seen.insert(spec.name).second) elements += spec.stored_rows() * spec.cols;
  });
  return elements;
}

int64_t OpenedFolder::weight_bytes() const {
  return parameters() * static_cast<int64_t>(dtype_bytes(dtype()));
}

bool OpenedFolder::joins(const PictureLayout& layout) const {
  return layout.tiles.size() > 1 || !std::holds_alternative<Stacked>(description_.join);
}

double OpenedFolder::cost(const PatchGrid& grid) const {
  const Tower& t = description_.tower;
  const TowerRows rows = lay_rows(t, {&grid, 1});
  const auto count = static_cast<double>(rows.rows);
  double flop = linear_flop(t.patches) * static_cast<double>(rows.patches);
  for (const TowerLayer& layer : t.layers) {
    flop += count * (linear_flop(layer.qkv) + linear_flop(layer.out) +
                     linear_flop(layer.ffn.up) + linear_flop(layer.ffn.down));
    flop += 4.0 * t.hidden * attention_pairs(layer.windowed ? rows.window_ends : rows.ends);
  }
  double behind = static_cast<double>(rows.kept.size());
  for (const Stage& stage : description_.projector) {
    if (const auto* s = std::get_if<Shuffle>(&stage)) behind /= s->side * s->side;
    if (const auto* s = std::get_if<Pool>(&stage)) behind /= s->side * s->side;
    if (const auto* s = std::get_if<Linear>(&stage)) flop += behind * linear_flop(s->weight);
    if (const auto* s = std::get_if<Resampler>(&stage)) {
      const auto queries = static_cast<double>(s->queries.rows);
      flop += behind * (linear_flop(s->kv) + linear_flop(s->k) + linear_flop(s->v)) +
              queries * (linear_flop(s->q) + linear_flop(s->out) + linear_flop(s->projection)) +
              4.0 * queries * behind * static_cast<double>(s->queries.cols);
      behind = queries;
    }
    if (const auto* s = std::get_if<Gated>(&stage)) {
      flop += behind * (linear_flop(s->ffn.up) + linear_flop(s->ffn.down));
    }
  }
  return flop;
}

}  // namespace troupe::vision
