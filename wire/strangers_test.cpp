// Strangers at the door, over raw TCP: scanners, half a handshake, a HELLO played again, no key and
// made-up keys. They get nothing, and leave nothing behind.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/question_codec.hpp"
#include "wire/test_sockets.hpp"

namespace troupe::wire {
namespace {

constexpr size_t kGreetingBytes = 64;

// ZMTP 3.0 by hand.
std::string greeting(std::string_view mechanism) {
  std::string bytes("\xff\0\0\0\0\0\0\0\0\x7f\x03\x00", 12);
  bytes += mechanism;
  bytes.resize(kGreetingBytes, '\0');
  return bytes;
}

std::string ready() {
  const std::string body =
      std::string("\x05READY\x0bSocket-Type", 18) + std::string("\0\0\0\x06", 4) + "DEALER";
  return std::string("\x04") + static_cast<char>(body.size()) + body;
}

std::string framed(Kind kind, const std::string& body) {
  const auto head = head_of(kind);
  std::string bytes = std::string("\x01\x04", 2).append(head.data(), head.size());
  return bytes + '\0' + static_cast<char>(body.size()) + body;
}

class RawPeer {
 public:
  explicit RawPeer(const std::string& endpoint) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_of(endpoint));
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~RawPeer() { ::close(fd_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  void send(const std::string& bytes) const {
    static_cast<void>(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }
  // Reads until `text` has come, the other side closes, or time is up. Did the text come?
  bool reads(std::string_view text, std::chrono::milliseconds time) {
    read_while([&] { return got.find(text) == std::string::npos; }, time);
    return got.find(text) != std::string::npos;
  }
  bool is_closed_within(std::chrono::milliseconds time) {
    read_while([] { return true; }, time);
    return closed_;
  }
  std::string got;

 private:
  template <class Wants>
  void read_while(Wants wants, std::chrono::milliseconds time) {
    const int64_t until = steady_now_ns() + std::chrono::nanoseconds(time).count();
    while (!closed_ && wants()) {
      const int64_t left_ms = (until - steady_now_ns()) / 1'000'000;
      pollfd item{fd_, POLLIN, 0};
      if (left_ms <= 0 || ::poll(&item, 1, static_cast<int>(left_ms)) <= 0) return;
      std::array<char, 4096> bytes{};
      const ssize_t n = ::recv(fd_, bytes.data(), bytes.size(), 0);
      if (n > 0) got.append(bytes.data(), static_cast<size_t>(n));
      closed_ = n <= 0;
    }
  }
  int fd_;
  bool closed_ = false;
};

// What only who has been welcomed may know.
void expect_nothing_of_ours(const std::string& got) {
  EXPECT_EQ(got.find(std::string_view("TR\x01", 3)), std::string::npos);
  EXPECT_EQ(got.find("counting"), std::string::npos);
  EXPECT_EQ(got.find("roupe"), std::string::npos);
}

std::string hello_of(uint8_t client) {
  Hello hello;
  hello.speaks_this_version = true;
  hello.client[0] = client;
  std::string body;
  write_hello(body, hello);
  return framed(Kind::hello, body);
}

constexpr std::string_view kWelcome("TR\x01\x02", 4), kRefused("TR\x01\x03", 4),
    kPong("TR\x01\x05", 4);

TEST(WireStrangers, AScannerHearsZmtpsGreetingAtMostAndIsCutOff) {
  const auto server = must_serve(std::make_shared<SteppedEngine>(), "tcp://127.0.0.1:*", quick());
  std::mt19937 random(5);
  std::string noise(2000, '\0');
  for (char& byte : noise) byte = static_cast<char>(random());
  const std::string scans[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                               std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
                               "SSH-2.0-scan\r\n", noise, ""};
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (const std::string& scan : scans) {
    peers.push_back(std::make_unique<RawPeer>(server->endpoint()));
    peers.back()->send(scan);
  }
  for (size_t i = 0; i < peers.size(); ++i) {
    EXPECT_TRUE(peers[i]->is_closed_within(15s)) << "after " << scans[i].substr(0, 16);
    EXPECT_LE(peers[i]->got.size(), kGreetingBytes);
    expect_nothing_of_ours(peers[i]->got);
  }
}

TEST(WireStrangers, WhoDoesNotSayHelloIsNotAnswered) {
  const auto server = must_serve(std::make_shared<SteppedEngine>(), "tcp://127.0.0.1:*", quick());
  RawPeer peer(server->endpoint());
  peer.send(greeting("NULL") + ready());
  ASSERT_TRUE(peer.reads("READY", 10s));
  std::string ping, stats, tokenize;
  write_ping(ping, 7);
  write_plain(stats, 1);
  write_tokenize(tokenize, 2, "secret?", 0);
  peer.send(framed(Kind::ping, ping) + framed(Kind::stats, stats) +
            framed(Kind::tokenize, tokenize) + framed(Kind::submit, "\xc1") +
            framed(Kind::bye, "\x80") + framed(Kind::hello, "\xc1garbage"));
  EXPECT_FALSE(peer.reads("TR", 500ms));
  expect_nothing_of_ours(peer.got);
  peer.send(hello_of(1) + framed(Kind::ping, ping));  // and now that it does, it is
  EXPECT_TRUE(peer.reads(kWelcome, 10s));
  EXPECT_TRUE(peer.reads(kPong, 10s));
}

TEST(WireStrangers, AReplayedHelloGetsNothing) {
  const auto server = must_serve(std::make_shared<SteppedEngine>(), "tcp://127.0.0.1:*", quick());
  RawPeer client(server->endpoint()), thief(server->endpoint());
  client.send(greeting("NULL") + ready());
  thief.send(greeting("NULL") + ready());
  ASSERT_TRUE(client.reads("READY", 10s) && thief.reads("READY", 10s));
  client.send(hello_of(9));
  ASSERT_TRUE(client.reads(kWelcome, 10s));
  thief.send(hello_of(9));
  ASSERT_TRUE(thief.reads(kRefused, 10s));
  EXPECT_EQ(thief.got.find(kWelcome), std::string::npos);
  EXPECT_EQ(thief.got.find("counting"), std::string::npos);
  std::string stats, ping;
  write_plain(stats, 1);
  write_ping(ping, 1);
  const size_t had = thief.got.size();
  thief.send(framed(Kind::stats, stats));
  EXPECT_FALSE(thief.reads("TR\x01\x3f", 300ms));
  EXPECT_EQ(thief.got.size(), had);
  // On its own connection it is ignored, and the client has lost nothing.
  client.got.clear();
  client.send(hello_of(9) + framed(Kind::ping, ping));
  EXPECT_TRUE(client.reads(kPong, 10s));
  EXPECT_EQ(client.got.find(kWelcome), std::string::npos);
  EXPECT_EQ(client.got.find(kRefused), std::string::npos);
}

TEST(WireStrangers, NoKeyAndMadeUpKeysGetNothing) {
  const Keys keys = Keys::make();
  ServerOptions options = quick();
  options.secret_key = keys.secret_key;
  const auto server = must_serve(std::make_shared<SteppedEngine>(), "tcp://127.0.0.1:*", options);
  {
    RawPeer plain(server->endpoint());
    plain.send(greeting("NULL") + ready() + hello_of(1));
    EXPECT_TRUE(plain.is_closed_within(15s));
    expect_nothing_of_ours(plain.got);
  }
  std::mt19937 random(6);
  std::string hello = std::string("\x05HELLO\x01\x00", 8);
  while (hello.size() < 200) hello += static_cast<char>(random());
  RawPeer liar(server->endpoint());
  liar.send(greeting("CURVE") + std::string("\x04\xc8", 2) + hello);
  EXPECT_TRUE(liar.is_closed_within(15s));
  EXPECT_EQ(liar.got.find("\x07WELCOME"), std::string::npos);
  expect_nothing_of_ours(liar.got);
}

size_t open_files() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

TEST(WireStrangers, TheyLeaveNothingBehind) {
  const auto server = must_serve(std::make_shared<SteppedEngine>(), "tcp://127.0.0.1:*", quick());
  auto port = try_connect(server->endpoint());
  ASSERT_TRUE(port.ok()) << port.status().message();
  const size_t before = open_files();
  for (int i = 0; i < 200; ++i) {
    RawPeer peer(server->endpoint());
    if (i % 4 == 0) peer.send("GET / HTTP/1.1\r\n\r\n");
    if (i % 4 == 1) peer.send(greeting("NULL"));
    if (i % 4 == 2) {
      peer.send(greeting("NULL") + ready());
      EXPECT_TRUE(peer.reads("READY", 10s));
      peer.send(framed(Kind::stats, "\xc1") + framed(Kind::hello, "\xc1"));
    }
  }
  for (int i = 0; i < 100 && open_files() > before; ++i) std::this_thread::sleep_for(100ms);
  EXPECT_LE(open_files(), before);
  const std::string metrics = (*port)->metrics().value();
  EXPECT_NE(metrics.find("troupe_wire_connections 1\n"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("troupe_wire_clients 1\n"), std::string::npos);
  expect_answers(**port);
}

}  // namespace
}  // namespace troupe::wire
