#include "wire/server.hpp"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "wire/allow_list.hpp"
#include "wire/endpoint.hpp"
#include "wire/server_core.hpp"
#include "wire/server_settings.hpp"
#include "wire/socket_io.hpp"
#include "wire/workers.hpp"
#include "wire/zap.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
// What is read at once before others have their turn: answers, news, time. A full round takes a
// millisecond at least.
constexpr int kRound = 64;
constexpr size_t kRoundBytes = kChunkBytes;
constexpr int64_t kRound_ns = 1 * kMs;
// News younger than this wait for company: many deltas make one message.
constexpr int64_t kGather_ns = 1 * kMs;
constexpr int64_t kTick_ns = 50 * kMs;
constexpr int64_t kChoked_ns = 5 * kMs;
constexpr int64_t kAllowCheck_ns = 1'000 * kMs;
constexpr int64_t kCancelTime_ns = 2'000 * kMs;
constexpr int kGoodbye_ms = 300;
constexpr int kWorkers = 2;
constexpr int kQueuedMessages = 256;  // per peer and direction
constexpr int kBacklog = 1024;

class WakingReadyList final : public ReadyList {
 public:
  [[nodiscard]] const WakeFd& fd() const { return fd_; }

 private:
  void wake() override { fd_.wake(); }
  WakeFd fd_;
};

class Server final : public ServerPort, private Host {
 public:
  Server(std::shared_ptr<EnginePort> engine, EngineInfo info, ServerConfig config,
         AllowList allowed)
      : config_(config),
        allowed_(std::move(allowed)),
        context_(1),
        router_(context_, zmq::socket_type::router),
        ready_(std::make_shared<WakingReadyList>()),
        core_(std::move(engine), std::move(info), config, ready_, *this) {}
  ~Server() override { static_cast<void>(close(0)); }

  Status bind(const std::string& endpoint, const ServerOptions& options);
  [[nodiscard]] std::string endpoint() const override { return endpoint_; }
  Status close(int64_t drain_ns) override;

 private:
  // Host
  Sent send(std::string_view peer, Kind kind, std::string_view body,
            std::span<const SharedBytes> blobs) override;
  void run(std::function<std::function<void()>()> work) override;
  Id128 random_id() override;
  [[nodiscard]] bool allows(std::string_view identity) const override {
    return !zap_ || allowed_.allows(std::string(identity));
  }

  void loop();
  int64_t read_round(int64_t now_ns);
  bool wait(int64_t now_ns);
  [[nodiscard]] int64_t wake_ns() const;
  void send_what_is_due(int64_t now_ns);
  void take_inbox();
  void check_allowed(int64_t now_ns);
  void post(std::function<void()> work);
  // Runs `work` on the I/O thread and waits for it.
  void visit(const std::function<void()>& work);
  uint64_t awaited();

  const ServerConfig config_;
  AllowList allowed_;
  zmq::context_t context_;
  std::optional<Zap> zap_;
  zmq::socket_t router_;
  std::string endpoint_;

  const std::shared_ptr<WakingReadyList> ready_;
  std::mutex inbox_mutex_;
  std::vector<std::function<void()>> inbox_;
  std::optional<Workers> workers_;

  ServerCore core_;
  Received received_;
  int64_t pumped_ns_ = 0, ticked_ns_ = 0, read_again_ns_ = 0, allow_checked_ns_ = 0;
  bool news_ = false;
  std::atomic<bool> over_{false};
  std::mutex closing_;
  bool closed_ = false;
  std::thread thread_;
};

