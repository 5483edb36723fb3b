// Pictures through the whole engine, with real threads: the tiny golden models with dummy weights, which
// need no tokenizer (prompts are ids). What is asked here is the way of a picture; that its rows are
// right is the golden tests' affair (vision/, engine/vision_golden_test.cpp).
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "actors/local_port.hpp"
#include "actors/test_sinks.hpp"

namespace troupe::actors {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
constexpr const char* kModels = "tests/golden/vision/models";

// A copy of a golden folder's configuration, with room for more tokens.
class Folder {
 public:
  explicit Folder(const std::string& name, int32_t context = 16384)
      : path_(fs::temp_directory_path() / ("troupe_vision_" + name + std::to_string(getpid()))) {
    fs::create_directories(path_);
    for (const char* file : {"config.json", "preprocessor_config.json"}) {
      std::ifstream in(fs::path(kModels) / name / file);
      json all = json::parse(in);
      if (all.contains("text_config")) all["text_config"]["max_position_embeddings"] = context;
      if (all.contains("max_position_embeddings")) all["max_position_embeddings"] = context;
      std::ofstream(path_ / file) << all.dump();
    }
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  const fs::path path_;
};

std::unique_ptr<EnginePort> open_port(const Folder& folder, EngineOptions options = {}) {
  if (options.device == "auto") options.device = "cpu";
  options.load_format = "dummy";
  options.seed = 5;
  auto port = open_local_port(folder.path(), options, {});
  EXPECT_TRUE(port.ok()) << port.status().message();
  return port.ok() ? std::move(port).value() : nullptr;
}

ImageInput picture(uint8_t self, int32_t side = 24) {
  auto pixels = std::make_shared<std::vector<std::byte>>();
  for (int32_t i = 0; i < side * side * 3; ++i) {
    pixels->push_back(static_cast<std::byte>((i * (self + 3) + i / 7 * self) % 251));
  }
  ImageInput input;
  input.kind = ImageKind::pixels;
  input.width = input.height = side;
  input.bytes = {pixels, pixels->data(), pixels->size()};
  return input;
}

PromptPart ids(std::vector<int32_t> tokens) {
  PromptPart part;
  part.kind = PromptPart::Kind::tokens;
  part.tokens = std::move(tokens);
  return part;
}

Request question(const std::vector<ImageInput>& images, int32_t max_tokens = 6) {
  Request request;
  request.prompt.push_back(ids({1, 40, 41}));
  for (const ImageInput& image : images) {
    PromptPart part;
    part.kind = PromptPart::Kind::image;
    part.image = request.images.size();
    request.prompt.push_back(part);
    request.images.push_back(image);
    request.prompt.push_back(ids({50, 51}));
  }
  request.prompt.push_back(ids({60, 61, 62}));
  request.sampling.temperature = 0.0F;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

Heard ask(EnginePort& port, const Request& request) {
  auto sink = std::make_shared<Listener>();
  const auto id = port.submit(request, sink);
  if (!id.ok()) {
    Heard refused;
    refused.end = EventKind::failed;
    refused.status = id.status();
    return refused;
  }
  EXPECT_TRUE(sink->wait_for(1));
  return sink->of(*id);
}

std::vector<int32_t> answer(EnginePort& port, const Request& request) {
  Heard heard = ask(port, request);
  EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
  EXPECT_EQ(heard.broken, 0);
  return heard.tokens[0];
}

class VisionPort : public ::testing::TestWithParam<const char*> {};

TEST_P(VisionPort, TheSameAnswerOnEveryWay) {
  const Folder folder(GetParam());
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  const Request one = question({picture(1)}), two = question({picture(2, 40), picture(1)});
  const auto first = answer(*port, one), second = answer(*port, two);
  EXPECT_EQ(first.size(), 6U);
  EXPECT_EQ(answer(*port, one), first) << "from the caches";
  EXPECT_EQ(answer(*port, two), second);
  // Among others, in small chunks, on two devices, without overlap and reuse.
  EngineOptions other;
  other.device = "cpu:2";
  other.overlap = false;
  other.prefix_reuse = false;
  other.max_sequences = 4;
  other.max_step_tokens = std::string(GetParam()) == "gemma3" ? 64 : 9;
  auto twin = open_port(folder, other);
  ASSERT_NE(twin, nullptr);
  auto crowd = std::make_shared<Listener>();
  for (uint8_t i = 0; i < 10; ++i) ASSERT_TRUE(twin->submit(question({picture(i)}), crowd).ok());
  EXPECT_EQ(answer(*twin, two), second);
  EXPECT_EQ(answer(*twin, one), first);
  ASSERT_TRUE(crowd->wait_for(10));
  for (const auto& [id, heard] : crowd->all()) EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
}

TEST_P(VisionPort, RowsGivenBackGiveTheSameAnswer) {
  const Folder folder(GetParam());
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  Request rows = question({picture(7)});
  rows.task = Task::encode_image;
  const Heard encoded = ask(*port, rows);
  ASSERT_EQ(encoded.end, EventKind::done) << encoded.status.message();
  ASSERT_FALSE(encoded.data.empty());
  const auto info = port->info();
  ASSERT_TRUE(info.ok());
  EXPECT_NE(info->capabilities & can::encode_images, 0U);
  EXPECT_NE(info->capabilities & can::take_image_embeddings, 0U);
  EXPECT_GT(info->images_max, 0);
  EXPECT_GT(info->image_pixels_max, 1'000'000);

  const Heard seen = ask(*port, question({picture(7)}));
  ImageInput given;
  given.kind = ImageKind::embedding;
  given.type = EmbeddingType::f32;
  given.rows = static_cast<int32_t>(seen.usage.image_tokens);
  given.hidden = static_cast<int32_t>(encoded.data.size()) / given.rows;
  given.bytes = {nullptr, reinterpret_cast<const std::byte*>(encoded.data.data()), encoded.data.size() * 4};
  if (std::string(GetParam()) == "qwen2-vl") {
    const auto side = static_cast<int32_t>(std::lround(std::sqrt(given.rows)));
    given.grid = {1, side, given.rows / side};
  }
  EXPECT_EQ(answer(*port, question({given})), seen.tokens.at(0));
  given.hidden -= 1;
  const Heard refused = ask(*port, question({given}));
  EXPECT_EQ(refused.status.code(), Code::invalid);
  EXPECT_NE(refused.status.message().find("images[0]"), std::string::npos) << refused.status.message();
}

INSTANTIATE_TEST_SUITE_P(Models, VisionPort,
                         ::testing::Values("llava", "internvl", "qwen2-vl", "gemma3"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(VisionPortOnce, APictureSeenAgainIsNotEncodedAndCostsNextToNothing) {
  const Folder folder("llava");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  (void)answer(*port, question({}));
  const Heard first = ask(*port, question({picture(1)}));
  ASSERT_EQ(first.end, EventKind::done) << first.status.message();
  EXPECT_GT(first.timings.image_encode_ns, 0);
  int64_t with = INT64_MAX, without = INT64_MAX;
  for (int i = 0; i < 20; ++i) {
    const Heard again = ask(*port, question({picture(1)}));
    EXPECT_GE(again.usage.cached_tokens, 16);  // its rows are not read again, either
    EXPECT_EQ(again.timings.image_encode_ns, 0);
    with = std::min(with, again.timings.first_token_ns);
    without = std::min(without, ask(*port, question({})).timings.first_token_ns);
  }
  const auto stats = port->stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->images, 21U);
  EXPECT_EQ(stats->images_encoded, 1U);
  EXPECT_EQ(stats->images_reused, 20U);
  EXPECT_LE(with - without, 5'000'000) << "nanoseconds more than a question without a picture";
  RecordProperty("added_us", static_cast<int>((with - without) / 1000));
}

// Every weight of Lookout is a number of two bytes in its one file, the eyes' among them.
TEST(VisionPortOnce, InspectCountsTheEyesAmongTheParameters) {
  const std::string folder = "examples/model/lookout";
  EngineOptions options;
  options.device = "cpu";
  const auto told = inspect_folder(folder, options);
  ASSERT_TRUE(told.ok()) << told.status().message();
  const json report = json::parse(*told);
  uint64_t header = 0;
  std::ifstream file(folder + "/model.safetensors", std::ios::binary);
  ASSERT_TRUE(file.read(reinterpret_cast<char*>(&header), sizeof header));
  const uint64_t bytes = fs::file_size(folder + "/model.safetensors") - sizeof header - header;
  EXPECT_EQ(report["parameters"], bytes / 2);
  EXPECT_EQ(report["weight_bytes"], bytes);
  EXPECT_GT(report["images"]["parameters"], 0);
  EXPECT_LT(report["images"]["parameters"], report["parameters"]);
}

TEST(VisionPortOnce, ManyAskingAboutOnePictureAtOnceEncodeItOnce) {
  const Folder folder("llava");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  auto sink = std::make_shared<Listener>();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(port->submit(question({picture(9)}), sink).ok());
  ASSERT_TRUE(sink->wait_for(30));
  EXPECT_EQ(port->stats()->images_encoded, 1U);
}

TEST(VisionPortOnce, FiveHundredPicturesInOneRequest) {
  const Folder folder("llava");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  std::vector<ImageInput> images;
  for (int i = 0; i < 500; ++i) images.push_back(picture(static_cast<uint8_t>(i % 250), 24 + i / 250));
  const Heard heard = ask(*port, question(images, 2));
  EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
  EXPECT_EQ(heard.usage.image_tokens, 500 * 16);
  EXPECT_EQ(port->stats()->images_encoded, 500U);

  const Folder small("internvl", 2048);
  auto narrow = open_port(small);
  ASSERT_NE(narrow, nullptr);
  const Heard refused = ask(*narrow, question(images, 2));
  EXPECT_EQ(refused.status.code(), Code::limit) << refused.status.message();
  EXPECT_NE(refused.status.message().find("2048"), std::string::npos) << refused.status.message();
  EXPECT_NE(refused.status.message().find("500 pictures"), std::string::npos) << refused.status.message();
  EXPECT_EQ(narrow->stats()->images_encoded, 0U) << "nothing is encoded for a request that cannot run";
}

TEST(VisionPortOnce, BadPicturesAreNamed) {
  const Folder folder("llava");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  Request request = question({picture(1), picture(2)});
  request.images[1].kind = ImageKind::encoded;  // pixels are no file
  const Heard heard = ask(*port, request);
  EXPECT_EQ(heard.end, EventKind::failed);
  EXPECT_NE(heard.status.message().find("images[1]"), std::string::npos) << heard.status.message();

  Request placeless = question({});
  placeless.images.push_back(picture(3));
  EXPECT_EQ(ask(*port, placeless).status.code(), Code::invalid);
  EXPECT_EQ(answer(*port, question({picture(1)})).size(), 6U) << "and the engine goes on";
}

TEST(VisionPortOnce, CancelledAndLateRequestsLetGo) {
  const Folder folder("llava");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  std::vector<ImageInput> images;
  for (int i = 0; i < 200; ++i) images.push_back(picture(static_cast<uint8_t>(i)));
  auto sink = std::make_shared<Listener>();
  const auto cancelled = port->submit(question(images), sink);
  ASSERT_TRUE(cancelled.ok());
  Request hurried = question(images);
  hurried.deadline_ns = 1'000'000;
  const auto late = port->submit(std::move(hurried), sink);
  ASSERT_TRUE(late.ok());
  port->cancel(*cancelled);
  ASSERT_TRUE(sink->wait_for(2));
  EXPECT_EQ(sink->of(*cancelled).end, EventKind::cancelled);
  EXPECT_EQ(sink->of(*late).status.code(), Code::deadline) << sink->of(*late).status.message();
  EXPECT_EQ(answer(*port, question({picture(1)})).size(), 6U);
}

TEST(VisionPortOnce, ASessionRemembersItsPicture) {
  const Folder folder("qwen2-vl");
  auto port = open_port(folder);
  ASSERT_NE(port, nullptr);
  const auto session = port->session_new({});
  ASSERT_TRUE(session.ok());
  Request first = question({picture(4)});
  first.session = *session;
  const auto said = answer(*port, first);
  Request second;
  second.prompt.push_back(ids({70, 71}));
  second.sampling = first.sampling;
  second.session = *session;
  const auto continued = answer(*port, second);
  // The same without a session: positions go on behind the picture's grid.
  Request whole = question({picture(4)});
  std::vector<int32_t> tail = said;
  tail.insert(tail.end(), {70, 71});
  whole.prompt.push_back(ids(tail));
  EXPECT_EQ(answer(*port, whole), continued);
  EXPECT_EQ(port->stats()->images_encoded, 1U);
}

}  // namespace
}  // namespace troupe::actors
