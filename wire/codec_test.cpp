// The codec: what is written is read back, msgpack-cxx (another implementation) agrees about the
// bytes, docs/protocol.md shows exactly what is sent, and nothing that a stranger claims is
// believed.
#include <gtest/gtest.h>

#ifndef MSGPACK_NO_BOOST
#define MSGPACK_NO_BOOST
#endif
#include <fstream>
#include <map>
#include <msgpack.hpp>
#include <sstream>

#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/question_codec.hpp"
#include "wire/reader.hpp"
#include "wire/request_codec.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

Id128 id_of(uint8_t first) {
  Id128 id{};
  for (size_t i = 0; i < id.size(); ++i) id[i] = static_cast<uint8_t>(first + i);
  return id;
}

SharedBytes blob_of(std::string text) {
  auto kept = std::make_shared<const std::string>(std::move(text));
  const auto* data = reinterpret_cast<const std::byte*>(kept->data());
  const size_t size = kept->size();
  return {std::move(kept), data, size};
}

Request rich_request() {
  Request r;
  r.task = Task::score;
  r.messages.push_back({Role::user,
                        {{PromptPart::Kind::text, "wie heißt das?", {}, 0},
                         {PromptPart::Kind::image, "", {}, 1},
                         {PromptPart::Kind::tokens, "", {1, 2, 300000}, 0}}});
  r.messages.push_back(
      {Role::assistant, {{PromptPart::Kind::tokens, "", std::vector<int32_t>(5000, 7), 0}}});
  r.tools_json = "[]";
  r.add_generation_prompt = false;
  ImageInput pixels;
  pixels.kind = ImageKind::pixels;
  pixels.width = 2;
  pixels.height = 3;
  pixels.format = PixelFormat::grey;
  pixels.layout = PixelLayout::chw;
  pixels.bytes = blob_of("abcdef");
  ImageInput embedding;
  embedding.kind = ImageKind::embedding;
  embedding.rows = 2;
  embedding.hidden = 1;
  embedding.type = EmbeddingType::f32;
  embedding.grid = {1, 2, 1};
  embedding.bytes = blob_of("12345678");
  r.images = {pixels, embedding};
  r.sampling.temperature = 0.5F;
  r.sampling.top_k = 40;
  r.sampling.seed = uint64_t{1} << 63;
  r.sampling.logit_bias = {{5, -std::numeric_limits<float>::infinity()}};
  r.sampling.stop = {"\n", "ende"};
  r.sampling.stop_token_ids = {2, 3};
  r.sampling.logprobs = 0;
  r.sampling.n = 2;
  r.sampling.skip_special_tokens = false;
  r.constraint = {ConstraintKind::regex, "[ab]+"};
  r.session = 9;
  r.priority = -5;
  r.deadline_ns = 1'500'000'000;
  r.client = "tenant";
  return r;
}

