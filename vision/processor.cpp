#include "vision/processor.hpp"

namespace troupe::vision {

Result<PictureLayout> Processor::layout_video(int32_t, int32_t, int32_t) const {
  return unsupported("this model takes no video; send its frames as pictures");
}

}  // namespace troupe::vision
