// Every golden vision-language model (tests/golden/vision/models) against the reference: the same patches
// through tower, projector and language model. Tokens and logprobs in f32; likewise in chunks that
// cut pictures, and batched with text; bf16 and f16 teacher-forced.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/cpu/plain/plain_backend.hpp"
#include "models/convert.hpp"
#include "models/golden_cases.hpp"
#include "models/golden_folders.hpp"
#include "models/test_runner.hpp"
#include "vision/folder.hpp"
#include "vision/golden_backend.hpp"
#include "vision/golden_weights.hpp"
#include "vision/processors/processors.hpp"
#include "vision/prompt.hpp"

namespace troupe::vision::testing {
namespace {

using models::testing::expected_of;
using models::testing::golden_names;
using models::testing::kGoldenEyes;
using models::testing::kGoldenForcedTolerance;
using models::testing::kGoldenTolerance;
using models::testing::Piece;
using models::testing::run_case;
using models::testing::run_lanes;
using models::testing::Runner;
using models::testing::Scored;
using nlohmann::json;

// A picture's rows, and what keeps them.
struct Seen {
  PictureLayout layout;
  std::vector<Tile> tiles;
  std::unique_ptr<DeviceBuffer> memory;
  Matrix rows;
};

struct Case {
  json all;
  std::vector<int32_t> prompt, tokens, input, targets;
  std::vector<Seen> pictures;
  PromptPlaces places;
  std::unique_ptr<DeviceBuffer> encoder_memory;
  Matrix encoder_rows;  // of all pictures, for cross-attention

  [[nodiscard]] size_t fed() const { return input.size(); }
  // What the model must be told of the fed tokens [begin, begin + count).
  [[nodiscard]] Piece piece(int32_t sequence, size_t begin, size_t count) const;
};

template <class T>
std::vector<T> cut(const std::vector<T>& all, size_t begin, size_t count) {
  const auto from = all.begin() + static_cast<ptrdiff_t>(begin);
  return {from, from + static_cast<ptrdiff_t>(count)};
}

Piece Case::piece(int32_t sequence, size_t begin, size_t count) const {
  Piece out{.sequence = sequence,
            .prompt_len = static_cast<int32_t>(prompt.size()),
            .tokens = cut(input, begin, count),
            .targets = cut(targets, begin, count),
            .modality = {}};
  const auto first = static_cast<int32_t>(begin), last = static_cast<int32_t>(begin + count);
  for (const Place& p : places.places) {
    const int32_t from = std::max(first, p.position), to = std::min(last, p.position + p.rows);
    if (from >= to) continue;
    out.injects.push_back({.source = pictures[static_cast<size_t>(p.image)].rows,
                           .token = from - first,
                           .count = to - from,
                           .source_row = p.source_row + from - p.position});
  }
  out.cross_len = places.cross_rows;
  if (begin == 0) out.encoder_rows = encoder_rows;
  for (int32_t at = first; at < last; ++at) {
    const auto i = static_cast<size_t>(at);
    if (!places.cross.empty()) {
      const CrossSpan& seen = places.cross[std::min(i, places.cross.size() - 1)];
      out.cross_spans.insert(out.cross_spans.end(), {seen.begin, seen.end});
    }
    const bool prompted = i < prompt.size();
    if (!places.modality.empty()) out.modality.push_back(prompted ? places.modality[i] : 0);
    if (!places.span_ends.empty()) {
      out.span_ends.push_back(prompted ? places.span_ends[i] : at + 1);
    }
    for (size_t axis = 0; axis < 3 && !places.rope_positions.empty(); ++axis) {
      out.rope.push_back(prompted ? places.rope_positions[3 * i + axis] : at + places.rope_delta);
    }
  }
  return out;
}

// One golden model with its two halves on backends of their own.
class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    static const bool there = open_golden_backend() != nullptr;
    if (!there) GTEST_SKIP() << "no CUDA device on this machine";
  }
  void open(const std::string& dtype, std::unique_ptr<Backend> first,
            std::unique_ptr<Backend> second) {
    language_ = std::move(first);
    vision_ = std::move(second);
    const std::string golden = std::string(kGoldenEyes) + "/" + GetParam();
    folder_ = grow(golden);
    expected_ = expected_of(golden);
    models::LoadOptions options;
    options.block_tokens = 8;
    options.dtype = dtype;
    auto text = models::ModelFolder::open(folder_->path(), options);
    ASSERT_TRUE(text.ok()) << text.status().message();
    EXPECT_TRUE((*text)->facts().vision);
    auto runner = Runner::open(*text, *language_, nullptr, options);
    ASSERT_TRUE(runner.ok()) << runner.status().message();
    runner_ = std::move(runner).value();
    auto eyes = OpenedFolder::open_tower(folder_->path(), options);
    ASSERT_TRUE(eyes.ok()) << eyes.status().message();
    ASSERT_NE(*eyes, nullptr);
    eyes_ = *eyes;
    type_ = vision_->activation_dtype((*text)->facts().dtype);
    rules_ = eyes_->rules();
    const int32_t token = expected_["image_token"];
    if (rules_.image_token < 0) rules_.image_token = token;  // named by the tokenizer
    EXPECT_EQ(rules_.image_token, token);
    auto model = VisionModel::load(eyes_, *vision_, options);
    ASSERT_TRUE(model.ok()) << model.status().message();
    tower_ = std::move(model).value();
    int32_t index = 0;
    for (const json& c : expected_["cases"]) cases_.push_back(read_case(c, index++));
  }

