// Shares of weights over ranks, dummy weights, conversions, and what inspect reports.
#include "models/weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/convert.hpp"
#include "models/dummy.hpp"
#include "models/families/families.hpp"
#include "models/inspect.hpp"
#include "models/test_folder.hpp"

namespace troupe::models {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TestFolder;
using testing::tiny_config;

std::vector<int64_t> rows_of(const TensorSpec& spec, int32_t rank, int32_t ranks) {
  const auto share = share_of(spec, rank, ranks);
  EXPECT_TRUE(share.ok()) << share.status().message();
  std::vector<int64_t> out;
  for (const Share::Run& run : share->rows) {
    for (int64_t r = run.begin; r < run.begin + run.count; ++r) out.push_back(r);
  }
  EXPECT_EQ(static_cast<int64_t>(out.size()), share->row_count);
  return out;
}

TEST(Share, RowsComeInWholeUnits) {
  const TensorSpec spec{.name = "q", .rows = 8, .cols = 3, .axis = ShardAxis::rows, .unit = 2};
  EXPECT_THAT(rows_of(spec, 0, 2), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(rows_of(spec, 3, 4), ElementsAre(6, 7));
  EXPECT_THAT(share_of(spec, 0, 8).status().message(),
              HasSubstr("over 8 ranks: weight q comes in 4 parts that must stay whole"));
}

TEST(Share, FewKeyHeadsAreRepeated) {
  const TensorSpec spec{.name = "k", .rows = 4, .cols = 3, .axis = ShardAxis::kv_heads, .unit = 2};
  EXPECT_THAT(rows_of(spec, 0, 4), ElementsAre(0, 1));
  EXPECT_THAT(rows_of(spec, 1, 4), ElementsAre(0, 1));
  EXPECT_THAT(rows_of(spec, 2, 4), ElementsAre(2, 3));
  EXPECT_FALSE(share_of(spec, 0, 3).ok());
}

TEST(Share, VocabularyIsRoundedUp) {
  const TensorSpec spec{.name = "e", .rows = 5, .cols = 3, .axis = ShardAxis::vocabulary};
  EXPECT_THAT(rows_of(spec, 0, 2), ElementsAre(0, 1, 2));
  EXPECT_THAT(rows_of(spec, 1, 2), ElementsAre(3, 4));
  EXPECT_THAT(rows_of(spec, 3, 4), IsEmpty());
}

TEST(Share, InterleavedRowsArePicked) {
  // Two heads of two rows; each head stores q, k, v one after the other.
  const TensorSpec key{.name = "qkv",
                       .rows = 4,
                       .cols = 3,
                       .axis = ShardAxis::rows,
                       .unit = 2,
                       .pick = {.of = 6, .begin = 2, .count = 2}};
  EXPECT_EQ(key.stored_rows(), 12);
  EXPECT_THAT(rows_of(key, 0, 1), ElementsAre(2, 3, 8, 9));
  EXPECT_THAT(rows_of(key, 1, 2), ElementsAre(8, 9));
}

TEST(Share, ColumnsKeepAllRows) {
  const TensorSpec spec{.name = "o", .rows = 3, .cols = 8, .axis = ShardAxis::columns, .unit = 2};
  const auto share = share_of(spec, 1, 2);
  ASSERT_TRUE(share.ok());
  EXPECT_EQ(share->row_count, 3);
  EXPECT_EQ(share->column_begin, 4);
  EXPECT_EQ(share->column_count, 4);
}

TEST(Dummy, IsNormalAndDependsOnNameAndSeedAlone) {
  constexpr size_t kCount = size_t{3} << 20;  // enough for several threads
  const auto a = make_dummy("w", kCount, DType::f32, Fill::random, 1);
  const auto b = make_dummy("w", kCount, DType::f32, Fill::random, 1);
  EXPECT_EQ(std::memcmp(a.get(), b.get(), kCount * 4), 0);
  const auto prefix = make_dummy("w", 1001, DType::f32, Fill::random, 1);
  EXPECT_EQ(std::memcmp(a.get(), prefix.get(), 1001 * 4), 0);
  for (const auto& other : {make_dummy("w", kCount, DType::f32, Fill::random, 2),
                            make_dummy("v", kCount, DType::f32, Fill::random, 1)}) {
    EXPECT_NE(std::memcmp(a.get(), other.get(), 64), 0);
  }
  const auto* values = reinterpret_cast<const float*>(a.get());
  double sum = 0, squares = 0, lagged = 0;
  for (size_t i = 0; i < kCount; ++i) {
    sum += values[i];
    squares += static_cast<double>(values[i]) * values[i];
    if (i > 0) lagged += static_cast<double>(values[i]) * values[i - 1];
  }
  EXPECT_NEAR(sum / kCount, 0.0, 1e-4);
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.02, 2e-4);
  EXPECT_NEAR(lagged / squares, 0.0, 5e-3);
}

TEST(Dummy, NormsAreOnes) {
  const auto ones = make_dummy("n", 5, DType::bf16, Fill::ones, 1);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(bfloat_to_float(reinterpret_cast<const uint16_t*>(ones.get())[i]), 1.0F);
  }
}

