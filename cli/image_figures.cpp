#include "cli/image_figures.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

namespace troupe::cli {
namespace {

// Prometheus text: one sample a line, "name{labels} value".
double sample(std::string_view text, std::string_view name) {
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const bool whole = (at == 0 || text[at - 1] == '\n') && at + name.size() < text.size() &&
                       (text[at + name.size()] == '{' || text[at + name.size()] == ' ');
    if (!whole) continue;
    const size_t end = std::min(text.find('\n', at), text.size());
    const size_t space = text.rfind(' ', end - 1);
    double value = 0.0;
    std::from_chars(text.data() + space + 1, text.data() + end, value);
    return value;
  }
  return 0.0;
}

int64_t count(std::string_view text, std::string_view name) {
  return std::llround(sample(text, name));
}

}  // namespace

ImageFigures ImageFigures::since(const ImageFigures& before) const {
  return {images - before.images, encoded - before.encoded, reused - before.reused,
          prepare_s - before.prepare_s, encode_s - before.encode_s};
}

ImageFigures image_figures(troupe_engine* engine) {
  troupe_bytes* handle = nullptr;
  const Error error(troupe_engine_metrics(engine, &handle));
  if (error) return {};
  const Bytes bytes(handle);
  const std::string_view text(static_cast<const char*>(bytes->data), bytes->size);
  return {count(text, "troupe_images_total"), count(text, "troupe_images_encoded_total"),
          count(text, "troupe_images_reused_total"),
          sample(text, "troupe_image_prepare_seconds_total"),
          sample(text, "troupe_image_encode_seconds_total")};
}

}  // namespace troupe::cli
