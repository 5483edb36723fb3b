// Fuzzes both state machines with whole conversations. The input is a list of steps, each a byte
// that says who does what and, for messages, kind, length and body: strangers, a client that has
// said HELLO, one that knows its own requests by name and says the wrong things about them, and a
// server that answers a client core with anything at all. After every step the server's books must
// agree with themselves.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "wire/test_world.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace troupe::wire;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(reinterpret_cast<const char*>(data), size) {}
  [[nodiscard]] bool empty() const { return data_.empty(); }
  uint8_t byte() {
    if (data_.empty()) return 0;
    const auto value = static_cast<uint8_t>(data_[0]);
    data_.remove_prefix(1);
    return value;
  }
  std::string_view bytes(size_t n) {
    const std::string_view taken = data_.substr(0, n);
    data_.remove_prefix(taken.size());
    return taken;
  }

 private:
  std::string_view data_;
};

// A message to the server from `peer`, perhaps with a blob behind it.
void to_server(World& world, std::string_view peer, Input& input, bool blob) {
  const auto head = head_of(static_cast<Kind>(input.byte()));
  const std::string_view body = input.bytes(input.byte());
  Incoming message;
  message.peer = peer;
  message.head = {head.data(), head.size()};
  message.body = body;
  if (blob) {
    auto bytes = std::make_shared<std::vector<std::byte>>(input.byte());
    message.blobs.push_back({bytes, bytes->data(), bytes->size()});
  }
  world.server->receive(std::move(message), world.now_ns);
}

void to_client(World& world, World::Side& side, Input& input) {
  const auto head = head_of(static_cast<Kind>(input.byte()));
  side.core->receive({head.data(), head.size()}, input.bytes(input.byte()), {}, world.now_ns);
}

void submit(World& world, World::Side& side, uint8_t how) {
  troupe::Request request;
  request.prompt.push_back({troupe::PromptPart::Kind::text, "x", {}, 0});
  request.sampling.max_tokens = how % 16;
  request.sampling.n = 1 + how % 3;
  if (how > 200) {
    auto bytes = std::make_shared<std::vector<std::byte>>(300'000);
    request.images.push_back({troupe::ImageKind::encoded, {bytes, bytes->data(), bytes->size()}});
  }
  world.submit(side, std::move(request));
}

Id128 small_name(Input& input) {
  return Id128{static_cast<uint8_t>(input.byte() % 4)};
}

troupe::Request with_image(size_t bytes) {
  troupe::Request request;
  request.prompt.push_back({troupe::PromptPart::Kind::image, "", {}, 0});
  const auto data = std::make_shared<std::vector<std::byte>>(bytes);
  request.images.push_back({troupe::ImageKind::encoded, {data, data->data(), data->size()}});
  return request;
}

// Well formed, about requests that may be there, in any order.
void about_known(World& world, const World::Side& side, Input& input) {
  const Kind kinds[] = {Kind::credit,  Kind::cancel, Kind::resume,
                        Kind::release, Kind::submit, Kind::blob};
  const Kind kind = kinds[input.byte() % std::size(kinds)];
  const Id128 name = small_name(input);
  const uint8_t how = input.byte();
  std::string body;
  std::vector<troupe::SharedBytes> blobs;
  switch (kind) {
    case Kind::credit:
      write_credit(body, name, how);
      break;
    case Kind::resume: {
      const Position from[] = {{how % 8U, how / 8U}, {how / 16U, how % 4U}};
      write_resume(body, name, std::span(from).first(how % 3), how);
      break;
    }
    case Kind::submit: {
      troupe::Request request = how > 128 ? with_image(300'000) : troupe::Request();
      request.prompt.push_back({troupe::PromptPart::Kind::text, "y", {}, 0});
      request.sampling.max_tokens = how % 16;
      request.session = how % 5 == 4 ? how : 0;
      if (how % 7 == 0) request.deadline_ns = int64_t{how} * 10'000'000;
      Limits limits;
      limits.blob_bytes = 100'000;
      body = pack_submit(name, how, request, limits).body;
      break;
    }
    case Kind::blob: {
      const uint8_t at = input.byte();
      write_blob(body, name, at % 2, at / 2 * 1'000U);
      const auto bytes = std::make_shared<std::vector<std::byte>>(size_t{how} * 1'000);
      blobs.push_back({bytes, bytes->data(), bytes->size()});
      break;
    }
    default:
      write_id(body, name);
  }
  world.knock(side, kind, body, std::move(blobs));
}

// The peer's name on another connection, which says HELLO; or a key that comes and goes.
void change_hands(World& world, World::Side& side, uint8_t how) {
  static constexpr int kOther[4] = {};
  if (how < 64) {
    world.allowed = [how](std::string_view) { return how % 2 == 0; };
    world.server->revoke([how](const std::string&) { return how % 4 != 3; });
    return;
  }
  Hello hello;
  hello.client[0] = how;
  std::string body;
  write_hello(body, hello);
  world.knock(side, Kind::hello, body, {}, &kOther[how % 4]);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ServerConfig config;
  config.resume_ms = 500;
  config.heartbeat_ms = 100;
  config.limits.requests = 8;
  config.limits.blob_bytes = 100'000;
  World world(7, config, 2);  // most requests wait
  auto& client = world.add_client();
  auto& liar = world.add_client();
  world.rounds(3);
  Input input(data, size);
  for (int step = 0; step < 200 && !input.empty(); ++step) {
    const uint8_t what = input.byte();  // numbers are only ever added: the corpus keeps its meaning
    switch (what < 192 ? what % 12 : 12 + what % 2) {
      case 0:
        to_server(world, "stranger", input, false);
        break;
      case 1:
        to_server(world, liar.peer.empty() ? "stranger" : liar.peer, input, false);
        break;
      case 2:
        to_server(world, liar.peer.empty() ? "stranger" : liar.peer, input, true);
        break;
      case 3:
        to_client(world, liar, input);
        break;
      case 4:
        submit(world, client, input.byte());
        break;
      case 5:
        submit(world, liar, input.byte());
        break;
      case 6:
        world.cut(input.byte() % 2 == 0 ? client : liar, input.byte() % 2 == 0);
        break;
      case 7:
        client.core->cancel(input.byte());
        break;
      case 8:
        world.hold(client, input.byte() % 2 == 0);
        break;
      case 9:
        world.now_ns += int64_t{input.byte()} * 10'000'000;
        break;
      case 10:
        world.round_ns = 1'000'000 * (1 + input.byte());
        break;
      case 12:
        about_known(world, liar, input);
        break;
      case 13:
        change_hands(world, liar, input.byte());
        break;
      default:
        world.rounds(1 + input.byte() % 4);
        break;
    }
    const std::string wrong = world.server->check_integrity();
    TR_ASSERT(wrong.empty());
  }
  return 0;
}