TEST(Convert, HalvesRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float f = half_to_float(half);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(f))));
      EXPECT_TRUE(std::isnan(bfloat_to_float(float_to_bfloat(f))));
      continue;
    }
    ASSERT_EQ(float_to_half(f), half);
    ASSERT_EQ(float_to_bfloat(bfloat_to_float(half)) & 0x7F80U, half & 0x7F80U);
  }
}

TEST(Convert, RoundsToNearestEven) {
  EXPECT_EQ(half_to_float(float_to_half(2049.0F)), 2048.0F);
  EXPECT_EQ(half_to_float(float_to_half(2051.0F)), 2052.0F);
  EXPECT_TRUE(std::isinf(half_to_float(float_to_half(65520.0F))));
  EXPECT_EQ(half_to_float(float_to_half(65519.0F)), 65504.0F);
  EXPECT_EQ(half_to_float(float_to_half(6e-8F)), std::ldexp(1.0F, -24));
  EXPECT_EQ(bfloat_to_float(float_to_bfloat(257.0F)), 256.0F);
  EXPECT_EQ(bfloat_to_float(float_to_bfloat(259.0F)), 260.0F);
}

TEST(Inspect, ReportsAGoldenFolder) {
  const auto report = inspect("tests/golden/models/gemma2/bf16", {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->facts.family, "gemma2");
  EXPECT_EQ(report->format, "safetensors");
  EXPECT_EQ(report->weights_problem, "");
  EXPECT_THAT(report->missing, IsEmpty());
  EXPECT_THAT(report->unused, IsEmpty());
  EXPECT_EQ(report->facts.weight_bytes, 2 * report->facts.parameters);
  ASSERT_EQ(report->caches.size(), 2U);  // windows in layers 0 and 2, all of layer 1
  EXPECT_EQ(report->caches[0].kind, CacheKind::window);
  EXPECT_EQ(report->caches[0].window, 16);
  EXPECT_EQ(report->caches[0].bytes_per_token, 2 * 2 * (16 + 16) * 2);
  EXPECT_EQ(report->kv_bytes_per_token, 3 * 2 * (16 + 16) * 2);
}

TEST(Inspect, DoesNotCallATowersTensorsUnused) {
  const auto report = inspect("examples/model/lookout", {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_TRUE(report->facts.vision);
  EXPECT_THAT(report->missing, IsEmpty());
  EXPECT_THAT(report->unused, IsEmpty());
  EXPECT_GT(report->file_bytes, report->facts.weight_bytes + (6 << 20));
}

TEST(Inspect, CountsWhatTheFilesHold) {
  for (const char* name :
       {"llama3", "mixtral", "deepseek-v2", "bloom", "neox-parallel", "qwen2", "llama1"}) {
    const auto report = inspect(std::string("tests/golden/models/") + name, {});
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_THAT(report->missing, IsEmpty()) << name;
    EXPECT_EQ(report->facts.weight_bytes, 4 * report->facts.parameters) << name;
    EXPECT_LE(report->facts.weight_bytes, report->file_bytes) << name;
  }
  const auto stray = inspect("tests/golden/models/neox-parallel", {});
  EXPECT_THAT(stray->unused, ::testing::Not(IsEmpty()));  // mask tensors that old versions saved
  EXPECT_EQ(inspect("tests/golden/models/mixtral", {})->experts_active, 2);
}

// Shapes of published models, without their weights: the descriptions name every parameter that
// transformers counts, once.
TEST(Inspect, ParametersOfPublishedModels) {
  std::ifstream file("models/testdata/known_models.json");
  const auto known = nlohmann::json::parse(file);
  EXPECT_GE(known["models"].size(), families().size());
  for (const auto& model : known["models"]) {
    const TestFolder folder;
    folder.write("config.json", model["config"].dump());
    LoadOptions options;
    options.format = LoadFormat::dummy;
    for (const int32_t ranks : {1, 2}) {
      options.ranks = ranks;
      const auto report = inspect(folder.path(), options);
      ASSERT_TRUE(report.ok()) << report.status().message();
      EXPECT_EQ(report->facts.parameters, model["parameters"].get<int64_t>()) << model["name"];
    }
  }
}

TEST(Inspect, AFolderWithoutWeightsIsReported) {
  const TestFolder folder;
  folder.write("config.json", tiny_config());
  const auto report = inspect(folder.path(), {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->format, "none");
  EXPECT_THAT(report->weights_problem, HasSubstr("no weights"));
  EXPECT_EQ(report->facts.layers, 2);
  folder.write("config.json", "{");
  EXPECT_THAT(inspect(folder.path(), {}).status().message(), HasSubstr("config.json: is not JSON"));
}

}  // namespace
}  // namespace troupe::models
