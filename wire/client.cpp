#include "wire/client.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.hpp"
#include "wire/client_core.hpp"
#include "wire/client_link.hpp"
#include "wire/client_settings.hpp"
#include "wire/endpoint.hpp"
#include "wire/slot.hpp"
#include "wire/socket_io.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int kTick_ms = 50;
constexpr int kRound = 256;
constexpr int64_t kCloseTime_ns = 2'000 * kMs;
constexpr int kGoodbye_ms = 300;

class RemotePort final : public EnginePort {
 public:
  RemotePort(const std::string& endpoint, const RemoteOptions& options, ClientConfig config)
      : endpoint_(endpoint),
        options_(options),
        call_ns_(config.call_ns),
        link_(endpoint, options),
        core_(std::move(config), link_) {}
  ~RemotePort() override { static_cast<void>(close(0)); }

  Status open(const StillWanted& wanted);

  Result<EngineInfo> info() override;
  Result<EngineStats> stats() override;
  Result<std::string> metrics() override {
    return ask_text(Kind::metrics, [](auto& body, auto call, auto&) { write_plain(body, call); });
  }
  Status set_option(std::string_view key, std::string_view) override {
    return unsupported("option \"" + std::string(key) + "\": " + endpoint_ +
                       " is remote, and its options are set where it is served");
  }
  Result<std::vector<int32_t>> tokenize(std::string_view text, bool add_special,
                                        bool parse_special) override;
  Result<std::string> detokenize(std::span<const int32_t> ids, bool skip_special) override;
  Result<std::string> render(const Request& request) override;
  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override;
  void cancel(RequestId id) override {
    post([this, id] { core_.cancel(id); });
  }
  Result<uint64_t> session_new(const SessionOptions& options) override;
  Result<uint64_t> session_fork(uint64_t session) override;
  Status session_rewind(uint64_t session, int64_t tokens) override;
  Result<SessionState> session_info(uint64_t session) override;
  void session_free(uint64_t session) override;
  Status close(int64_t drain_ns) override;

 private:
  void loop();
  void step();
  void take_link_news(int64_t now_ns);
  Status nobody_answered();
  [[nodiscard]] std::string why_never_up() const;
  void keep_link(int64_t now_ns);
  // False: the I/O thread has gone, and nobody will do it.
  bool post(std::function<void()> work);
  void take_inbox();
  void settle_opening();
  Result<Answer> ask(Kind kind, ClientCore::Write write);
  Result<std::string> ask_text(Kind kind, ClientCore::Write write);
  Result<uint64_t> ask_session(Kind kind, ClientCore::Write write);
  size_t in_flight();
  [[nodiscard]] Status closed() const {
    return {Code::closed, "engine " + endpoint_ + " was closed"};
  }

  const std::string endpoint_;
  const RemoteOptions options_;
  const int64_t call_ns_;
  WakeFd wake_;
  std::mutex inbox_mutex_;
  std::vector<std::function<void()>> inbox_;
  bool deaf_ = false;  // with inbox_mutex_: the thread has gone

  // the I/O thread's
  ClientLink link_;
  ClientCore core_;
  Received received_;
  bool told_ = false;
  std::string hint_;

  std::mutex info_mutex_;
  EngineInfo info_;
  Slot<Status> opened_;
  std::atomic<RequestId> next_id_{1};
  std::atomic<bool> over_{false}, closing_{false};
  std::mutex close_mutex_;
  bool closed_ = false;
  std::thread thread_;
};

// ---- opening ------------------------------------------------------------------------------------

Status RemotePort::open(const StillWanted& wanted) {
  TR_TRY(link_.open());
  thread_ = std::thread([this] { loop(); });
  Status outcome;
  if (const auto told = opened_.take_while(wanted, options_.connect_timeout_ns)) {
    outcome = *told;
  } else if (!wanted()) {
    outcome = {Code::closed, "engine " + endpoint_ + " was closed while it connected"};
  } else {
    outcome = nobody_answered();
  }
  if (!outcome.ok()) static_cast<void>(close(0));
  return outcome;
}