TEST(WireCodec, ARequestComesBackAsItWasSent) {
  const Request sent = rich_request();
  Limits limits;
  limits.blob_bytes = 10'000;
  const Packed packed = pack_submit(id_of(1), 5, sent, limits);
  ASSERT_EQ(packed.uploads.size(), 1U);  // 5,000 ids
  EXPECT_EQ(packed.uploads[0].first, 0U);
  ASSERT_EQ(packed.frames.size(), 2U);
  Result<Submit> read = read_submit(packed.body, limits);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->id, id_of(1));
  EXPECT_EQ(read->credit, 5U);
  ASSERT_EQ(read->uploads.size(), 1U);
  EXPECT_EQ(read->uploads[0].size, 20'000U);
  const std::vector<SharedBytes> blobs = {packed.uploads[0].second, packed.frames[0],
                                          packed.frames[1]};
  const std::vector<size_t> sizes = {20'000, 6, 8};
  ASSERT_TRUE(check_blobs(read->draft, sizes, limits).ok());
  const Request got = complete(std::move(read->draft), blobs);
  EXPECT_EQ(got.task, sent.task);
  ASSERT_EQ(got.messages.size(), 2U);
  EXPECT_EQ(got.messages[0].parts[0].text, "wie heißt das?");
  EXPECT_EQ(got.messages[0].parts[1].image, 1U);
  EXPECT_EQ(got.messages[0].parts[2].tokens, sent.messages[0].parts[2].tokens);
  EXPECT_EQ(got.messages[1].parts[0].tokens, sent.messages[1].parts[0].tokens);
  EXPECT_EQ(got.tools_json, "[]");
  EXPECT_FALSE(got.add_generation_prompt);
  EXPECT_TRUE(got.add_special_tokens);
  ASSERT_EQ(got.images.size(), 2U);
  EXPECT_EQ(got.images[0].format, PixelFormat::grey);
  EXPECT_EQ(got.images[0].layout, PixelLayout::chw);
  EXPECT_EQ(got.images[1].grid, sent.images[1].grid);
  EXPECT_EQ(got.images[1].bytes.data, sent.images[1].bytes.data);  // shared, not copied
  EXPECT_EQ(got.sampling.temperature, 0.5F);
  EXPECT_EQ(got.sampling.seed, uint64_t{1} << 63);
  EXPECT_EQ(got.sampling.logit_bias, sent.sampling.logit_bias);
  EXPECT_EQ(got.sampling.stop, sent.sampling.stop);
  EXPECT_EQ(got.sampling.stop_token_ids, sent.sampling.stop_token_ids);
  EXPECT_EQ(got.sampling.logprobs, 0);
  EXPECT_FALSE(got.sampling.prompt_logprobs.has_value());
  EXPECT_EQ(got.sampling.n, 2);
  EXPECT_FALSE(got.sampling.skip_special_tokens);
  EXPECT_EQ(got.constraint.text, "[ab]+");
  EXPECT_EQ(got.session, 9U);
  EXPECT_EQ(got.priority, -5);
  EXPECT_EQ(got.deadline_ns, sent.deadline_ns);
  EXPECT_EQ(got.client, "tenant");
}

TEST(WireCodec, SeveralDeltasInOneBodyComeBackInOrder) {
  std::string body;
  const std::vector<int32_t> tokens = {1, 200, 100'000};
  const std::vector<float> logprobs = {-0.5F, -1.0F, -2.0F};
  const LogprobTable table = {{{1, -0.5F, 1}, {2, -1.5F, 2}}, {}, {{3, -2.0F, 1}}};
  DeltaView view;
  view.index = 2;
  view.from = 4;
  view.text_from = 9;
  view.tokens = tokens;
  view.text = "né";
  view.logprobs = logprobs;
  view.top_logprobs = table;
  view.prompt_logprobs = &table;
  view.finish = FinishReason::stop;
  view.stop_token = 2;
  view.stop_text = "\n";
  view.usage = {10, 5, 3, 1};
  write_delta(body, id_of(1), 7, view);
  write_delta(body, id_of(2), 0, {});
  std::vector<WireEvent> got;
  ASSERT_TRUE(read_events(Kind::delta, body, [&](WireEvent& e) { got.push_back(e); }).ok());
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].id, id_of(1));
  EXPECT_EQ(got[0].seq, 7U);
  EXPECT_EQ(got[0].text_from, 9);
  EXPECT_EQ(got[0].event.index, 2);
  EXPECT_EQ(got[0].event.from, 4);
  EXPECT_EQ(got[0].event.tokens, tokens);
  EXPECT_EQ(got[0].event.text, "né");
  EXPECT_EQ(got[0].event.logprobs, logprobs);
  ASSERT_EQ(got[0].event.top_logprobs.size(), 3U);
  EXPECT_EQ(got[0].event.top_logprobs[0][1].rank, 2);
  EXPECT_EQ(got[0].event.prompt_logprobs.size(), 3U);
  EXPECT_EQ(got[0].event.finish, FinishReason::stop);
  EXPECT_EQ(got[0].event.stop_text, "\n");
  EXPECT_EQ(got[0].event.usage.cached_tokens, 5);
  EXPECT_EQ(got[1].id, id_of(2));
  EXPECT_TRUE(got[1].event.tokens.empty());
}

