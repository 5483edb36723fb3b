// The cast over a real model: the demo's own, which is small and knows its answers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "actors/local_port.hpp"
#include "actors/test_sinks.hpp"

namespace troupe::actors {
namespace {

constexpr const char* kModel = "examples/model/abacus";

Request question(const std::string& text) {
  Request request;
  PromptMessage message;
  message.role = Role::user;
  PromptPart part;
  part.text = text;
  message.parts.push_back(std::move(part));
  request.messages.push_back(std::move(message));
  request.sampling.temperature = 0.0F;
  request.sampling.max_tokens = 64;
  return request;
}

std::unique_ptr<EnginePort> open_model(EngineOptions options = {}) {
  options.device = "cpu";
  auto port = open_local_port(kModel, options, {});
  EXPECT_TRUE(port.ok()) << port.status().message();
  return port.ok() ? std::move(port).value() : nullptr;
}

std::string answer(EnginePort& port, const Request& request) {
  auto sink = std::make_shared<Listener>();
  const auto id = port.submit(request, sink);
  EXPECT_TRUE(id.ok()) << id.status().message();
  if (!id.ok() || !sink->wait_for(1)) return "";
  const Heard heard = sink->of(*id);
  EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
  EXPECT_EQ(heard.broken, 0);
  return heard.text.at(0);
}

TEST(ModelPort, AnswersWithAndWithoutOverlapAndAmongOthers) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  const Request request = question("What is 27 plus 15?");
  const std::string alone = answer(*port, request);
  EXPECT_NE(alone.find("42"), std::string::npos) << alone;
  auto crowd = std::make_shared<Listener>();
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(port->submit(question("What is " + std::to_string(i) + " plus 9?"), crowd).ok());
  }
  EXPECT_EQ(answer(*port, request), alone);
  ASSERT_TRUE(crowd->wait_for(12));

  EngineOptions plain;
  plain.overlap = false;
  plain.prefix_reuse = false;
  plain.max_step_tokens = 8;
  plain.max_sequences = 4;
  auto twin = open_model(plain);
  ASSERT_NE(twin, nullptr);
  EXPECT_EQ(answer(*twin, request), alone);
}

// With a space before it a word is often one token, and several without.
TEST(ModelPort, ABadWordIsNotSaidBehindASpaceEither) {
  auto port = open_local_port("examples/model/lookout", {}, {});
  ASSERT_TRUE(port.ok()) << port.status().message();
  const auto spaced = (*port)->tokenize(" picture", false, false).value();
  ASSERT_EQ(spaced.size(), 1U);
  ASSERT_GT((*port)->tokenize("picture", false, false)->size(), 1U);
  Request request = text_request("Once ", 8);
  request.sampling.temperature = 0.0F;
  request.sampling.logit_bias = {{spaced.front(), 100.0F}};
  ASSERT_NE(answer(**port, request).find("picture"), std::string::npos);
  request.sampling.bad_words = {"picture"};
  EXPECT_EQ(answer(**port, request).find("picture"), std::string::npos);
}

// Requests that leave nothing to draw, one after the other: each fails for itself, whoever runs beside it goes on.
TEST(ModelPort, WhoLeavesNothingToDrawFailsAlone) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  const int32_t vocab = port->info()->vocab_size;
  auto bystander = std::make_shared<Listener>();
  const auto other = port->submit(question("What is 27 plus 15?"), bystander);
  ASSERT_TRUE(other.ok());
  for (int i = 0; i < 4; ++i) {
    Request nothing = question("Hello");
    nothing.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
    for (int32_t t = 0; t < vocab; ++t) nothing.sampling.logit_bias.push_back({t, -HUGE_VALF});
    auto sink = std::make_shared<Listener>();
    const auto id = port->submit(nothing, sink);
    ASSERT_TRUE(id.ok()) << id.status().message();
    ASSERT_TRUE(sink->wait_for(1));
    EXPECT_EQ(sink->of(*id).end, EventKind::failed);
    EXPECT_EQ(sink->of(*id).status.code(), Code::invalid) << sink->of(*id).status.message();
  }
  ASSERT_TRUE(bystander->wait_for(1));
  EXPECT_EQ(bystander->of(*other).end, EventKind::done) << bystander->of(*other).status.message();
  Request cold = question("What is 27 plus 15?");
  cold.sampling.temperature = 1e-45F;
  EXPECT_EQ(answer(*port, cold), bystander->of(*other).text.at(0)) << "as good as greedy";
}

TEST(ModelPort, InfoSaysWhatWasOpened) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  const auto info = port->info();
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->model, "abacus");
  EXPECT_EQ(info->family, "llama");
  EXPECT_EQ(info->device, "cpu:0");
  EXPECT_GT(info->kv_tokens, 0);
  EXPECT_GT(info->weight_bytes, 0);
  EXPECT_FALSE(info->chat_template_origin.empty());
}

TEST(ModelPort, TextGoesThereAndBack) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  const auto ids = port->tokenize("What is 2 plus 2?", false, true);
  ASSERT_TRUE(ids.ok());
  const auto text = port->detokenize(*ids, true);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "What is 2 plus 2?");
  const auto rendered = port->render(question("Hello"));
  ASSERT_TRUE(rendered.ok());
  EXPECT_NE(rendered->find("Hello"), std::string::npos);
}

