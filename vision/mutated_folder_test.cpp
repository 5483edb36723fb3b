// Every field of the JSON of a model with eyes, turned into what it must not be: opening names file and
// field, or every picture gets a layout within bounds, or words why not, and its patches are made.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>

#include "models/test_folder.hpp"
#include "text/mutations.hpp"
#include "vision/folder.hpp"

namespace troupe::vision {
namespace {

using json = nlohmann::ordered_json;
using Path = json::json_pointer;
using models::testing::TestFolder;

constexpr std::pair<int32_t, int32_t> kSizes[] = {{1, 1}, {3000, 7}, {640, 480}, {31, 4000}, {8192, 8192}};

long peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

// A layout is what the scheduler plans by: whatever the files say, it stays within what one picture may be.
void look_at_pictures(const Processor& processor, const std::string& what) {
  for (const auto& [width, height] : kSizes) {
    const auto layout = processor.layout(width, height);
    if (!layout.ok()) {
      EXPECT_NE(layout.status().code(), Code::internal) << what << "\n" << layout.status().message();
      continue;
    }
    int64_t patches = 0;
    for (const PatchGrid& grid : layout->tiles) patches += grid.patches();
    EXPECT_GT(layout->tiles.size(), 0U) << what;
    EXPECT_GT(layout->rows, 0) << what;
    EXPECT_GT(patches, 0) << what;
    EXPECT_LT(patches, 1 << 22) << what << " " << width << " x " << height;
    EXPECT_LT(layout->prompt.size(), 1U << 24) << what;
    if (width != 640 || patches > 1 << 14) continue;
    Image image;
    image.width = width;
    image.height = height;
    image.rgb.assign(static_cast<size_t>(width) * static_cast<size_t>(height) * 3, uint8_t{90});
    const auto tile = processor.prepare(image, *layout, 0);
    EXPECT_NE(tile.status().code(), Code::internal) << what << tile.status().message();
  }
}

class MutatedEyes : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(MutatedEyes, AreRefusedByFieldOrSee) {
  const auto [golden, file] = GetParam();
  const TestFolder folder(std::string("tests/golden/vision/models/") + golden);
  const json whole = json::parse(folder.read(file));
  std::vector<Path> fields;
  text::collect_fields(whole, Path(), fields);
  models::LoadOptions options;
  options.format = models::LoadFormat::dummy;
  const long before_mib = peak_mib();
  int refused = 0, opened = 0;
  for (const Path& at : fields) {
    for (const json& value : text::wrong_values()) {
      if (value == whole[at]) continue;
      json mutated = whole;
      mutated[at] = value;
      folder.write(file, mutated.dump());
      const std::string what = std::string(golden) + " " + file + at.to_string() + " = " + value.dump();
      const auto begin = std::chrono::steady_clock::now();
      const auto folder_opened = OpenedFolder::open_folder(folder.path(), options);
      if (!folder_opened.ok()) {
        ++refused;
        EXPECT_NE(folder_opened.status().message().find(".json"), std::string::npos)
            << what << "\n" << folder_opened.status().message();
        EXPECT_NE(folder_opened.status().code(), Code::internal) << what;
      } else if (*folder_opened != nullptr) {
        ++opened;
        look_at_pictures((*folder_opened)->processor(), what);
      }
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << what;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(opened, 0);
  EXPECT_LT(peak_mib() - before_mib, 1024);
}

std::vector<std::pair<const char*, const char*>> files() {
  std::vector<std::pair<const char*, const char*>> out;
  for (const char* golden : {"cogvlm2", "gemma3", "idefics3", "internvl", "llava", "llava-next", "minicpmv",
                             "mllama", "pixtral", "qwen2-vl", "qwen2-5-vl"}) {
    out.emplace_back(golden, "config.json");
    if (golden != std::string("cogvlm2")) out.emplace_back(golden, "preprocessor_config.json");  // it has none to read
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Goldens, MutatedEyes, testing::ValuesIn(files()), [](const auto& golden) {
  std::string name = std::string(golden.param.first) + "_" + golden.param.second;
  for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace troupe::vision