  Case read_case(const json& c, int32_t index) {
    Case out;
    out.all = c;
    out.prompt = c["prompt"].get<std::vector<int32_t>>();
    out.tokens = c["tokens"].get<std::vector<int32_t>>();
    out.input = out.prompt;
    out.input.insert(out.input.end(), out.tokens.begin(), out.tokens.end() - 1);
    out.targets.assign(out.prompt.size() - 1, -1);
    out.targets.insert(out.targets.end(), out.tokens.begin(), out.tokens.end());
    std::vector<PictureLayout> layouts;
    for (const json& p : c["pictures"]) {
      Seen seen;
      seen.layout = layout_of(p);
      const std::string prefix =
          "case " + std::to_string(index) + " picture " + std::to_string(out.pictures.size());
      for (size_t t = 0; t < seen.layout.tiles.size(); ++t) {
        seen.tiles.push_back(tile_of(seen.layout, prefix, t));
        seen.tiles.back().aspect = p["aspect"];
      }
      layouts.push_back(seen.layout);
      out.pictures.push_back(std::move(seen));
    }
    auto places = lay_out_prompt(rules_, out.prompt, layouts);
    EXPECT_TRUE(places.ok()) << places.status().message();
    if (places.ok()) out.places = std::move(places).value();
    return out;
  }

  Tile tile_of(const PictureLayout& layout, const std::string& prefix, size_t index) {
    Tile tile;
    tile.grid = layout.tiles[index];
    tile.patch_values = expected_["patch_values"];
    tile.index = static_cast<int32_t>(index);
    const size_t count = static_cast<size_t>(tile.grid.patches() * tile.patch_values);
    const auto values = draw(expected_["seed"], prefix + " tile " + std::to_string(index), count,
                             0.0F, 1.0F);
    tile.patches = {values.begin(), values.end()};
    return tile;
  }

  // Encodes every picture; `reserve` patches at a time.
  void look(int64_t reserve) {
    ASSERT_TRUE(tower_->reserve(reserve).ok());
    for (Case& c : cases_) {
      for (Seen& seen : c.pictures) ASSERT_NO_FATAL_FAILURE(look_at(seen));
      if (c.places.cross_rows > 0) stack(c);
    }
  }

  // Encoder rows of all pictures, one below the other.
  void stack(Case& c) {
    std::vector<std::byte> rows;
    for (const Seen& seen : c.pictures) {
      const size_t at = rows.size();
      rows.resize(at + seen.rows.bytes());
      ASSERT_TRUE(vision_->download(rows.data() + at, seen.rows.data, seen.rows.bytes()).ok());
    }
    c.encoder_rows = make_rows(c.places.cross_rows, c.encoder_memory);
    ASSERT_EQ(rows.size(), c.encoder_rows.bytes());
    ASSERT_TRUE(vision_->upload(c.encoder_rows.data, rows.data(), rows.size()).ok());
    ASSERT_TRUE(vision_->synchronize().ok());
  }

  Matrix make_rows(int64_t rows, std::unique_ptr<DeviceBuffer>& memory) {
    const int32_t hidden = eyes_->rules().hidden;
    const size_t bytes = static_cast<size_t>(rows * hidden) * dtype_bytes(type_);
    auto made = vision_->allocate(std::max<size_t>(bytes, 4), "rows");
    EXPECT_TRUE(made.ok());
    if (!made.ok()) return {};
    memory = std::move(made).value();
    return {memory->data(), type_, rows, hidden, hidden};
  }

