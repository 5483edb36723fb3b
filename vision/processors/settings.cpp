#include "vision/processors/settings.hpp"

#include <sys/stat.h>

#include "models/mapped_file.hpp"

namespace troupe::vision {
namespace {

using models::Fields;

bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

// FNV-1a; a separator keeps files apart.
void add_to(uint64_t& hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  hash = (hash ^ 0xffU) * 0x100000001b3ULL;
}

Result<Fields> read_if_there(const std::string& folder, const char* name, uint64_t& hash) {
  const std::string path = folder + "/" + name;
  if (!exists(path)) {
    add_to(hash, "");
    return Fields::parse("{}", name);
  }
  TR_ASSIGN(const auto file, models::MappedFile::open(path, name));
  const std::string_view text{reinterpret_cast<const char*>(file->bytes().data()),
                              file->bytes().size()};
  add_to(hash, text);
  return Fields::parse(text, name);
}

}  // namespace

Result<ProcessorFiles> ProcessorFiles::read(const std::string& folder) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  TR_ASSIGN(Fields model, Fields::read(folder + "/config.json", "config.json"));
  TR_ASSIGN(Fields processor, read_if_there(folder, "processor_config.json", hash));
  TR_ASSIGN(Fields image, read_if_there(folder, "preprocessor_config.json", hash));
  TR_ASSIGN(Fields video, read_if_there(folder, "video_preprocessor_config.json", hash));
  uint64_t unhashed = 0;
  TR_ASSIGN(Fields tokenizer, read_if_there(folder, "tokenizer_config.json", unhashed));
  // Newer folders hold the image processor's settings inside processor_config.json.
  if (processor.is_object("image_processor")) image = processor.object("image_processor");
  if (processor.is_object("video_processor")) video = processor.object("video_processor");
  add_to(hash, model.text("model_type", ""));
  return ProcessorFiles{std::move(model),     std::move(image),     std::move(video),
                        std::move(processor), std::move(tokenizer), hash};
}

Status ProcessorFiles::status() const {
  for (const Fields* file : {&model, &image, &video, &processor, &tokenizer}) {
    if (!file->status().ok()) return file->status();
  }
  return ok_status();
}

std::string ProcessorFiles::token(std::string_view key, std::string_view otherwise) const {
  const auto in = [&](const Fields& fields) -> std::string {
    if (!fields.has(key)) return "";
    return fields.is_object(key) ? fields.object(key).text("content", "") : fields.text(key, "");
  };
  std::string found = in(tokenizer);
  for (const char* group : {"extra_special_tokens", "model_specific_special_tokens"}) {
    if (found.empty() && tokenizer.is_object(group)) found = in(tokenizer.object(group));
  }
  return found.empty() ? std::string(otherwise) : found;
}

Sizes read_sizes(const Fields& fields, std::string_view key) {
  Sizes out;
  if (!fields.has(key)) return out;
  if (!fields.is_object(key)) {
    out.shortest = fields.count(key, kSideMax);
    out.height = out.width = out.shortest;
    return out;
  }
  const Fields sizes = fields.object(key);
  // Qwen2-VL writes numbers of pixels here.
  const auto read = [&sizes](std::string_view name, std::optional<int32_t>& to) {
    if (sizes.has(name)) to = sizes.count(name, 1 << 30);
  };
  read("shortest_edge", out.shortest);
  read("longest_edge", out.longest);
  read("height", out.height);
  read("width", out.width);
  return out;
}

int32_t checked_rows(const Fields& fields, std::string_view key, int64_t rows) {
  if (rows <= kRowsMax) return static_cast<int32_t>(rows);
  fields.fail(key, "makes " + std::to_string(rows) + " rows of a tile, the limit is " +
                       std::to_string(kRowsMax));
  return 1;
}

Filter read_filter(const Fields& fields, Filter otherwise) {
  // Pillow's numbers.
  static constexpr Filter kFilters[] = {Filter::nearest, Filter::lanczos, Filter::bilinear,
                                        Filter::bicubic, Filter::box,     Filter::hamming};
  if (!fields.has("resample")) return otherwise;
  return kFilters[static_cast<size_t>(fields.integer("resample", 0, 5))];
}

Normalise read_normalise(const Fields& fields, const Defaults& defaults) {
  double scale = 1.0;
  if (fields.boolean("do_rescale", true)) {
    scale = fields.real("rescale_factor", 1e-9, 1.0, 1.0 / 255.0);
  }
  const auto triple = [&fields](std::string_view key, std::array<double, 3> out, double low) {
    if (!fields.has(key)) return out;
    const auto values = fields.reals(key, low, 1e6);
    if (values.size() == 3) return std::array<double, 3>{values[0], values[1], values[2]};
    fields.fail(key, "must be 3 numbers, one for red, green and blue each");
    return out;
  };
  const auto mean = triple("image_mean", defaults.mean, -1e6);
  const auto deviation = triple("image_std", defaults.std, 1e-6);
  Normalise out;
  const bool normal = fields.boolean("do_normalize", true);
  for (size_t c = 0; c < 3; ++c) {
    out.scale[c] = static_cast<float>(normal ? scale / deviation[c] : scale);
    out.shift[c] = static_cast<float>(normal ? -mean[c] / deviation[c] : 0.0);
  }
  return out;
}

void require_switch(const Fields& fields, std::string_view key, bool wanted, bool otherwise) {
  if (fields.boolean(key, otherwise) == wanted) return;
  fields.fail(key, wanted ? "is false; only true is supported for this family"
                          : "is true; only false is supported for this family");
}

}  // namespace troupe::vision
