// Every golden vision-language model through scheduler, vision core and executor core on the CPU: the
// tokens that the reference gave, whatever the engine does on the way to them: alone, among text,
// prompts in chunks, pictures that come late, prefixes found, preemptions, overlapped or not. And from
// the bytes of picture files, through decoder and processor (tests/golden/vision/pictures.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/golden_engine.hpp"
#include "engine/vision_core.hpp"
#include "models/golden_folders.hpp"
#include "vision/decode.hpp"
#include "vision/eyes.hpp"
#include "vision/golden_weights.hpp"
#include "vision/prompt.hpp"

namespace troupe::engine {
namespace {

using nlohmann::json;
constexpr const char* kFiles = "tests/golden/vision/files/";
using models::testing::expected_of;
using models::testing::golden_names;
using models::testing::kGoldenEyes;
using testing::kBlockTokens;

struct Case {
  Prompt prompt;  // pictures ready
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
};

// The golden folder with its cases, pictures encoded.
class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string golden = std::string(kGoldenEyes) + "/" + GetParam();
    folder_ = vision::testing::grow(golden);
    expected_ = expected_of(golden);
    options_.block_tokens = kBlockTokens;
    auto text = models::ModelFolder::open(folder_->path(), options_);
    ASSERT_TRUE(text.ok()) << text.status().message();
    text_ = *text;
    auto eyes = vision::VisionFolder::open(folder_->path(), options_);
    ASSERT_TRUE(eyes.ok()) << eyes.status().message();
    eyes_ = *eyes;
    std::shared_ptr<Backend> backend = cpu::open_cpu_backend({.threads = 1, .device = 1, .cores = {}}).value();
    auto tower = vision::VisionModel::load(eyes_, *backend, options_);
    ASSERT_TRUE(tower.ok()) << tower.status().message();
    core_ = std::make_unique<VisionCore>(backend, std::move(tower).value(),
                                         VisionCore::Shape{eyes_->rules().hidden, DType::f32, 1 << 16});
    for (const json& c : expected_["cases"]) {
      std::vector<Seen> seen;
      for (const json& p : c["pictures"]) {
        const std::string name =
            "case " + std::to_string(cases_.size()) + " picture " + std::to_string(seen.size());
        seen.push_back(drawn(p, name));
      }
      ASSERT_NO_FATAL_FAILURE(add_case(c, seen, cases_));
    }
  }

  struct Seen {
    vision::PictureLayout layout;
    std::vector<vision::Tile> tiles;
  };

  // A picture whose patches are a function of its name.
  Seen drawn(const json& p, const std::string& name) const {
    Seen out{vision::testing::layout_of(p), {}};
    for (const vision::PatchGrid& grid : out.layout.tiles) {
      vision::Tile tile;
      tile.grid = grid;
      tile.patch_values = expected_["patch_values"];
      tile.index = static_cast<int32_t>(out.tiles.size());
      tile.aspect = p["aspect"];
      const auto count = static_cast<size_t>(tile.grid.patches() * tile.patch_values);
      const auto values = vision::testing::draw(
          expected_["seed"], name + " tile " + std::to_string(tile.index), count, 0.0F, 1.0F);
      tile.patches.assign(values.begin(), values.end());
      out.tiles.push_back(std::move(tile));
    }
    return out;
  }

  // A picture file as a user would give it.
  void read_file(const std::string& path, Seen& out) const {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const auto image = vision::decode(std::as_bytes(std::span(bytes)), {});
    ASSERT_TRUE(image.ok()) << path << ": " << image.status().message();
    const auto layout = eyes_->processor().layout(image->width, image->height);
    ASSERT_TRUE(layout.ok()) << path << ": " << layout.status().message();
    out.layout = *layout;
    for (size_t t = 0; t < layout->tiles.size(); ++t) {
      auto tile = eyes_->processor().prepare(*image, *layout, static_cast<int32_t>(t));
      ASSERT_TRUE(tile.ok()) << path << ": " << tile.status().message();
      out.tiles.push_back(std::move(tile).value());
    }
  }

  void add_case(const json& c, const std::vector<Seen>& seen, std::vector<Case>& cases) {
    Case out;
    out.prompt.tokens = c["prompt"].get<std::vector<int32_t>>();
    out.tokens = c["tokens"].get<std::vector<int32_t>>();
    out.logprobs = c["logprobs"].get<std::vector<float>>();
    std::vector<vision::PictureLayout> layouts;
    std::vector<PromptImage> pictures;
    for (const Seen& s : seen) {
      layouts.push_back(s.layout);
      PromptImage image;
      image.embedding = 1 + cases.size() * 100 + pictures.size();
      image.content = {image.embedding, 7};
      ASSERT_NO_FATAL_FAILURE(look(s, image.data));
      pictures.push_back(image);
    }
    const auto places = vision::lay_out_prompt(eyes_->rules(), out.prompt.tokens, layouts);
    ASSERT_TRUE(places.ok()) << places.status().message();
    place(*places, pictures, layouts, out.prompt);
    cases.push_back(std::move(out));
  }