Status RemotePort::nobody_answered() {
  auto why = std::make_shared<Slot<std::string>>();
  post([this, why] {
    const std::string said = hint_.empty() ? core_.last_failure().message() : hint_;
    why->put(said.empty() ? why_never_up() : said);
  });
  std::string message = endpoint_ + ": no server answered within " +
                        std::to_string(options_.connect_timeout_ns / kMs) + " ms";
  if (const auto said = why->take(kCloseTime_ns)) message += ": " + *said;
  return {Code::connection_lost, message};
}

// On the I/O thread: tells open() what came of it, once.
void RemotePort::settle_opening() {
  if (told_) return;
  if (core_.state() == ClientCore::State::up) {
    const std::scoped_lock lock(info_mutex_);
    info_ = core_.welcome().info;
    info_.endpoint = endpoint_;
    info_.capabilities &= ~can::serve;
    told_ = true;
  } else if (core_.verdict().ok()) {
    return;
  }
  told_ = true;
  opened_.put(core_.verdict());
}

// ---- the I/O thread -----------------------------------------------------------------------------

bool RemotePort::post(std::function<void()> work) {
  {
    const std::scoped_lock lock(inbox_mutex_);
    if (deaf_) return false;
    inbox_.push_back(std::move(work));
  }
  wake_.wake();
  return true;
}

void RemotePort::take_inbox() {
  std::vector<std::function<void()>> work;
  {
    const std::scoped_lock lock(inbox_mutex_);
    work.swap(inbox_);
  }
  for (const auto& one : work) one();
}

// What is wrong with an attempt that came to nothing.
std::string RemotePort::why_never_up() const {
  if (!link_.met_somebody()) return "nobody can be reached there: is the address right?";
  return options_.server_key.empty()
             ? "somebody is there, but does not speak as a Troupe server does"
             : "the handshake broke off: is server_key the key of this server?";
}

void RemotePort::take_link_news(int64_t now_ns) {
  for (;;) {
    const ClientLink::News news = link_.take_news();
    switch (news) {
      case ClientLink::News::none:
        return;
      case ClientLink::News::up:
        core_.link_up(now_ns);
        continue;
      case ClientLink::News::unauthorised:
        hint_ = "the server knows this client's key not, and refused it";
        break;
      case ClientLink::News::refused_mechanism:
        hint_ = options_.server_key.empty()
                    ? "the server wants CURVE: give its public key (server_key)"
                    : "the server speaks plaintext, and a server_key was given";
        break;
      case ClientLink::News::lost:
        hint_ = core_.welcomed() ? "" : why_never_up();
        break;
      case ClientLink::News::unreachable:
        hint_ = why_never_up();
        break;
    }
    const bool refused = news == ClientLink::News::unreachable && nobody_listens(endpoint_);
    if (refused) hint_ = "nobody listens there: is `troupe serve` running?";
    const bool keys =
        news == ClientLink::News::unauthorised || news == ClientLink::News::refused_mechanism;
    if (keys && !told_) {
      told_ = true;
      opened_.put({Code::unauthorised, endpoint_ + ": " + hint_});
    }
    link_.close(0);
    core_.link_down({Code::connection_lost, hint_.empty() ? "the connection broke" : hint_},
                    refused, now_ns);
    return;
  }
}

void RemotePort::keep_link(int64_t now_ns) {
  if (core_.wants_down() && link_.is_open()) {
    link_.close(0);
    core_.link_down({}, false, now_ns);
  }
  if (link_.is_open() || now_ns < core_.try_again_ns() || over_ || !core_.verdict().ok()) return;
  if (const Status opened = link_.open(); !opened.ok()) core_.link_down(opened, false, now_ns);
}

