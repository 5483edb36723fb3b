// Idefics3 and SmolVLM: SigLIP over the tiles of a picture and the whole of it, blocks of rows
// shuffled into one and projected. Positions are those of the fraction of the way (NaViT).
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {

void describe_idefics3(const models::Fields& config, VisionDescription& out) {
  const models::Fields vision = config.object("vision_config");
  const TowerSizes s = read_tower(vision, {.hidden = 1152,
                                           .inner = 3072,
                                           .layers = 12,
                                           .heads = 16,
                                           .image_size = 224,
                                           .patch_size = 32,
                                           .activation = "gelu_pytorch_tanh"});
  const int32_t hidden = text_hidden(config);
  const int32_t shuffle = config.count("scale_factor", 64, 2);
  const std::string prefix = "model.vision_model.";
  Tower& t = out.tower;
  t.tile_side = s.side();
  if (t.tile_side % shuffle != 0) {
    config.fail("scale_factor", "is " + std::to_string(shuffle) + ", which does not divide the " +
                                    std::to_string(t.tile_side) + " patches of a tile's side");
  }
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, true);
  PositionTable positions =
      position_table(prefix + "embeddings.position_embedding.weight", s, false);
  positions.fit = PositionTable::Fit::buckets;
  t.positions = positions;
  add_clip_layers(prefix, s, t);
  const int64_t wide = int64_t{s.hidden} * shuffle * shuffle;
  out.projector = {Shuffle{shuffle, Shuffle::Order::grid},
                   Linear{linear("model.connector.modality_projection.proj", hidden, wide, false)}};
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
}

}  // namespace troupe::vision
