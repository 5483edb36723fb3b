// A client made of a bare DEALER and msgpack, as others write theirs: names of its own choosing, a
// key that is taken off the list while it is connected, sockets that are in somebody's way.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <zmq.hpp>

#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/request_codec.hpp"
#include "wire/test_sockets.hpp"

namespace troupe::wire {
namespace {

class RawClient {
 public:
  RawClient(const std::string& endpoint, const std::string& name, const Keys& keys = {},
            const std::string& server_key = {})
      : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    if (!name.empty()) socket_.set(zmq::sockopt::routing_id, name);
    if (!server_key.empty()) {
      socket_.set(zmq::sockopt::curve_serverkey, server_key);
      socket_.set(zmq::sockopt::curve_publickey, keys.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
    }
    socket_.connect(endpoint);
  }

  void send(Kind kind, const std::string& body) {
    const auto head = head_of(kind);
    socket_.send(zmq::buffer(head.data(), head.size()), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(body));
  }
  void hello(uint8_t client, std::optional<Id128> ticket = {}) {
    Hello hello;
    hello.client[0] = client;
    hello.ticket = ticket;
    std::string body;
    write_hello(body, hello);
    send(Kind::hello, body);
  }
  void submit(uint8_t id, int32_t tokens) {
    send(Kind::submit, pack_submit(Id128{id}, 1 << 20, prompt(tokens), Limits()).body);
  }
  // The body of the next message of this kind; what comes before it is thrown away.
  std::optional<std::string> next(Kind kind, std::chrono::milliseconds time = 20s) {
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      zmq::pollitem_t item{socket_.handle(), 0, ZMQ_POLLIN, 0};
      zmq::poll(&item, 1, 10ms);
      std::vector<zmq::message_t> frames;
      zmq::message_t frame;
      while (socket_.recv(frame, zmq::recv_flags::dontwait)) {
        frames.push_back(std::move(frame));
        if (!frames.back().more()) break;
      }
      if (frames.size() >= 2 && kind_of(frames[0].to_string_view()) == kind)
        return frames[1].to_string();
    }
    return {};
  }
  std::optional<Welcome> welcomed() {
    const auto body = next(Kind::welcome);
    if (!body) return {};
    auto welcome = read_welcome(*body);
    return welcome.ok() ? std::optional(*welcome) : std::nullopt;
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

// Its process ends without a word and is started anew: ZeroMQ's name of it is the same.
TEST(WireRawClient, ANameOfItsOwnComesAgainWithANewConnection) {
  const auto engine = std::make_shared<SteppedEngine>();
  const auto server = must_serve(engine, "tcp://127.0.0.1:*", {});
  Id128 ticket{};
  {
    RawClient first(server->endpoint(), "worker-1");
    first.hello(1);
    const auto welcome = first.welcomed();
    ASSERT_TRUE(welcome.has_value());
    ticket = welcome->ticket;
    first.submit(9, 1 << 30);
    ASSERT_TRUE(first.next(Kind::delta).has_value());
  }
  std::this_thread::sleep_for(300ms);  // else ZeroMQ takes the second for a double of the first
  {
    RawClient stranger(server->endpoint(), "worker-1");  // who says no HELLO is nobody
    std::string cancel, ping;
    write_id(cancel, Id128{9});
    write_ping(ping, 1);
    stranger.send(Kind::cancel, cancel);
    stranger.send(Kind::ping, ping);
    EXPECT_FALSE(stranger.next(Kind::pong, 500ms).has_value());
    EXPECT_EQ(engine->with([](auto& e) { return e.cancels; }), 0U);
  }
  std::unique_ptr<RawClient> again;
  std::optional<std::string> body;
  for (int i = 0; i < 20 && !body; ++i) {  // until ZeroMQ has seen the last of the others
    again = std::make_unique<RawClient>(server->endpoint(), "worker-1");
    again->hello(1, ticket);
    body = again->next(Kind::welcome, 1s);
  }
  ASSERT_TRUE(body.has_value());
  EXPECT_TRUE(read_welcome(*body)->resumed);
  std::string resume;
  write_resume(resume, Id128{9}, {}, 8);
  again->send(Kind::resume, resume);
  EXPECT_TRUE(again->next(Kind::delta).has_value());
  again->hello(2);  // but a second HELLO on one connection is ignored, whoever it names
  EXPECT_FALSE(again->next(Kind::welcome, 300ms).has_value());
}

TEST(WireRawClient, AKeyThatWasTakenOffTheListSaysHelloInVain) {
  const Keys server_keys = Keys::make(), alice = Keys::make(), bob = Keys::make();
  const std::string list = temporary("raw-clients");
  std::ofstream(list) << alice.public_key << "\n" << bob.public_key << "\n";
  ServerOptions options;
  options.secret_key = server_keys.secret_key;
  options.client_keys = list;
  const auto engine = std::make_shared<SteppedEngine>();
  const auto server = must_serve(engine, "tcp://127.0.0.1:*", options);
  RawClient removed(server->endpoint(), "", alice, server_keys.public_key);
  RawClient kept(server->endpoint(), "", bob, server_keys.public_key);
  for (RawClient* one : {&removed, &kept}) {
    one->hello(1);
    ASSERT_TRUE(one->welcomed().has_value());
    one->submit(3, 1 << 30);
    ASSERT_TRUE(one->next(Kind::delta).has_value());
  }
  std::ofstream(list) << bob.public_key << "\n";
  const auto told = removed.next(Kind::refused);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(read_refused(*told).code(), Code::unauthorised);
  removed.hello(7);  // over the connection that ZeroMQ still keeps
  const auto again = removed.next(Kind::refused);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(read_refused(*again).code(), Code::unauthorised);
  removed.submit(4, 5);
  EXPECT_FALSE(removed.next(Kind::accepted, 300ms).has_value());
  EXPECT_TRUE(kept.next(Kind::delta).has_value());
  ::unlink(list.c_str());
}

// libzmq would remove both without a word.
TEST(WireRawClient, ASocketsPathTakesNobodysPlace) {
  const auto engine = std::make_shared<SteppedEngine>();
  const std::string path = temporary("place");
  std::ofstream(path) << "precious\n";
  const auto over_a_file = serve(engine, "ipc://" + path, {});
  EXPECT_EQ(over_a_file.status().code(), Code::invalid);
  EXPECT_NE(over_a_file.status().message().find("no socket"), std::string::npos);
  std::string line;
  std::getline(std::ifstream(path) >> std::ws, line);
  EXPECT_EQ(line, "precious");
  ::unlink(path.c_str());
  auto first = must_serve(engine, "ipc://" + path, {});
  const auto second = serve(engine, "ipc://" + path, {});
  EXPECT_EQ(second.status().code(), Code::invalid);
  EXPECT_NE(second.status().message().find("in use"), std::string::npos);
  auto port = try_connect("ipc://" + path);
  ASSERT_TRUE(port.ok()) << port.status().message();
  expect_answers(**port);
  first.reset();
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "its socket goes with it";
  const auto tcp = must_serve(engine, "tcp://127.0.0.1:*", {});
  EXPECT_NE(serve(engine, tcp->endpoint(), {}).status().message().find("in use"),
            std::string::npos);
  const auto far = serve(engine, "ipc:///tmp/" + std::string(200, 'x'), {});
  EXPECT_EQ(far.status().code(), Code::invalid);
  EXPECT_NE(far.status().message().find("at most 107"), std::string::npos)
      << far.status().message();
}

TEST(WireRawClient, AnotherFamilyOfAddresses) {
  const auto engine = std::make_shared<SteppedEngine>();
  const auto refused = serve(engine, "tcp://[::]:*", {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("--allow-plaintext"), std::string::npos);
  const auto server = serve(engine, "tcp://[::1]:*", {});
  if (!server.ok()) GTEST_SKIP() << "no IPv6 here: " << server.status().message();
  auto port = try_connect((*server)->endpoint());
  ASSERT_TRUE(port.ok()) << port.status().message();
  expect_answers(**port);
}

}  // namespace
}  // namespace troupe::wire
