// A build without codecs (TROUPE_CODECS=none): callers give pixels. Headers are still read.
#include "vision/codecs/codec.hpp"

namespace troupe::vision {
namespace {

Result<Image> refuse(const StoredHeader& header) {
  return unsupported("this build decodes no " + format_name(header.format) +
                     "; give pixels, or build with -DTROUPE_CODECS=small");
}

}  // namespace

Result<Image> decode_jpeg(Bytes, const StoredHeader& header) {
  return refuse(header);
}
Result<Image> decode_png(Bytes, const StoredHeader& header) {
  return refuse(header);
}
Result<Image> decode_webp(Bytes, const StoredHeader& header) {
  return refuse(header);
}
Result<Image> decode_gif(Bytes, const StoredHeader& header) {
  return refuse(header);
}
Result<Image> decode_bmp(Bytes, const StoredHeader& header) {
  return refuse(header);
}

}  // namespace troupe::vision