TEST(WireCodec, WelcomeAndItsKinComeBack) {
  Welcome sent;
  sent.server = id_of(3);
  sent.ticket = id_of(4);
  sent.resumed = true;
  sent.heartbeat_ms = 2000;
  sent.idle_ms = 30000;
  sent.resume_ms = 60000;
  sent.limits.requests = 17;
  sent.info.model = "demo";
  sent.info.kv_bytes = int64_t{1} << 40;
  sent.info.capabilities = ~uint64_t{0};
  sent.info.max_waiting = 17;
  std::string body;
  write_welcome(body, sent);
  const auto got = read_welcome(body);
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got->ticket, sent.ticket);
  EXPECT_TRUE(got->resumed);
  EXPECT_EQ(got->limits.requests, 17U);
  EXPECT_EQ(got->info.model, "demo");
  EXPECT_EQ(got->info.kv_bytes, sent.info.kv_bytes);
  EXPECT_EQ(got->info.capabilities, sent.info.capabilities);
  EXPECT_EQ(got->info.max_waiting, 17);
  body.clear();
  write_refused(body, {Code::overloaded, "full"});
  EXPECT_EQ(read_refused(body).code(), Code::overloaded);
  EXPECT_TRUE(read_refused(body).retryable());
  EngineStats stats;
  stats.steps = 12345678901;
  stats.kv_blocks_used = 3;
  Answer answer;
  answer.call = 8;
  answer.stats = stats;
  body.clear();
  write_answer(body, answer);
  const auto reply = read_answer(body, {});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->stats->steps, stats.steps);
  EXPECT_EQ(reply->stats->kv_blocks_used, 3U);
}

// ---- another implementation agrees --------------------------------------------------------------