TEST(ModelPort, PromptLogprobsScoreAPrompt) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  Request request = text_request("What is 2 plus 2?", 1);
  request.task = Task::score;
  auto sink = std::make_shared<Listener>();
  const auto id = port->submit(std::move(request), sink);
  ASSERT_TRUE(id.ok()) << id.status().message();
  ASSERT_TRUE(sink->wait_for(1));
  EXPECT_EQ(sink->of(*id).end, EventKind::done) << sink->of(*id).status.message();
  EXPECT_EQ(sink->of(*id).usage.completion_tokens, 0);
}

TEST(ModelPort, APromptBeyondTheContextIsRefusedWithBothNumbers) {
  EngineOptions options;
  options.context_length = 32;
  auto port = open_model(options);
  ASSERT_NE(port, nullptr);
  auto sink = std::make_shared<Listener>();
  const auto id = port->submit(question(std::string(400, '7')), sink);
  const Status status = id.ok() && sink->wait_for(1) ? sink->of(*id).status : id.status();
  EXPECT_EQ(status.code(), Code::limit);
  EXPECT_NE(status.message().find("32"), std::string::npos) << status.message();
}

// Tens of megabytes would be minutes of reading and gigabytes of tokens, only to be refused.
TEST(ModelPort, APromptFarBeyondTheContextIsRefusedUnread) {
  auto port = open_model();
  ASSERT_NE(port, nullptr);
  std::string much;
  while (much.size() < 4'000'000) much += "a ";
  Request raw;
  raw.prompt.emplace_back().text = much;
  for (const Request& request : {question(much), raw}) {
    auto sink = std::make_shared<Listener>();
    const auto id = port->submit(request, sink);
    ASSERT_TRUE(id.ok() && sink->wait_for(1)) << id.status().message();
    const Status status = sink->of(*id).status;
    EXPECT_EQ(status.code(), Code::limit);
    EXPECT_NE(status.message().find("prompt: 4000"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(" bytes of text"), std::string::npos) << status.message();
  }
}

// Whoever copies or prints JSON goes down as deep as it is, on the stack: a request must not choose how deep.
TEST(ModelPort, MessagesNestedWithoutEndAreRefused) {
  EngineOptions options;
  options.device = "cpu";
  const std::string deep = std::string(300000, '[') + std::string(300000, ']');
  for (const char* model : {kModel, "examples/model/lookout", "echo:"}) {
    const auto port = open_local_port(model, options, {});
    ASSERT_TRUE(port.ok()) << port.status().message();
    for (const std::string& messages :
         {R"([{"role": "user", "content": )" + deep + "}]", R"([{"role": "user", "content": "x", "y": )" + deep + "}]", deep}) {
      Request request;
      request.messages_json = messages;
      auto sink = std::make_shared<Listener>();
      const auto id = (*port)->submit(request, sink);
      const Status status = id.ok() && sink->wait_for(1) ? sink->of(*id).status : id.status();
      EXPECT_EQ(status.code(), Code::invalid) << model;
      EXPECT_EQ(status.message().rfind("messages: ", 0), 0U) << status.message();
      EXPECT_LT(status.message().size(), 300U) << model;
    }
  }
}

TEST(ModelPort, DummyWeightsNeedNoTokenizer) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "config_alone";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(std::filesystem::path(kModel) / "config.json", folder / "config.json",
                             std::filesystem::copy_options::overwrite_existing);
  EngineOptions options;
  options.device = "cpu";
  EXPECT_FALSE(open_local_port(folder, options, {}).ok()) << "weights are not there";
  options.load_format = "dummy";
  auto port = open_local_port(folder, options, {});
  ASSERT_TRUE(port.ok()) << port.status().message();

  auto sink = std::make_shared<Listener>();
  const auto id = (*port)->submit(text_request("17 4 92", 3), sink);
  ASSERT_TRUE(id.ok()) << id.status().message();
  ASSERT_TRUE(sink->wait_for(1));
  const Heard heard = sink->of(*id);
  EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
  EXPECT_EQ(heard.usage.prompt_tokens, 3);
  EXPECT_EQ(std::ranges::count(heard.text.at(0), ' '), heard.usage.completion_tokens);

  const auto words = (*port)->tokenize("two words", true, true);
  EXPECT_EQ(words.status().code(), Code::unsupported);
  EXPECT_NE(words.status().message().find("no tokenizer"), std::string::npos);
  EXPECT_FALSE((*port)->render(question("Hello")).ok());
}

TEST(ModelPort, InspectTellsWhatIsInTheFolder) {
  EngineOptions options;
  options.device = "cpu";
  const auto json = inspect_folder(kModel, options);
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_NE(json->find("\"family\":\"llama\""), std::string::npos) << *json;
  EXPECT_NE(json->find("\"fits\":true"), std::string::npos) << *json;
  EXPECT_EQ(inspect_folder("/nowhere", options).status().code(), Code::not_found);
}

TEST(ModelPort, OpeningMayBeGivenUp) {
  EngineOptions options;
  options.device = "cpu";
  const auto port =
      open_local_port(kModel, options, [](std::string_view, double) { return false; });
  EXPECT_EQ(port.status().code(), Code::closed);
}

}  // namespace
}  // namespace troupe::actors
