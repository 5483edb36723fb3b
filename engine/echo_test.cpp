// `echo:` below the cast: what it says, and that it says it out of the cache.
#include "engine/echo.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/scheduler.hpp"
#include "engine/step_loop.hpp"

namespace troupe::engine {
namespace {

using ::testing::HasSubstr;

PromptPart text(std::string s) {
  PromptPart p;
  p.text = std::move(s);
  return p;
}

std::string ask(const Request& request, const std::string& endpoint = "echo:") {
  const EchoText words;
  const auto prompt = words.prompt(request);
  if (!prompt.ok()) return prompt.status().message();
  const EchoOptions echo = EchoOptions::parse(endpoint).value();
  EngineOptions options;
  options.max_sequences = 4;
  SchedulerConfig config;
  config.facts = echo_facts(echo, options);
  config.slots = options.max_sequences;
  config.vocab = config.facts.vocab;
  config.groups = config.facts.groups;
  config.context_length = config.facts.context_length;
  ThreadWaiter waiter;
  const auto device = echo_device(echo, config.facts, config.slots, 0, waiter);
  Scheduler scheduler(config);
  StepLoop loop(scheduler, *device, waiter);
  Job job;
  job.id = 1;
  job.prompt.tokens = *prompt;
  job.sampling = plan_sampling(request.sampling, {}, config.facts, {}, 0).value();
  if (const Status s = scheduler.admit(std::move(job)); !s.ok()) return s.message();
  Outputs out;
  while (!scheduler.idle()) {
    const auto turned = loop.turn(out);
    if (!turned.ok()) return turned.status().message();
  }
  std::vector<int32_t> ids;
  for (const TokenOutput& t : out.tokens) ids.push_back(t.token);
  return words.decode(ids, true);
}

Request raw(std::vector<PromptPart> parts) {
  Request r;
  r.prompt = std::move(parts);
  return r;
}

TEST(Echo, SaysItsPrompt) {
  EXPECT_EQ(ask(raw({text("Grüße, 世界!")})), "Grüße, 世界!");
  Request brief = raw({text("hello world")});
  brief.sampling.max_tokens = 5;
  EXPECT_EQ(ask(brief), "hello");
  Request on = raw({text("ab")});
  on.sampling.max_tokens = 7;
  on.sampling.ignore_eos = true;
  EXPECT_EQ(ask(on), "ababa") << "round and round, with an end of text between";
  on.sampling.ignore_eos = false;
  on.sampling.min_tokens = 6;
  EXPECT_EQ(ask(on), "ab ab a");
}

TEST(Echo, AnswersTheLastMessageOfAChat) {
  Request r;
  r.messages_json = R"([{"role":"system","content":"be kind"},{"role":"user","content":[{"type":"text","text":"hi "},{"type":"image"}]}])";
  ImageInput pixels;
  pixels.kind = ImageKind::pixels;
  pixels.width = 2;
  pixels.height = 1;
  const std::byte bytes[6] = {};
  pixels.bytes = {nullptr, bytes, sizeof bytes};
  r.images = {pixels};
  EXPECT_THAT(ask(r), HasSubstr("hi [image 2x1 rgb "));
  EXPECT_THAT(EchoText().render(r).value(), HasSubstr("system: be kind<|eos|>hi "));
  r.messages_json = "[{]";
  EXPECT_THAT(ask(r), HasSubstr("messages"));
}

TEST(Echo, KnowsImagesByTheirHeaders) {
  const auto said = [](std::string_view bytes) {
    ImageInput image;
    image.bytes = {nullptr, reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
    const auto made = echo_image_text(image);
    return made.ok() ? *made : made.status().message();
  };
  using namespace std::string_view_literals;
  EXPECT_THAT(said("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\2\x80\0\0\1\xe0"sv), HasSubstr("640x480 png"));
  EXPECT_THAT(said("\xFF\xD8\xFF\xE0\0\4ab\xFF\xC0\0\x11\x08\0\x20\0\x10\3"sv), HasSubstr("16x32 jpeg"));
  EXPECT_THAT(said("RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\7\0\0\3\0\0"sv), HasSubstr("8x4 webp"));
  EXPECT_THAT(said("GIF89a"), HasSubstr("not the beginning"));
  EXPECT_THAT(said("\xFF\xD8\xFF"), HasSubstr("not the beginning"));
  EXPECT_THAT(said(""), HasSubstr("no bytes"));
  EXPECT_THAT(said("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff"sv), HasSubstr("the limit"));
}

TEST(Echo, PixelsAreHashedWithoutTheirPadding) {
  const uint8_t padded[8] = {1, 2, 3, 99, 4, 5, 6, 98}, dense[6] = {1, 2, 3, 4, 5, 6};
  ImageInput image;
  image.kind = ImageKind::pixels;
  image.format = PixelFormat::grey;
  image.width = 3;
  image.height = 2;
  image.bytes = {nullptr, reinterpret_cast<const std::byte*>(dense), 6};
  const std::string once = echo_image_text(image).value();
  image.row_stride = 4;
  image.bytes = {nullptr, reinterpret_cast<const std::byte*>(padded), 8};
  EXPECT_EQ(echo_image_text(image).value(), once);
  image.height = 3;
  EXPECT_THAT(echo_image_text(image).status().message(), HasSubstr("need 11 bytes, and 8 are given"));
}

TEST(Echo, StreamsNeverCutACharacter) {
  const EchoText words;
  const std::string all = "aé世🎭z";
  const auto stream = words.stream(true);
  std::string text;
  for (const int32_t id : words.encode(all, true, false)) {
    stream->push(id, text);
    EXPECT_TRUE(all.starts_with(text)) << text;
  }
  EXPECT_EQ(text, all);
  EXPECT_EQ(words.decode(std::vector<int32_t>{0xE4, 0xB8, 'x', 0xFF, EchoText::kEos}, false),
            "\xEF\xBF\xBDx\xEF\xBF\xBD<|eos|>");
  EXPECT_EQ(words.encode("a<|eos|>", true, true), (std::vector<int32_t>{'a', EchoText::kEos}));
}

TEST(Echo, DiesWhenAsked) { EXPECT_THAT(ask(raw({text("hello")}), "echo:?fail_step=2"), HasSubstr("lost")); }

}  // namespace
}  // namespace troupe::engine