TEST(WireCodec, AnotherMsgpackReadsWhatIsWritten) {
  std::string body;
  DeltaView view;
  const std::vector<int32_t> tokens = {0, 127, 128, 65'536};
  const std::string text(300, 'x');
  view.tokens = tokens;
  view.text = text;
  write_delta(body, id_of(9), 1, view);
  const msgpack::object_handle handle = msgpack::unpack(body.data(), body.size());
  const auto map = handle.get().as<std::map<uint64_t, msgpack::object>>();
  EXPECT_EQ(map.at(key::event::tokens).as<std::vector<int32_t>>(), tokens);
  EXPECT_EQ(map.at(key::event::text).as<std::string>(), view.text);
  EXPECT_EQ(map.at(key::id).as<std::vector<char>>().size(), 16U);
}

TEST(WireCodec, WhatAnotherMsgpackWritesIsRead) {
  msgpack::sbuffer buffer;
  msgpack::packer packer(buffer);
  packer.pack_map(3);
  packer.pack(0).pack_array(2).pack(1).pack(9);
  packer.pack(1).pack_bin(16).pack_bin_body("0123456789abcdef", 16);
  packer.pack(99).pack_map(1).pack(std::string("unknown")).pack(std::vector<double>{1.5, 2.5});
  const auto hello = read_hello({buffer.data(), buffer.size()});
  ASSERT_TRUE(hello.ok()) << hello.status().message();
  EXPECT_TRUE(hello->speaks_this_version);
}

TEST(WireCodec, EveryWidthOfNumberIsRead) {
  for (const int64_t value :
       {int64_t{0}, int64_t{-1}, int64_t{-32}, int64_t{-33}, int64_t{127}, int64_t{128},
        int64_t{-129}, int64_t{40'000}, int64_t{-40'000}, int64_t{1} << 40, -(int64_t{1} << 40),
        std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
    msgpack::sbuffer buffer;
    msgpack::pack(buffer, value);
    Reader reader({buffer.data(), buffer.size()});
    EXPECT_EQ(reader.integer(), value);
    EXPECT_TRUE(reader.ok() && reader.at_end());
  }
}

TEST(WireCodec, EveryRealComesBack) {
  for (const float value : {0.0F, -0.5F, 7.0F, -7.0F, 0x1p62F, 0x1p63F, -0x1p63F, 0x1p64F, 1e38F,
                            std::numeric_limits<float>::infinity()}) {
    std::string body;
    Writer(body).real(value);
    Reader reader(body);
    EXPECT_EQ(reader.real32(), value);
    EXPECT_TRUE(reader.ok() && reader.at_end());
    EXPECT_EQ(msgpack::unpack(body.data(), body.size()).get().as<double>(), double{value});
  }
}

// ---- nothing is believed ------------------------------------------------------------------------

Status status_of(std::string_view bytes) {
  Reader reader(bytes);
  reader.skip();
  return reader.status("body");
}

TEST(WireCodec, ClaimsAreHeldAgainstTheBytesThatAreThere) {
  using namespace std::string_view_literals;
  for (const std::string_view liar :
       {"\xdd\xff\xff\xff\xff"sv, "\xdf\x7f\xff\xff\xff"sv, "\xdb\xff\xff\xff\xff"sv,
        "\xc6\xff\xff\xff\xff"sv, "\xc9\xff\xff\xff\xff"sv, "\x8f"sv, "\xcf\x00"sv, "\xc1"sv,
        ""sv}) {
    EXPECT_FALSE(status_of(liar).ok());
    Reader list(liar);
    EXPECT_EQ(list.array(), 0U);
    Reader map(liar);
    EXPECT_EQ(map.map(), 0U);
    EXPECT_FALSE(list.ok() && map.ok());
  }
  const Status deep = status_of(std::string(10'000, '\x91') + '\x00');
  EXPECT_NE(deep.message().find("deep"), std::string::npos);
}

TEST(WireCodec, FailuresSayWhatAndWhere) {
  std::string body;
  {
    Writer writer(body);
    Writer::Map map(writer);
    map.key(key::hello::client).text("not an id");
  }
  const Status status = read_hello(body).status();
  EXPECT_EQ(status.code(), Code::invalid);
  EXPECT_NE(status.message().find("HELLO: bytes were expected at byte"), std::string::npos)
      << status.message();
  const std::string twice = std::string("\x82\x00\x90\x00\x90", 5);
  EXPECT_NE(read_hello(twice).status().message().find("twice"), std::string::npos);
}

TEST(WireCodec, ARequestIsAskedInOneWay) {
  Request request;
  request.prompt.push_back({PromptPart::Kind::text, "a", {}, 0});
  request.messages_json = "[]";
  const auto read = read_submit(pack_submit(id_of(1), 8, request, {}).body, {});
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.status().message().find("one of prompt"), std::string::npos);
}

TEST(WireCodec, TextMustBeUtf8) {
  EXPECT_EQ(bad_utf8("plain ascii text that is long enough for words"), std::string_view::npos);
  EXPECT_EQ(bad_utf8("é€😀"), std::string_view::npos);
  EXPECT_EQ(bad_utf8("ab\xC0\x80"), 2U);  // overlong
  EXPECT_EQ(bad_utf8("ab\xED\xA0\x80"), 2U);  // a surrogate
  EXPECT_EQ(bad_utf8("ab\xF4\x90\x80\x80"), 2U);  // beyond U+10FFFF
  EXPECT_EQ(bad_utf8("12345678\xE2\x82"), 8U);  // cut
}

TEST(WireCodec, BoundsOfARequestAreHeld) {
  const auto refused = [](Request request, std::vector<size_t> sizes = {}) {
    const Packed packed = pack_submit(id_of(1), 1, request, Limits());
    const auto read = read_submit(packed.body, Limits());
    if (!read.ok()) return read.status();
    return check_blobs(read->draft, sizes, Limits());
  };
  Request r;
  r.sampling.temperature = -1.0F;
  EXPECT_NE(refused(r).message().find("temperature"), std::string::npos);
  r.sampling = {};
  r.sampling.n = 129;
  EXPECT_FALSE(refused(r).ok());
  r.sampling = {};
  r.sampling.min_tokens = 5;
  r.sampling.max_tokens = 4;
  EXPECT_FALSE(refused(r).ok());
  Request image;
  ImageInput pixels;
  pixels.kind = ImageKind::pixels;
  pixels.width = pixels.height = 4;
  pixels.bytes = blob_of("too few");
  image.images = {pixels};
  EXPECT_NE(refused(image, {7}).message().find("48"), std::string::npos);
  pixels.width = pixels.height = 1 << 20;
  image.images = {pixels};
  EXPECT_EQ(refused(image, {7}).code(), Code::limit);
  Request nowhere;
  nowhere.prompt.push_back({PromptPart::Kind::image, "", {}, 3});
  EXPECT_NE(refused(nowhere).message().find("image 3"), std::string::npos);
}

// ---- docs/protocol.md ---------------------------------------------------------------------------

std::string hex(std::string_view bytes) {
  std::string text;
  char digits[4];
  for (const char byte : bytes) {
    std::snprintf(digits, sizeof digits, "%02x ",
                  static_cast<unsigned>(static_cast<uint8_t>(byte)));
    text += digits;
  }
  if (!text.empty()) text.pop_back();
  return text;
}

std::map<std::string, std::pair<Kind, std::string>> examples() {
  std::map<std::string, std::pair<Kind, std::string>> all;
  const auto add = [&](const char* name, Kind kind, auto write) {
    std::string body;
    write(body);
    all[name] = {kind, body};
  };
  const Id128 request = id_of(0x10);
  add("HELLO", Kind::hello, [&](std::string& b) {
    Hello hello;
    hello.client = id_of(0);
    hello.name = "doc";
    write_hello(b, hello);
  });
  add("SUBMIT", Kind::submit, [&](std::string& b) {
    Request r;
    r.prompt.push_back({PromptPart::Kind::text, "hi", {}, 0});
    r.sampling.max_tokens = 4;
    b = pack_submit(request, 8, r, Limits()).body;
  });
  add("ACCEPTED", Kind::accepted, [&](std::string& b) { write_id(b, request); });
  add("DELTA", Kind::delta, [&](std::string& b) {
    const std::vector<int32_t> tokens = {104, 105};
    DeltaView view;
    view.tokens = tokens;
    view.text = "hi";
    view.usage = {2, 0, 2, 0};
    write_delta(b, request, 0, view);
  });
  add("DONE", Kind::done, [&](std::string& b) {
    Event end;
    end.finish = FinishReason::stop;
    end.stop_token = 256;
    end.usage = {2, 0, 3, 0};
    end.timings = {1000, 2000, 3000};
    write_end(b, request, 1, end);
  });
  add("FAILED", Kind::failed, [&](std::string& b) {
    Event end;
    end.finish = FinishReason::error;
    end.status = {Code::overloaded, "full"};
    write_end(b, request, 0, end);
  });
  add("CREDIT", Kind::credit, [&](std::string& b) { write_credit(b, request, 8); });
  add("RESUME", Kind::resume, [&](std::string& b) {
    const Position at{2, 2};
    write_resume(b, request, std::span(&at, 1), 8);
  });
  add("RELEASE", Kind::release, [&](std::string& b) { write_id(b, request); });
  add("PING", Kind::ping, [&](std::string& b) { write_ping(b, 1000); });
  add("PONG", Kind::pong, [&](std::string& b) { write_pong(b, {1000, 42, 0, 1}); });
  add("TOKENIZE", Kind::tokenize, [&](std::string& b) { write_tokenize(b, 5, "hi", kAddSpecial); });
  add("BYE", Kind::bye, [&](std::string& b) { write_bye(b, {}); });
  return all;
}

TEST(WireDocs, TheWorkedExamplesAreWhatIsSent) {
  std::ifstream file("docs/protocol.md");
  ASSERT_TRUE(file.is_open());
  std::map<std::string, std::string> shown;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("```trp ")) continue;
    std::string bytes;
    const std::string name = line.substr(7);
    while (std::getline(file, line) && line != "```") {
      std::istringstream words(line.substr(0, line.find('#')));  // what follows a # explains
      for (std::string byte; words >> byte;) bytes += (bytes.empty() ? "" : " ") + byte;
    }
    shown[name] = bytes;
  }
  for (const auto& [name, message] : examples()) {
    const auto head = head_of(message.first);
    const std::string sent = hex({head.data(), head.size()}) + " " + hex(message.second);
    EXPECT_EQ(shown[name], sent) << "the example " << name << " of docs/protocol.md";
    shown.erase(name);
  }
  for (const auto& [name, bytes] : shown)
    ADD_FAILURE() << "docs/protocol.md has an example that no test knows: " << name;
}

}  // namespace
}  // namespace troupe::wire
