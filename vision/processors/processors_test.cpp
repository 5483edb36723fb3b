// The processors against transformers' Pillow classes: tests/golden/vision/processors.json. Patches
// are taken back to the 8-bit levels that they came from, which must be equal to the last one.
#include "vision/processors/processors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vision/processors/settings.hpp"
#include "vision/test_pictures.hpp"

namespace troupe::vision {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json golden() {
  std::ifstream file("tests/golden/vision/processors.json");
  return json::parse(file)["cases"];
}

class Folder {
 public:
  explicit Folder(const json& files) {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-vision-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
    for (const auto& [file, content] : files.items()) {
      std::ofstream(path_ + "/" + file)
          << (content.is_string() ? content.get<std::string>() : content.dump());
    }
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int64_t count_of(const std::string& text, const std::string& token) {
  int64_t n = 0;
  for (size_t at = text.find(token); at != std::string::npos; at = text.find(token, at + 1)) ++n;
  return n;
}

struct Patches {
  std::vector<double> values;
  size_t columns = 0;
  Normalise normalise;
  // The levels 0..255 that the values stand for.
  [[nodiscard]] std::vector<uint8_t> levels() const {
    std::vector<uint8_t> out;
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t c = i % columns / (columns / 3);
      const double level = (values[i] - normalise.shift[c]) / normalise.scale[c];
      EXPECT_LT(std::abs(level - std::nearbyint(level)), 1e-2);
      out.push_back(static_cast<uint8_t>(std::nearbyint(level)));
    }
    return out;
  }
};

Patches prepared(const Processor& processor, const Image& image, const PictureLayout& layout) {
  Patches out;
  for (size_t i = 0; i < layout.tiles.size(); ++i) {
    const auto tile = processor.prepare(image, layout, static_cast<int32_t>(i));
    EXPECT_TRUE(tile.ok()) << tile.status().message();
    if (!tile.ok()) return out;
    EXPECT_EQ(tile->index, static_cast<int32_t>(i));
    EXPECT_EQ(tile->grid.rows, layout.tiles[i].rows);
    EXPECT_EQ(tile->grid.columns, layout.tiles[i].columns);
    EXPECT_EQ(tile->patches.size(), static_cast<size_t>(tile->grid.patches() * tile->patch_values));
    out.columns = static_cast<size_t>(tile->patch_values);
    out.values.insert(out.values.end(), tile->patches.begin(), tile->patches.end());
  }
  return out;
}

void check_picture(const OpenedProcessor& opened, const Normalise& normalise, const json& p) {
  const int32_t width = p["size"][0], height = p["size"][1];
  const Image image = drawn_picture(width, height, 3);
  const auto layout = opened.processor->layout(width, height);
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  EXPECT_EQ(layout->prompt.size(), p["prompt_bytes"].get<size_t>());
  EXPECT_EQ(
      checksum({reinterpret_cast<const uint8_t*>(layout->prompt.data()), layout->prompt.size()}),
      p["prompt_crc"].get<uint32_t>());
  EXPECT_EQ(count_of(layout->prompt, opened.image_token), p["image_tokens"].get<int64_t>());
  if (p.contains("rows")) {
    EXPECT_EQ(layout->shown > 0 ? layout->shown : layout->rows, p["rows"].get<int32_t>());
  } else {
    EXPECT_EQ(layout->rows, p["image_tokens"].get<int32_t>());
  }
  if (p.contains("tiles")) {
    int64_t tiles = 0;  // Mllama's are frames of one job
    for (const PatchGrid& grid : layout->tiles) tiles += grid.frames;
    EXPECT_EQ(tiles, p["tiles"].get<int64_t>());
  }
  if (p.contains("aspect")) {
    const auto tile = opened.processor->prepare(image, *layout, 0);
    EXPECT_EQ(tile->aspect, p["aspect"].get<int32_t>());
  }
  if (p.contains("rope")) {
    EXPECT_EQ(layout->rope_frames, p["rope"][0].get<int32_t>());
    EXPECT_EQ(layout->rope_rows, p["rope"][1].get<int32_t>());
    EXPECT_EQ(layout->rope_columns, p["rope"][2].get<int32_t>());
  }
  Patches patches = prepared(*opened.processor, image, *layout);
  patches.normalise = normalise;
  ASSERT_EQ(patches.columns, p["patches"][1].get<size_t>());
  ASSERT_EQ(patches.values.size(), p["patches"][0].get<size_t>() * patches.columns);
  EXPECT_EQ(checksum(patches.levels()), p["crc"].get<uint32_t>());
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(patches.values[i], p["first"][i].get<double>(), 1e-5);
  double sum = 0;
  for (const double v : patches.values) sum += v;
  EXPECT_NEAR(sum / static_cast<double>(patches.values.size()),
              p["sum"].get<double>() / static_cast<double>(patches.values.size()), 1e-5);
}

Normalise normalise_of(const Folder& folder) {
  const auto files = ProcessorFiles::read(folder.path());
  const std::string type = files->model.text("model_type", "");
  const bool half = type == "gemma3" || type == "idefics3" || type == "smolvlm" ||
                    type == "mllama" || type == "minicpmv";
  return read_normalise(files->image, half                      ? kHalfDefaults
                                      : type == "internvl_chat" ? kImageNetDefaults
                                                                : kClipDefaults);
}

TEST(Processors, EqualTransformers) {
  const json all = golden();
  ASSERT_GT(all.size(), 8U);
  for (const json& c : all) {
    const Folder folder(c["files"]);
    const auto opened = open_processor(folder.path());
    ASSERT_TRUE(opened.ok()) << c["name"] << ": " << opened.status().message();
    for (const json& p : c["pictures"]) {
      SCOPED_TRACE(c["name"].get<std::string>() + " " + p["size"].dump());
      check_picture(*opened, normalise_of(folder), p);
    }
  }
}

TEST(Processors, CountTheTokensOfAnySize) {
  for (const json& c : golden()) {
    if (!c.contains("counts")) continue;
    const Folder folder(c["files"]);
    const auto opened = open_processor(folder.path());
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    for (const json& size : c["counts"]) {
      const auto layout = opened->processor->layout(size[0], size[1]);
      EXPECT_EQ(layout.ok() ? layout->rows : -1, size[2].get<int32_t>())
          << c["name"] << " " << size.dump();
      if (!layout.ok()) continue;
      EXPECT_EQ(count_of(layout->prompt, opened->image_token), layout->rows);
    }
  }
}

std::string problem(const json& files) {
  const Folder folder(files);
  const auto opened = open_processor(folder.path());
  return opened.ok() ? "" : opened.status().message();
}

TEST(Processors, SayWhatIsWrongWithTheirSettings) {
  const json llava = {{"model_type", "llava"}, {"vision_config", {{"patch_size", 14}}}};
  EXPECT_THAT(problem({{"config.json", {{"model_type", "llama"}}}}),
              HasSubstr("model_type llama has no image processor"));
  EXPECT_THAT(problem({{"config.json", llava}, {"preprocessor_config.json", {{"resample", 9}}}}),
              HasSubstr("preprocessor_config.json: resample must be from 0 to 5, is 9"));
  EXPECT_THAT(problem({{"config.json", llava}, {"preprocessor_config.json", {{"crop_size", 225}}}}),
              HasSubstr("crop_size is 225x225, no multiple of patches of 14"));
  EXPECT_THAT(
      problem({{"config.json", llava}, {"preprocessor_config.json", {{"image_std", {0, 1, 1}}}}}),
      HasSubstr("image_std must hold numbers from"));
  EXPECT_THAT(
      problem({{"config.json", llava}, {"preprocessor_config.json", {{"image_mean", {0, 1}}}}}),
      HasSubstr("image_mean must be 3 numbers"));
  EXPECT_THAT(problem({{"config.json", llava}, {"preprocessor_config.json", "[1, 2]"}}),
              HasSubstr("preprocessor_config.json: must hold a JSON object"));
  EXPECT_THAT(
      problem(
          {{"config.json", {{"model_type", "llava_next"}, {"vision_config", {{"patch_size", 14}}}}},
           {"preprocessor_config.json",
            {{"image_grid_pinpoints", {{336, 300}}}, {"size", 336}, {"crop_size", 336}}}}),
      HasSubstr("image_grid_pinpoints must be"));
  EXPECT_THAT(problem({{"config.json", {{"model_type", "qwen2_vl"}}},
                       {"preprocessor_config.json", {{"min_pixels", 500}, {"max_pixels", 400}}}}),
              HasSubstr("min_pixels is more than max_pixels"));
}

// Rows of a tile beyond what an int32 holds, of which the low half looks like any number.
TEST(Processors, SayThatATileIsFarTooLarge) {
  const json huge = {{"height", 960'000}, {"width", 960'000}};
  const auto model = [](const char* type) {
    return json{{"model_type", type}, {"vision_config", {{"model_type", "x"}, {"patch_size", 8}}}};
  };
  EXPECT_THAT(problem({{"config.json", model("internvl")}, {"preprocessor_config.json", {{"size", huge}}}}),
              HasSubstr("preprocessor_config.json: size makes 3600000000 rows of a tile, the limit is 1048576"));
  EXPECT_THAT(problem({{"config.json", model("llava")},
                       {"preprocessor_config.json", {{"size", 336}, {"crop_size", huge}}}}),
              HasSubstr("crop_size makes 14400000000 rows of a tile"));
  json fine = model("idefics3");
  fine["vision_config"]["patch_size"] = 1;
  fine["scale_factor"] = 1;
  EXPECT_THAT(problem({{"config.json", fine},
                       {"preprocessor_config.json", {{"max_image_size", {{"longest_edge", 65'536}}}}}}),
              HasSubstr("max_image_size makes 4294967296 rows of a tile"));
}

TEST(Processors, SayWhatIsWrongWithAPicture) {
  const Folder folder(json{{"config.json", {{"model_type", "qwen2_vl"}}}});
  const auto opened = open_processor(folder.path());
  ASSERT_TRUE(opened.ok());
  EXPECT_THAT(opened->processor->layout(0, 5).status().message(), HasSubstr("0x5 pixels"));
  EXPECT_THAT(opened->processor->layout(9000, 20).status().message(), HasSubstr("200 times"));
  const auto layout = opened->processor->layout(64, 48);
  EXPECT_FALSE(opened->processor->prepare(drawn_picture(63, 48), *layout, 0).ok());
  EXPECT_FALSE(opened->processor->prepare(drawn_picture(64, 48), *layout, 1).ok());
  EXPECT_FALSE(opened->processor->prepare(drawn_picture(64, 48), *layout, -1).ok());
}

// Frames that are all alike give the patches of a still picture, at every step in time.
TEST(Processors, AVideoIsPairsOfFrames) {
  const json limits = {{"min_pixels", 784}, {"max_pixels", 7840}};
  const Folder folder(json{{"config.json", {{"model_type", "qwen2_5_vl"}}},
                           {"preprocessor_config.json", limits},
                           {"video_preprocessor_config.json", limits}});
  const auto opened = open_processor(folder.path());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const Processor& processor = *opened->processor;
  const auto layout = processor.layout_video(5, 90, 60);
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  EXPECT_EQ(layout->tiles.size(), 3U);
  EXPECT_EQ(layout->rope_frames, 3);
  EXPECT_EQ(layout->rows, 3 * layout->rope_rows * layout->rope_columns);
  const Image a = drawn_picture(90, 60, 1), b = drawn_picture(90, 60, 2);
  const std::vector<Image> frames = {a, b, b, b, a};
  const auto still = processor.layout(90, 60);
  const auto still_a = processor.prepare(a, *still, 0), still_b = processor.prepare(b, *still, 0);
  const auto mixed = processor.prepare_video(frames, *layout, 0);
  const auto alike = processor.prepare_video(frames, *layout, 1);
  const auto last = processor.prepare_video(frames, *layout, 2);
  ASSERT_TRUE(mixed.ok() && alike.ok() && last.ok());
  EXPECT_EQ(alike->patches, still_b->patches);
  EXPECT_EQ(last->patches, still_a->patches);
  EXPECT_EQ(last->index, 2);
  for (size_t i = 0; i < mixed->patches.size(); ++i) {
    const bool first = i % (2 * 14 * 14) < 14 * 14;
    ASSERT_EQ(mixed->patches[i], (first ? still_a : still_b)->patches[i]) << i;
  }
  EXPECT_FALSE(processor.prepare_video(frames, *layout, 3).ok());
  EXPECT_FALSE(processor.layout_video(0, 90, 60).ok());
  const std::vector<Image> odd = {a, drawn_picture(90, 61)};
  EXPECT_THAT(
      processor.prepare_video(odd, *processor.layout_video(2, 90, 60), 0).status().message(),
      HasSubstr("frame 1 of the video has 90x61 pixels"));
  const Folder other(json{{"config.json", {{"model_type", "gemma3"}}}});
  EXPECT_EQ(open_processor(other.path())->processor->layout_video(2, 9, 9).status().code(),
            Code::unsupported);
}

TEST(Processors, PicturesAreNumberedWhereTheFamilyDoes) {
  const Folder folder(json{{"config.json", {{"model_type", "minicpmv"}}}});
  const auto opened = open_processor(folder.path());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const auto layout = opened->processor->layout(50, 50);
  EXPECT_THAT(prompt_of(*layout, 12), ::testing::StartsWith("<image_id>12</image_id><image><unk>"));
  PictureLayout plain;
  plain.prompt = "<image>";
  EXPECT_EQ(prompt_of(plain, 3), "<image>");
}

TEST(Processors, HashesTellSettingsApart) {
  const json model = {{"model_type", "qwen2_vl"}};
  const Folder a(json{{"config.json", model}});
  const Folder b(
      json{{"config.json", model}, {"preprocessor_config.json", {{"max_pixels", 99999}}}});
  EXPECT_EQ(open_processor(a.path())->processor->hash(),
            open_processor(a.path())->processor->hash());
  EXPECT_NE(open_processor(a.path())->processor->hash(),
            open_processor(b.path())->processor->hash());
}

}  // namespace
}  // namespace troupe::vision