void RemotePort::step() {
  const int64_t wait_ns = link_.is_open() ? kTick_ms * kMs : core_.try_again_ns() - steady_now_ns();
  link_.wait(wake_, static_cast<int>(std::clamp<int64_t>((wait_ns + kMs - 1) / kMs, 1, kTick_ms)));
  const int64_t now = steady_now_ns();
  // Messages first: what came before the connection broke still counts.
  for (int i = 0; i < kRound && !core_.wants_down() && link_.receive(received_); ++i) {
    core_.receive(received_.head(), received_.body(), received_.take_blobs(), now);
  }
  take_link_news(now);
  take_inbox();
  core_.tick(now);
  core_.flush();
  keep_link(now);
  settle_opening();
}

void RemotePort::loop() {
  while (!over_) step();
  core_.fail_all({Code::cancelled, "engine " + endpoint_ + " was closed"});
  core_.bye();
  link_.close(kGoodbye_ms);
  std::vector<std::function<void()>> rest;
  {
    const std::scoped_lock lock(inbox_mutex_);
    deaf_ = true;
    rest.swap(inbox_);
  }
  for (const auto& one : rest) one();  // each finds no link, and says so to who asked
}

// ---- the port -----------------------------------------------------------------------------------

Result<EngineInfo> RemotePort::info() {
  if (closing_) return closed();
  const std::scoped_lock lock(info_mutex_);
  return info_;
}

Result<RequestId> RemotePort::submit(Request request, std::shared_ptr<EventSink> sink) {
  if (closing_) return closed();
  const RequestId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  auto slot = std::make_shared<Slot<Status>>();
  auto moved = std::make_shared<Request>(std::move(request));
  const bool posted = post([this, id, moved, sink = std::move(sink), slot] {
    core_.submit(
        id, std::move(*moved), sink, [slot](const Status& status) { slot->put(status); },
        steady_now_ns());
  });
  if (!posted) return closed();
  moved.reset();
  std::optional<Status> told = slot->take(2 * call_ns_ + kCloseTime_ns);
  if (!told) {  // an upload that takes for ever
    post([this, id] { core_.disown(id); });
    told = Status(Code::connection_lost, endpoint_ + ": the request was not answered in time");
  }
  if (told->ok()) return id;
  if (closing_) return closed();
  return *told;
}

Result<Answer> RemotePort::ask(Kind kind, ClientCore::Write write) {
  if (closing_) return closed();
  auto slot = std::make_shared<Slot<Result<Answer>>>();
  const bool posted = post([this, kind, write = std::move(write), slot] {
    core_.ask(
        kind, write, [slot](Result<Answer> answer) { slot->put(std::move(answer)); },
        steady_now_ns());
  });
  if (!posted) return closed();
  // The core brings every answer within its own time; this wait is for a core that does not.
  if (auto answer = slot->take(call_ns_ + kCloseTime_ns)) return std::move(*answer);
  return closing_ ? closed() : Status(Code::deadline, endpoint_ + ": no answer");
}

Result<std::string> RemotePort::ask_text(Kind kind, ClientCore::Write write) {
  TR_ASSIGN(Answer answer, ask(kind, std::move(write)));
  return std::move(answer.text);
}

Result<uint64_t> RemotePort::ask_session(Kind kind, ClientCore::Write write) {
  TR_ASSIGN(const Answer answer, ask(kind, std::move(write)));
  if (!answer.session) return internal_error(endpoint_ + " answered without a session");
  return *answer.session;
}

Result<EngineStats> RemotePort::stats() {
  TR_ASSIGN(const Answer answer,
            ask(Kind::stats, [](auto& body, auto call, auto&) { write_plain(body, call); }));
  if (!answer.stats) return internal_error(endpoint_ + " answered without stats");
  return *answer.stats;
}