  void look_at(Seen& seen) {
    std::vector<std::unique_ptr<DeviceBuffer>> memory(seen.tiles.size());
    std::vector<Matrix> tiles;
    for (const Tile& t : seen.tiles) {
      tiles.push_back(make_rows(tower_->rows_of(t.grid), memory[tiles.size()]));
    }
    const Status encoded = tower_->encode(seen.tiles, tiles);
    ASSERT_TRUE(encoded.ok()) << encoded.message();
    seen.rows = make_rows(seen.layout.rows, seen.memory);
    const Status status = tower_->join(seen.layout, tiles, seen.rows);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_TRUE(vision_->synchronize().ok());
  }

  void check(const Case& c, const Scored& got, size_t at) const {
    ASSERT_LT(at, c.tokens.size());
    EXPECT_EQ(got.best, c.tokens[at]) << c.all["name"] << " token " << at;
    EXPECT_NEAR(got.logprob, c.all["logprobs"][at].get<float>(), kGoldenTolerance)
        << c.all["name"] << " token " << at;
    const json& top = c.all["top"][at];
    ASSERT_EQ(got.top.size(), top.size());
    for (size_t k = 0; k < top.size(); ++k) {
      EXPECT_NEAR(got.top[k].logprob, top[k][1].get<float>(), kGoldenTolerance) << c.all["name"];
    }
  }

  // Whether a chunk may end inside a picture: not where its rows look at those behind them.
  [[nodiscard]] bool cuts() const { return eyes_->rules().sight != Sight::bidirectional; }

  std::unique_ptr<models::testing::TestFolder> folder_;
  std::unique_ptr<Backend> language_, vision_;
  std::unique_ptr<Runner> runner_;
  std::shared_ptr<const VisionFolder> eyes_;
  PromptRules rules_;
  DType type_ = DType::f32;  // of the rows
  std::unique_ptr<VisionModel> tower_;
  json expected_;
  std::vector<Case> cases_;
};

TEST_P(Golden, F32TokensAndLogprobs) {
  ASSERT_NO_FATAL_FAILURE(open("auto", open_golden_backend(), open_golden_backend()));
  ASSERT_NO_FATAL_FAILURE(look(4096));
  size_t pictures = 0;
  for (const Case& c : cases_) {
    const auto got = run_case(*runner_, c, 1000);
    ASSERT_EQ(got.size(), c.tokens.size());
    for (size_t i = 0; i < got.size(); ++i) check(c, got[i], i);
    pictures += c.pictures.size();
  }
  EXPECT_GT(pictures, 0U);
}

TEST_P(Golden, PlainBackend) {
  ASSERT_NO_FATAL_FAILURE(open("auto", cpu::open_plain_backend(), cpu::open_plain_backend()));
  ASSERT_NO_FATAL_FAILURE(look(4096));
  const Case& c = cases_.at(1);
  const auto got = run_case(*runner_, c, 1000);
  ASSERT_EQ(got.size(), c.tokens.size());
  for (size_t i = 0; i < got.size(); ++i) check(c, got[i], i);
}

TEST_P(Golden, ChunksCutPictures) {
  ASSERT_NO_FATAL_FAILURE(open("auto", open_golden_backend(), open_golden_backend()));
  if (!cuts()) GTEST_SKIP() << "rows of a picture look at those behind them";
  int64_t largest = 0;
  for (const Case& c : cases_) {
    for (const Seen& seen : c.pictures) {
      for (const Tile& t : seen.tiles) largest = std::max(largest, t.grid.patches());
    }
  }
  ASSERT_NO_FATAL_FAILURE(look(largest));  // few tiles at a time
  for (const Case& c : cases_) {
    for (const size_t chunk : {size_t{3}, size_t{16}}) {
      const auto got = run_case(*runner_, c, chunk);
      ASSERT_EQ(got.size(), c.tokens.size());
      for (size_t i = 0; i < got.size(); ++i) check(c, got[i], i);
    }
  }
}

// Every case several times over, starting at different steps: pictures, text, prefill and decode.
TEST_P(Golden, BatchedWithText) {
  ASSERT_NO_FATAL_FAILURE(open("auto", open_golden_backend(), open_golden_backend()));
  ASSERT_NO_FATAL_FAILURE(look(4096));
  run_lanes(
      *runner_, cases_, {.count = 7, .rounds_most = 400},
      [&](size_t lane, size_t prompt) { return cuts() ? 11 + lane : prompt; },
      [&](const Case& c, const Scored& got, size_t at) { check(c, got, at); });
}

TEST_P(Golden, HalfPrecisionTeacherForced) {
  for (const std::string type : {"bf16", "f16"}) {
    cases_.clear();
    ASSERT_NO_FATAL_FAILURE(open(type, open_golden_backend(), open_golden_backend()));
    EXPECT_EQ(runner_->model().facts().dtype, type == "bf16" ? DType::bf16 : DType::f16);
    ASSERT_NO_FATAL_FAILURE(look(4096));
    for (const Case& c : cases_) {
      const json& wanted = c.all["forced"][type];
      const auto got = run_case(*runner_, c, 1000);
      ASSERT_EQ(got.size(), wanted.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i].logprob, wanted[i].get<float>(), kGoldenForcedTolerance)
            << type << " " << c.all["name"];
      }
    }
  }
}

