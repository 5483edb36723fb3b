#include <opencv2/core.hpp>

#include "vision/turns.hpp"

namespace troupe::vision {
namespace {

// cv::transpose and cv::flip run on the caller's thread; OpenCV's pool is never woken.
cv::Mat over(Image& image) {
  return {image.height, image.width, CV_8UC3, image.rgb.data()};
}

Image transposed(Image& image) {
  Image out{image.height, image.width, {}};
  out.rgb.resize(image.rgb.size());
  cv::Mat to = over(out);
  cv::transpose(over(image), to);
  return out;
}
void mirror(Image& image, bool across, bool down) {
  cv::Mat all = over(image);
  if (across || down) cv::flip(all, all, across && down ? -1 : across ? 1 : 0);
}

}  // namespace

const Turns kOpenCvTurns{transposed, mirror};

}  // namespace troupe::vision