Result<std::vector<int32_t>> RemotePort::tokenize(std::string_view text, bool add_special,
                                                  bool parse_special) {
  const uint64_t flags = (add_special ? kAddSpecial : 0) | (parse_special ? kParseSpecial : 0);
  TR_ASSIGN(Answer answer,
            ask(Kind::tokenize, [text = std::string(text), flags](auto& body, auto call, auto&) {
              write_tokenize(body, call, text, flags);
            }));
  return std::move(answer.tokens).value_or(std::vector<int32_t>());
}

Result<std::string> RemotePort::detokenize(std::span<const int32_t> ids, bool skip_special) {
  return ask_text(Kind::detokenize, [ids = std::vector(ids.begin(), ids.end()), skip_special](
                                        auto& body, auto call, auto& blobs) {
    write_detokenize(body, call, skip_special ? kSkipSpecial : 0);
    blobs.push_back(tokens_blob(ids));
  });
}

Result<std::string> RemotePort::render(const Request& request) {
  return ask_text(Kind::render, [copy = std::make_shared<const Request>(request)](
                                    auto& body, auto call, auto& blobs) {
    write_render(body, call, *copy, blobs);
  });
}

Result<uint64_t> RemotePort::session_new(const SessionOptions& options) {
  return ask_session(Kind::session_new, [options](auto& body, auto call, auto&) {
    write_session_new(body, call, options);
  });
}

Result<uint64_t> RemotePort::session_fork(uint64_t session) {
  return ask_session(Kind::session_fork, [session](auto& body, auto call, auto&) {
    write_session(body, call, session);
  });
}

Status RemotePort::session_rewind(uint64_t session, int64_t tokens) {
  return ask(Kind::session_rewind,
             [session, tokens](auto& body, auto call, auto&) {
               write_session(body, call, session, tokens);
             })
      .status();
}

Result<SessionState> RemotePort::session_info(uint64_t session) {
  TR_ASSIGN(const Answer answer, ask(Kind::session_info, [session](auto& body, auto call, auto&) {
              write_session(body, call, session);
            }));
  return answer.state.value_or(SessionState());
}

void RemotePort::session_free(uint64_t session) {
  if (closing_) return;
  post([this, session] {
    core_.ask(
        Kind::session_free,
        [session](auto& body, auto call, auto&) { write_session(body, call, session); },
        [](const Result<Answer>&) {}, steady_now_ns());
  });
}

size_t RemotePort::in_flight() {
  auto slot = std::make_shared<Slot<size_t>>();
  post([this, slot] { slot->put(core_.in_flight()); });
  return slot->take(kCloseTime_ns).value_or(0);
}

Status RemotePort::close(int64_t drain_ns) {
  closing_ = true;
  const std::scoped_lock lock(close_mutex_);
  if (std::exchange(closed_, true) || !thread_.joinable()) return {};
  const auto idle_within = [&](int64_t span_ns) {
    std::mutex mutex;
    std::condition_variable pause;
    const int64_t begun = steady_now_ns();
    while (in_flight() > 0) {
      if (steady_now_ns() - begun >= span_ns) return false;
      std::unique_lock waiting(mutex);
      pause.wait_for(waiting, std::chrono::milliseconds(5));
    }
    return true;
  };
  if (!idle_within(drain_ns)) {
    post([this] { core_.cancel_all(); });
    idle_within(kCloseTime_ns);
  }
  over_ = true;
  wake_.wake();
  thread_.join();
  return {};
}

}  // namespace

Result<std::unique_ptr<EnginePort>> connect(const std::string& endpoint,
                                            const EngineOptions& options,
                                            const StillWanted& wanted) {
  TR_TRY(check_connect(endpoint));
  TR_ASSIGN(const RemoteOptions remote, remote_options(options));
  TR_ASSIGN(ClientConfig config, client_config(endpoint, options));
  auto port = std::make_unique<RemotePort>(endpoint, remote, std::move(config));
  TR_TRY(port->open(wanted));
  return std::unique_ptr<EnginePort>(std::move(port));
}

}  // namespace troupe::wire