  void look(const Seen& seen, EmbeddingPtr& rows) {
    std::vector<EmbeddingPtr> parts;
    for (const vision::Tile& tile : seen.tiles) {
      auto encoded = core_->encode(std::span(&tile, 1));
      ASSERT_TRUE(encoded.ok()) << encoded.status().message();
      parts.push_back(encoded->at(0));
    }
    auto joined = core_->join(seen.layout, parts);
    ASSERT_TRUE(joined.ok()) << joined.status().message();
    rows = *joined;
  }

  void place(const vision::PromptPlaces& places, const std::vector<PromptImage>& pictures,
             const std::vector<vision::PictureLayout>& layouts, Prompt& prompt) const {
    for (const vision::Place& p : places.places) {
      PromptImage image = pictures[static_cast<size_t>(p.image)];
      image.position = p.position;
      image.rows = p.rows;
      image.source_row = p.source_row;
      prompt.images.push_back(image);
    }
    prompt.rope_positions = places.rope_positions;
    prompt.rope_delta = places.rope_delta;
    prompt.modality = places.modality;
    prompt.span_ends = places.span_ends;
    prompt.cross_rows = places.cross_rows;
    for (const vision::CrossSpan& c : places.cross) prompt.cross.push_back({c.begin, c.end});
    int32_t row = 0;
    for (size_t p = 0; p < prompt.tokens.size() && !places.cross.empty(); ++p) {
      if (prompt.tokens[p] != eyes_->rules().image_token) continue;
      const size_t index = prompt.cross_images.size();
      PromptImage image = pictures[index];
      image.position = static_cast<int32_t>(p);
      image.rows = layouts[index].rows;
      image.source_row = row;
      row += image.rows;
      prompt.cross_images.push_back(image);
    }
  }

  [[nodiscard]] int32_t longest() const {
    int32_t tokens = 0;
    for (const Case& c : cases_) tokens = std::max(tokens, c.prompt.length() + static_cast<int32_t>(c.tokens.size()));
    return tokens;
  }
  [[nodiscard]] int32_t longest_span() const {
    int32_t span = 1;
    for (const Case& c : cases_) span = std::max(span, c.prompt.longest_span());
    return span;
  }

  std::unique_ptr<models::testing::TestFolder> folder_;
  models::LoadOptions options_;
  std::shared_ptr<const models::ModelFolder> text_;
  std::shared_ptr<const vision::VisionFolder> eyes_;
  std::unique_ptr<VisionCore> core_;
  json expected_;
  std::vector<Case> cases_;
};

class Engine : public testing::GoldenEngine {
 public:
  using GoldenEngine::GoldenEngine;

  void submit(uint64_t id, const Case& c, bool late = false) {
    Prompt prompt = c.prompt;
    for (auto* images : {&prompt.images, &prompt.cross_images}) {
      for (PromptImage& image : *images) {
        if (known_.insert(image.embedding).second) {
          ASSERT_TRUE(executor().put_embedding(image.embedding, image.data->rows).ok());
        }
        image.ready = !late;
        if (late) waits_.push_back({id, image.embedding});
      }
    }
    GoldenEngine::submit(id, std::move(prompt), static_cast<int32_t>(c.tokens.size()));
  }

  void run() {
    GoldenEngine::run([this] {
      if (waits_.empty()) return;
      scheduler().embedding_ready(waits_.back().first, waits_.back().second);  // the last one first
      waits_.pop_back();
    });
  }
  void expect(uint64_t id, const Case& wanted, const std::string& what) {
    GoldenEngine::expect(id, wanted.tokens, wanted.logprobs, what);
  }

 private:
  std::set<uint64_t> known_;
  std::vector<std::pair<uint64_t, uint64_t>> waits_;
};

TEST_P(Golden, AloneAndTogetherWithAndWithoutOverlap) {
  for (const bool overlap : {true, false}) {
    Engine engine(text_, options_, {.overlap = overlap, .step_rows = 512, .slots = 8, .blocks = 512});
    for (size_t i = 0; i < cases_.size(); ++i) {
      engine.submit(1 + i, cases_[i]);
      engine.run();
      engine.expect(1 + i, cases_[i], "alone");
    }
    for (size_t i = 0; i < 2 * cases_.size(); ++i) engine.submit(101 + i, cases_[i % cases_.size()]);
    engine.run();
    for (size_t i = 0; i < 2 * cases_.size(); ++i) {
      engine.expect(101 + i, cases_[i % cases_.size()], "together");
    }
  }
}