TEST_P(Golden, ATileBeyondWhatWasReservedIsRefused) {
  ASSERT_NO_FATAL_FAILURE(open("auto", open_golden_backend(), open_golden_backend()));
  ASSERT_TRUE(tower_->reserve(1).ok());
  Tile tile = cases_.at(1).pictures.at(0).tiles.at(0);
  tile.grid.frames *= 64;
  tile.patches.resize(static_cast<size_t>(tile.grid.patches() * tile.patch_values), 0.0F);
  std::unique_ptr<DeviceBuffer> memory;
  const Matrix out = make_rows(tower_->rows_of(tile.grid), memory);
  EXPECT_FALSE(tower_->encode({&tile, 1}, {&out, 1}).ok());
}

TEST_P(Golden, WorkAndWeightsAreCounted) {
  ASSERT_NO_FATAL_FAILURE(open("auto", open_golden_backend(), open_golden_backend()));
  EXPECT_GT(eyes_->weight_bytes(), 0);
  const PatchGrid tile = cases_.at(1).pictures.at(0).tiles.at(0).grid;
  const PatchGrid twice{tile.frames * 2, tile.rows, tile.columns};
  EXPECT_GT(eyes_->cost(tile), 1e5);
  EXPECT_GT(eyes_->cost(twice), 1.5 * eyes_->cost(tile));
}

// With its processor, as users open it: the placeholder is there, and the id of its token.
TEST_P(Golden, OpensWithItsProcessor) {
  const auto folder = grow(std::string(kGoldenEyes) + "/" + GetParam());
  std::ifstream file(folder->path() + "/config.json");
  if (!has_processor(json::parse(file).value("model_type", ""))) GTEST_SKIP() << "no processor yet";
  const auto eyes = VisionFolder::open(folder->path(), {});
  ASSERT_TRUE(eyes.ok()) << eyes.status().message();
  const auto image_token = expected_of(folder->path())["image_token"].get<int32_t>();
  EXPECT_EQ((*eyes)->rules().image_token, image_token);
  EXPECT_FALSE((*eyes)->rules().placeholder.empty());
  EXPECT_NE((*eyes)->processor().hash(), 0U);
}

// No weights, no tokenizer: a config.json is enough to run a tower on made-up weights.
TEST_P(Golden, DummyWeights) {
  const std::string golden = std::string(kGoldenEyes) + "/" + GetParam();
  models::testing::TestFolder folder;
  std::ifstream file(golden + "/config.json");
  folder.write("config.json", {std::istreambuf_iterator<char>(file), {}});
  models::LoadOptions options;
  options.format = models::LoadFormat::dummy;
  const auto eyes = OpenedFolder::open_tower(folder.path(), options);
  ASSERT_TRUE(eyes.ok()) << eyes.status().message();
  const auto backend = open_golden_backend();
  auto tower = VisionModel::load(*eyes, *backend, options);
  ASSERT_TRUE(tower.ok()) << tower.status().message();
  ASSERT_TRUE((*tower)->reserve(64).ok());
  Tile tile;
  tile.grid = {1, 4, 4};
  tile.patch_values = (*eyes)->description().tower.patch_values;
  tile.patches.assign(static_cast<size_t>(16 * tile.patch_values), 0.5F);
  const int32_t rows = (*tower)->rows_of(tile.grid), hidden = (*eyes)->rules().hidden;
  std::vector<std::byte> bytes(static_cast<size_t>(rows * hidden) * sizeof(float));
  const auto memory = backend->allocate(bytes.size(), "rows");
  ASSERT_TRUE(memory.ok());
  const DType type = backend->activation_dtype((*eyes)->dtype());
  const Matrix to{(*memory)->data(), type, rows, hidden, hidden};
  const Status status = (*tower)->encode({&tile, 1}, {&to, 1});
  ASSERT_TRUE(status.ok()) << status.message();
  std::vector<float> out(static_cast<size_t>(rows * hidden));
  ASSERT_TRUE((*memory)->read(bytes.data(), 0, bytes.size()).ok());
  models::convert(bytes.data(), type, out.data(), DType::f32, out.size());
  for (const float x : out) ASSERT_TRUE(std::isfinite(x));
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::ValuesIn(golden_names(kGoldenEyes)),
                         models::testing::test_name);

}  // namespace
}  // namespace troupe::vision::testing