Status Server::bind(const std::string& endpoint, const ServerOptions& options) {
  try {
    if (!options.secret_key.empty()) {
      zap_.emplace(context_, allowed_);
      router_.set(zmq::sockopt::curve_server, true);
      router_.set(zmq::sockopt::curve_secretkey, options.secret_key);
      router_.set(zmq::sockopt::zap_domain, "troupe");
    }
    const auto frame = std::max(config_.limits.body_bytes, config_.limits.blob_bytes);
    router_.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(frame));
    router_.set(zmq::sockopt::router_mandatory, true);
    router_.set(zmq::sockopt::linger, 0);
    router_.set(zmq::sockopt::sndhwm, kQueuedMessages);
    router_.set(zmq::sockopt::rcvhwm, kQueuedMessages);
    router_.set(zmq::sockopt::backlog, kBacklog);
    router_.set(zmq::sockopt::handshake_ivl, 5000);
    const int beat = static_cast<int>(std::clamp<int64_t>(config_.idle_ms / 2, 1000, 60'000));
    router_.set(zmq::sockopt::heartbeat_ivl, beat);
    router_.set(zmq::sockopt::heartbeat_timeout, 3 * beat);
    router_.set(zmq::sockopt::heartbeat_ttl, std::min(3 * beat, 65'000));
    router_.set(zmq::sockopt::ipv6, endpoint.find('[') != std::string::npos);
    router_.bind(bound_endpoint(endpoint));
    endpoint_ = router_.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& e) {
    return cannot_bind(endpoint, e.num(), e.what());
  }
  workers_.emplace(kWorkers);
  thread_ = std::thread([this] { loop(); });
  return {};
}

// ---- Host ---------------------------------------------------------------------------------------

Sent Server::send(std::string_view peer, Kind kind, std::string_view body,
                  std::span<const SharedBytes> blobs) {
  switch (send_message(router_, peer, kind, body, blobs)) {
    case SendOutcome::sent:
      return Sent::sent;
    case SendOutcome::full:
      return Sent::full;
    case SendOutcome::gone:
      break;
  }
  return Sent::gone;
}

void Server::run(std::function<std::function<void()>()> work) {
  workers_->give([this, work = std::move(work)] { post(work()); });
}

Id128 Server::random_id() {
  return draw_id();
}

void Server::post(std::function<void()> work) {
  {
    const std::scoped_lock lock(inbox_mutex_);
    inbox_.push_back(std::move(work));
  }
  ready_->fd().wake();
}

void Server::visit(const std::function<void()>& work) {
  std::mutex mutex;
  std::condition_variable done;
  bool over = false;
  post([&] {
    work();
    const std::scoped_lock lock(mutex);
    over = true;
    done.notify_all();
  });
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return over; });
}

// ---- the I/O thread -----------------------------------------------------------------------------

void Server::take_inbox() {
  std::vector<std::function<void()>> work;
  {
    const std::scoped_lock lock(inbox_mutex_);
    work.swap(inbox_);
  }
  for (const auto& one : work) one();
}

// How long reading must rest afterwards. The socket gives a message of each connection in turn, so
// a message that was beyond its sender's share ends the round, and before the next one of this
// sender everybody else has been read: who stays within its share waits for one rest at most.
int64_t Server::read_round(int64_t now_ns) {
  // Asked for its events, the socket looks at all connections; while it has messages at hand it
  // would look only every hundred frames.
  (void)router_.get(zmq::sockopt::events);
  size_t bytes = 0;
  for (int i = 0; i < kRound; ++i) {
    const Received::Outcome outcome = received_.receive(router_, true);
    if (outcome == Received::Outcome::none) return 0;
    Incoming message;
    message.peer = received_.peer();
    if (outcome == Received::Outcome::message) {  // nonsense is only charged
      message.head = received_.head();
      message.body = received_.body();
      message.blobs = received_.take_blobs();
      bytes += message.body.size();
      for (const SharedBytes& blob : message.blobs) bytes += blob.size;
      if (kind_of(message.head) == Kind::hello) {
        message.identity = received_.user_id();
        message.link = received_.link();
      }
    }
    message.connection = received_.connection();
    core_.receive(std::move(message), now_ns);
    if (core_.rest_ns() > 0) return core_.rest_ns();
    if (bytes >= kRoundBytes) return 0;
  }
  return kRound_ns;
}

// When something is to be done that nobody will wake the thread for.
int64_t Server::wake_ns() const {
  int64_t until = ticked_ns_ + (core_.choked() ? kChoked_ns : kTick_ns);
  if (news_) until = std::min(until, pumped_ns_ + kGather_ns);
  if (read_again_ns_ != 0) until = std::min(until, read_again_ns_);
  return std::min(until, core_.due_ns());
}

// Until there is something to do. True: the socket may be read. While news wait for company, and
// while reading rests, they do not wake; a rest is shorter than the milliseconds that zmq_poll
// knows.
bool Server::wait(int64_t now_ns) {
  const int64_t left_ns = std::clamp<int64_t>(wake_ns() - now_ns, 0, 1'000 * kMs);
  const short news = static_cast<short>(news_ ? 0 : ZMQ_POLLIN);
  bool woken = false;
  if (read_again_ns_ != 0 && now_ns < read_again_ns_) {
    pollfd item{ready_->fd().fd(), static_cast<short>(news_ ? 0 : POLLIN), 0};
    const timespec time{left_ns / (1'000 * kMs), left_ns % (1'000 * kMs)};
    woken = ::ppoll(&item, 1, &time, nullptr) > 0 && (item.revents & POLLIN) != 0;
  } else {
    zmq::pollitem_t items[3] = {{nullptr, ready_->fd().fd(), news, 0},
                                {router_.handle(), 0, ZMQ_POLLIN, 0},
                                {zap_ ? zap_->socket().handle() : nullptr, zap_ ? 0 : -1,
                                 static_cast<short>(zap_ ? ZMQ_POLLIN : 0), 0}};
    zmq_poll(items, zap_ ? 3 : 2, static_cast<int>((left_ns + kMs - 1) / kMs));
    woken = (items[0].revents & ZMQ_POLLIN) != 0;
  }
  if (woken) {
    ready_->fd().clear();
    news_ = true;
  }
  return read_again_ns_ == 0 || steady_now_ns() >= read_again_ns_;
}

void Server::send_what_is_due(int64_t now_ns) {
  if (news_ && now_ns - pumped_ns_ >= kGather_ns) {
    news_ = false;
    pumped_ns_ = now_ns;
    core_.pump(now_ns);
  } else if (core_.pending(now_ns)) {
    core_.send_answers(now_ns);
  }
}

void Server::check_allowed(int64_t now_ns) {
  if (!zap_ || now_ns - allow_checked_ns_ < kAllowCheck_ns) return;
  allow_checked_ns_ = now_ns;
  Status problem;
  if (allowed_.reload(problem)) {
    core_.revoke([this](const std::string& key) { return allowed_.allows(key); });
    log(LogLevel::info, "wire: the list of client keys was read again");
  }
  if (!problem.ok())
    log(LogLevel::warn, "wire: the old list of client keys stays in force: " + problem.message());
}

void Server::loop() {
  while (!over_) {
    const bool reads = wait(steady_now_ns());
    const int64_t now = steady_now_ns();
    if (zap_) zap_->serve(kRound);
    if (reads) {
      const int64_t pause_ns = read_round(now);
      read_again_ns_ = pause_ns == 0 ? 0 : now + pause_ns;
    }
    take_inbox();
    check_allowed(now);
    if (now - ticked_ns_ >= (core_.choked() ? kChoked_ns : kTick_ns)) {
      core_.tick(now);
      ticked_ns_ = now;
    }
    send_what_is_due(now);
  }
}

// ---- the end ------------------------------------------------------------------------------------

uint64_t Server::awaited() {
  uint64_t count = 0;
  visit([&] { count = core_.awaited(); });
  return count;
}

Status Server::close(int64_t drain_ns) {
  const std::scoped_lock lock(closing_);
  if (std::exchange(closed_, true) || !thread_.joinable()) return {};
  const int64_t begun = steady_now_ns();
  std::mutex mutex;
  std::condition_variable pause;
  const auto idle_until = [&](int64_t until) {
    while (awaited() > 0 && steady_now_ns() < until) {
      std::unique_lock waiting(mutex);
      pause.wait_for(waiting, std::chrono::milliseconds(10));
    }
  };
  visit([&] { core_.drain(drain_ns); });
  if (drain_ns > 0) idle_until(begun + std::min(drain_ns, int64_t{365} * 24 * 3600 * 1000 * kMs));
  visit([&] {
    core_.cancel_all({Code::closed, "the server was stopped before the request had ended", true});
  });
  idle_until(steady_now_ns() + kCancelTime_ns);
  visit([&] {
    core_.pump(steady_now_ns());
    core_.stop({Code::closed, "the server was stopped", true});
  });
  over_ = true;
  ready_->fd().wake();
  thread_.join();
  workers_.reset();  // whose last answers nobody takes
  remove_socket(endpoint_);  // while it is ours: nobody else has bound there yet
  router_.set(zmq::sockopt::linger, kGoodbye_ms);
  router_.close();
  return {};
}

}  // namespace

Result<std::unique_ptr<ServerPort>> serve(std::shared_ptr<EnginePort> engine,
                                          const std::string& bind, const ServerOptions& given) {
  ServerOptions options = given;
  if (options.secret_key.empty() && !options.public_key.empty()) {
    return invalid("public_key is given without secret_key: a CURVE server needs its secret half");
  }
  if (options.secret_key.empty() && !options.client_keys.empty()) {
    return invalid(
        "client_keys is given without secret_key: without CURVE no client can prove its key");
  }
  if (!options.secret_key.empty()) {
    TR_TRY(check_key("secret_key", options.secret_key));
    TR_ASSIGN(const std::string derived, public_of(options.secret_key));
    if (!options.public_key.empty() && options.public_key != derived) {
      return invalid("public_key and secret_key are no pair: the secret one's public half is " +
                     derived);
    }
  }
  TR_TRY(check_bind(bind, !options.secret_key.empty(), options.allow_plaintext));
  TR_ASSIGN(AllowList allowed, AllowList::open(options.client_keys));
  TR_ASSIGN(EngineInfo info, engine->info());
  TR_ASSIGN(const ServerConfig config, server_config(options, info));
  try {
    auto server =
        std::make_unique<Server>(std::move(engine), std::move(info), config, std::move(allowed));
    TR_TRY(server->bind(bind, options));
    return std::unique_ptr<ServerPort>(std::move(server));
  } catch (const zmq::error_t& e) {
    return internal_error("serving " + bind + ": " + e.what());
  }
}

}  // namespace troupe::wire