TEST_P(Golden, InChunksWhilePicturesComeLate) {
  Engine engine(text_, options_, {.step_rows = 8 + std::max(13, longest_span()), .slots = 8, .blocks = 512});
  for (size_t i = 0; i < 2 * cases_.size(); ++i) {
    engine.submit(1 + i, cases_[i % cases_.size()], i % 2 == 0);
  }
  engine.run();
  for (size_t i = 0; i < 2 * cases_.size(); ++i) {
    engine.expect(1 + i, cases_[i % cases_.size()], "late " + std::to_string(i));
  }
}

TEST_P(Golden, FromTheCache) {
  Engine engine(text_, options_, {.prefix_reuse = true, .step_rows = 512, .slots = 8, .blocks = 512});
  for (const uint64_t first : {1U, 101U}) {
    for (size_t i = 0; i < cases_.size(); ++i) engine.submit(first + i, cases_[i]);
    engine.run();
    for (size_t i = 0; i < cases_.size(); ++i) engine.expect(first + i, cases_[i], "cached");
  }
  for (size_t i = 0; i < cases_.size(); ++i) {
    const int64_t reusable = (cases_[i].prompt.length() - 1) / kBlockTokens * kBlockTokens;
    EXPECT_EQ(engine.cached[101 + i], reusable) << "a picture was read again";
  }
}

// The same ids and another picture: nothing may be found.
TEST_P(Golden, AnotherPictureIsNotFound) {
  const auto seen = std::find_if(cases_.begin(), cases_.end(), [](const Case& c) {
    return !c.prompt.images.empty() || !c.prompt.cross_images.empty();
  });
  ASSERT_NE(seen, cases_.end());
  Engine engine(text_, options_, {.prefix_reuse = true, .step_rows = 512, .slots = 8, .blocks = 512});
  engine.submit(1, *seen);
  engine.run();
  Case other = *seen;
  for (auto* images : {&other.prompt.images, &other.prompt.cross_images}) {
    for (PromptImage& image : *images) image.content.low = 8;
  }
  engine.submit(2, other);
  engine.run();
  const auto& images = seen->prompt.images.empty() ? seen->prompt.cross_images : seen->prompt.images;
  EXPECT_LE(engine.cached[2], images.front().position);
  engine.expect(2, *seen, "another");
}

// What the reference answered about files that went through Pillow and its own processor.
TEST_P(Golden, FromTheBytesOfPictures) {
#ifdef TROUPE_NO_CODECS
  GTEST_SKIP() << "this build decodes no pictures (TROUPE_CODECS=none)";
#endif
  std::ifstream file("tests/golden/vision/pictures.json");
  const json asked = json::parse(file);
  std::vector<Case> cases;
  for (const json& c : asked["cases"]) {
    if (c["model"] != GetParam()) continue;
    std::vector<Seen> seen;
    for (const json& name : c["files"]) {
      seen.emplace_back();
      ASSERT_NO_FATAL_FAILURE(read_file(kFiles + name.get<std::string>(), seen.back()));
    }
    ASSERT_NO_FATAL_FAILURE(add_case(c, seen, cases));
  }
  ASSERT_EQ(cases.size(), 3U) << "tests/golden/vision_pictures.py " << GetParam() << " asks the reference";
  for (const bool reuse : {false, true}) {
    Engine engine(text_, options_, {.prefix_reuse = reuse, .step_rows = 512, .slots = 8, .blocks = 512});
    for (const uint64_t first : {1U, 101U}) {
      for (size_t i = 0; i < cases.size(); ++i) engine.submit(first + i, cases[i]);
      engine.run();
      for (size_t i = 0; i < cases.size(); ++i) engine.expect(first + i, cases[i], "from bytes");
    }
    for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(engine.cached[101 + i] > 0, reuse);
  }
}

TEST_P(Golden, ThroughPreemptions) {
  Engine engine(text_, options_, {.prefix_reuse = true,
                                  .step_rows = 8 + std::max(24, longest_span()),
                                  .slots = 8,
                                  .blocks = longest() / kBlockTokens + 6});
  for (size_t i = 0; i < 3 * cases_.size(); ++i) engine.submit(1 + i, cases_[i % cases_.size()]);
  engine.run();
  for (size_t i = 0; i < 3 * cases_.size(); ++i) {
    engine.expect(1 + i, cases_[i % cases_.size()], "preempted");
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::ValuesIn(golden_names(kGoldenEyes)),
                         models::testing::test_name);

}  // namespace
}  // namespace troupe::engine
