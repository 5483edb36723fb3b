#include "vision/golden_weights.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace troupe::vision::testing {
namespace {

using nlohmann::json;

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

json read(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

}  // namespace

std::vector<float> draw(uint64_t seed, const std::string& name, size_t count, float mean,
                        float deviation) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  const uint64_t key = mix(seed ^ hash);
  const auto spread = static_cast<float>(static_cast<double>(deviation) * std::sqrt(3.0));
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) {
    const auto bits = static_cast<float>(mix(key + i) >> 40U);
    const float unit = bits * 0x1p-23F - 1.0F;
    out[i] = unit * spread + mean;
  }
  return out;
}

std::unique_ptr<models::testing::TestFolder> grow(const std::string& folder) {
  auto out = std::make_unique<models::testing::TestFolder>(folder);
  const json recipe = read(folder + "/weights.json");
  const uint64_t seed = read(folder + "/expected.json")["seed"];
  json header = json::object();
  std::string data;
  for (const auto& [name, spec] : recipe.items()) {
    size_t count = 1;
    for (const json& side : spec[0]) count *= side.get<size_t>();
    const auto values = draw(seed, name, count, spec[1].get<float>(), spec[2].get<float>());
    header[name] = {{"dtype", "F32"},
                    {"shape", spec[0]},
                    {"data_offsets", {data.size(), data.size() + 4 * count}}};
    data.append(reinterpret_cast<const char*>(values.data()), 4 * count);
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  out->write("model.safetensors", bytes + text + data);
  return out;
}

PictureLayout layout_of(const json& p) {
  PictureLayout out;
  out.width = p["width"];
  out.height = p["height"];
  for (const json& grid : p["tiles"]) out.tiles.push_back({grid[0], grid[1], grid[2]});
  out.tile_rows = p["tile_rows"];
  out.tile_columns = p["tile_columns"];
  out.overview = p["overview"];
  out.rows = p["rows"];
  out.shown = p.value("shown", 0);
  out.rope_frames = p["rope"][0];
  out.rope_rows = p["rope"][1];
  out.rope_columns = p["rope"][2];
  return out;
}

}  // namespace troupe::vision::testing
