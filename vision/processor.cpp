#include "vision/processor.hpp"

namespace troupe::vision {

namespace {

Status no_video() { return unsupported("this model takes no video; send its frames as pictures"); }

}  // namespace

Result<PictureLayout> Processor::layout_video(int32_t, int32_t, int32_t) const {
  return no_video();
}

Result<Tile> Processor::prepare_video(std::span<const Image>, const PictureLayout&,
                                      int32_t) const {
  return no_video();
}

std::string prompt_of(const PictureLayout& layout, int32_t number) {
  std::string out = layout.prompt;
  if (layout.number_at >= 0) {
    out.insert(static_cast<size_t>(layout.number_at), std::to_string(number));
  }
  return out;
}

}  // namespace troupe::vision
