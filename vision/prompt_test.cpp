#include "vision/prompt.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace troupe::vision {
namespace {

using nlohmann::json;
constexpr int32_t kImage = 99;

PictureLayout picture(int32_t rows) {
  PictureLayout out;
  out.rows = rows;
  return out;
}

TEST(PromptPlaces, RopePositionsAreThoseOfTransformers) {
  std::ifstream file("tests/golden/vision/positions.json");
  const json all = json::parse(file);
  const PromptRules rules{.rope = SightRope::grid, .image_token = all["image_token"]};
  for (const json& c : all["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    std::vector<PictureLayout> pictures;
    for (const json& grid : c["grids"]) {
      PictureLayout p;
      p.rope_frames = grid[0];
      p.rope_rows = grid[1];
      p.rope_columns = grid[2];
      p.rows = p.rope_frames * p.rope_rows * p.rope_columns;
      pictures.push_back(p);
    }
    const std::vector<int32_t> tokens = c["tokens"];
    const auto got = lay_out_prompt(rules, tokens, pictures);
    ASSERT_TRUE(got.ok()) << got.status().message();
    std::vector<int32_t> wanted;
    for (const json& three : c["positions"]) {
      for (const json& one : three) wanted.push_back(one);
    }
    EXPECT_EQ(got->rope_positions, wanted);
    EXPECT_EQ(got->rope_delta, c["rope_delta"].get<int32_t>());
    EXPECT_EQ(got->places.size(), pictures.size());
  }
}

TEST(PromptPlaces, RunsWithinAndAcrossPictures) {
  const PromptRules rules{.image_token = kImage};
  const std::vector<int32_t> tokens = {1, kImage, kImage, 2, kImage, kImage, kImage, 3};
  const std::vector<PictureLayout> pictures = {picture(3), picture(2)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_TRUE(got.ok());
  const std::vector<Place> wanted = {{0, 1, 2, 0}, {0, 4, 1, 2}, {1, 5, 2, 0}};
  EXPECT_EQ(got->places, wanted);
  EXPECT_TRUE(got->rope_positions.empty());
  EXPECT_TRUE(got->modality.empty());
  EXPECT_TRUE(got->span_ends.empty());
}

TEST(PromptPlaces, CountsThatDisagreeAreRefusedWithBoth) {
  const PromptRules rules{.image_token = kImage};
  const std::vector<int32_t> tokens = {1, kImage, kImage, 2};
  const std::vector<PictureLayout> pictures = {picture(3)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_FALSE(got.ok());
  EXPECT_NE(got.status().message().find("2 image tokens (id 99)"), std::string::npos);
  EXPECT_NE(got.status().message().find("want 3"), std::string::npos);
}

TEST(PromptPlaces, TooManyPictures) {
  const PromptRules rules{.image_token = kImage, .images_max = 1};
  const std::vector<int32_t> tokens = {kImage, kImage};
  const std::vector<PictureLayout> pictures = {picture(1), picture(1)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.status().code(), Code::limit);
}

TEST(PromptPlaces, TextAloneNeedsNothing) {
  const PromptRules rules{.sight = Sight::bidirectional, .rope = SightRope::grid, .image_token = 9};
  const std::vector<int32_t> tokens = {1, 2, 3};
  const auto got = lay_out_prompt(rules, tokens, {});
  ASSERT_TRUE(got.ok());
  EXPECT_TRUE(got->places.empty());
  EXPECT_TRUE(got->rope_positions.empty());
  EXPECT_TRUE(got->span_ends.empty());
}

TEST(PromptPlaces, RowsOfAPictureSeeItsEnd) {
  const PromptRules rules{.sight = Sight::bidirectional, .image_token = kImage};
  const std::vector<int32_t> tokens = {1, kImage, kImage, 2, kImage, 3};
  const std::vector<PictureLayout> pictures = {picture(2), picture(1)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->span_ends, (std::vector<int32_t>{1, 3, 3, 4, 5, 6}));
}

// As CogVLM2's own code does it: first and last rows count like text, the inner ones share a
// position; the last row takes the text weights.
TEST(PromptPlaces, ExpertRowsShareAPosition) {
  const PromptRules rules{
      .sight = Sight::expert, .rope = SightRope::shared, .image_token = kImage};
  const std::vector<int32_t> tokens = {1, kImage, kImage, kImage, kImage, kImage, 2, 3};
  const std::vector<PictureLayout> pictures = {picture(5)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->modality, (std::vector<uint8_t>{0, 1, 1, 1, 1, 0, 0, 0}));
  std::vector<int32_t> times;
  for (size_t i = 0; i < got->rope_positions.size(); i += 3) {
    times.push_back(got->rope_positions[i]);
  }
  EXPECT_EQ(times, (std::vector<int32_t>{0, 1, 2, 2, 2, 3, 4, 5}));
  EXPECT_EQ(got->rope_delta, -2);
}

TEST(PromptPlaces, CrossAttentionSeesTheLastPictures) {
  const PromptRules rules{.sight = Sight::cross, .image_token = kImage};
  const std::vector<int32_t> tokens = {1, kImage, 2, kImage, kImage, 3};
  const std::vector<PictureLayout> pictures = {picture(10), picture(20), picture(30)};
  const auto got = lay_out_prompt(rules, tokens, pictures);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->cross_rows, 60);
  EXPECT_TRUE(got->places.empty());
  const std::vector<CrossSpan> wanted = {{-1, 60}, {0, 10}, {0, 10}, {10, 30}, {10, 60}, {10, 60}};
  EXPECT_EQ(got->cross, wanted);
}

}  // namespace
}  // namespace troupe::vision
