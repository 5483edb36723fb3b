#include "capi/engine_core.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "capi/connect.hpp"
#include "capi/error.hpp"
#include "capi/patience.hpp"
#include "capi/signals.hpp"

namespace troupe::capi {
namespace {

// Every engine that may still be open, for the exit handler. Leaked on purpose.
struct Registry {
  std::mutex mutex;
  std::vector<std::weak_ptr<EngineCore>> cores;
  bool exit_handler = false;
};

Registry& registry() {
  static Registry* const r = new Registry;
  return *r;
}

void enrol(const std::shared_ptr<EngineCore>& core) {
  Registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  std::erase_if(r.cores, [](const auto& known) { return known.expired(); });
  r.cores.push_back(core);
}

// After the plugin was loaded, so that it runs before the plugin's own exit handlers.
void arrange_exit() {
  Registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  if (!std::exchange(r.exit_handler, true)) std::atexit(close_all_engines);
}

}  // namespace

void close_all_engines() noexcept {
  guard_void([] {
    std::vector<std::weak_ptr<EngineCore>> cores;
    {
      Registry& r = registry();
      const std::scoped_lock lock(r.mutex);
      cores.swap(r.cores);
    }
    for (const auto& known : cores) {
      if (const auto core = known.lock()) static_cast<void>(core->close(0));
    }
  });
}

Result<std::shared_ptr<EngineCore>> EngineCore::open(OpenRequest request) {
  adopt_process();
  auto core = std::make_shared<EngineCore>();
  core->endpoint_ = request.endpoint;
  const bool wait = request.announced == nullptr;
  enrol(core);
  core->start(std::move(request));
  if (!wait) return core;
  std::unique_lock lock(core->mutex_);
  core->loaded_changed_.wait(lock, [&] { return core->loaded_; });
  if (core->state_ == State::open) return core;
  return core->failure_;
}

void EngineCore::start(OpenRequest request) {
  const SignalsBlocked blocked;
  loader_ = std::thread([this, request = std::move(request)] { load(request); });
}

void EngineCore::load(const OpenRequest& request) {
  Status status;
  try {
    status = open_port(request);
  } catch (const std::exception& e) {
    status = internal_error(std::string("opening ") + endpoint_ + ": " + e.what());
  }
  announce(request.announced, status);
}

Status EngineCore::open_port(const OpenRequest& request) {
  std::unique_ptr<EnginePort> port;
  if (is_remote(request.endpoint)) {
    arrange_exit();
    TR_ASSIGN(port, connect_remote(request.endpoint, request.options,
                                   [this] { return !give_up_.load(); }));
  } else {
    TR_ASSIGN(plugin_, load_engine_plugin(request.library_dir));
    arrange_exit();
    TR_ASSIGN(port, plugin_->open(request.endpoint, request.options,
                                  [this, &request](std::string_view phase, double fraction) {
                                    return progressed(request.announced, phase, fraction);
                                  }));
  }
  TR_ASSIGN(info_, port->info());
  const std::scoped_lock lock(mutex_);
  port_ = std::move(port);
  return {};
}

bool EngineCore::progressed(const std::shared_ptr<Channel>& channel, std::string_view phase,
                            double fraction) {
  if (give_up_) return false;
  {
    const std::scoped_lock lock(mutex_);
    phase_ = std::string(phase) + ", " + std::to_string(static_cast<int>(fraction * 100.0)) + " %";
  }
  if (channel) {
    Event event;
    event.kind = EventKind::progress;
    event.text = phase;
    event.progress = std::clamp(fraction, 0.0, 1.0);
    channel->push(std::move(event));
  }
  return true;
}

void EngineCore::announce(const std::shared_ptr<Channel>& channel, const Status& status) {
  Status outcome = status;
  if (outcome.ok() && give_up_) {
    outcome = Status(Code::closed, "engine " + endpoint_ + " was closed while it loaded");
  }
  const std::shared_ptr<EnginePort> unwanted =
      outcome.ok() ? nullptr : std::exchange(port_, nullptr);
  if (unwanted) static_cast<void>(unwanted->close(0));
  {
    const std::scoped_lock lock(mutex_);
    failure_ = outcome;
    loaded_ = true;
    state_ = outcome.ok() ? State::open : State::failed;  // before the event: it must be found so
    loaded_changed_.notify_all();
  }
  if (!channel) return;
  Event event;
  event.kind = outcome.ok() ? EventKind::ready : EventKind::failed;
  event.status = outcome;
  channel->push(std::move(event));
}

Result<std::shared_ptr<EnginePort>> EngineCore::port() const {
  switch (state_.load()) {
    case State::open:
      return port_;
    case State::closed:
      return Status(Code::closed, "engine " + endpoint_ + " was closed: open it again");
    case State::failed: {
      const std::scoped_lock lock(mutex_);
      return failure_;
    }
    case State::loading:
      break;
  }
  const std::scoped_lock lock(mutex_);
  return Status(Code::overloaded, "engine " + endpoint_ + " still loads (" +
                                      (phase_.empty() ? "begins" : phase_) +
                                      "): wait for its READY event");
}

std::shared_ptr<EnginePort> EngineCore::port_if_any() const {
  const State state = state_.load();
  return state == State::open || state == State::closed ? port_ : nullptr;
}

Status EngineCore::close(int64_t drain_ns) {
  give_up_ = true;
  {
    const std::scoped_lock lock(joining_);
    if (loader_.joinable()) loader_.join();
  }
  State open = State::open;
  state_.compare_exchange_strong(open, State::closed);
  State failed = State::failed;
  state_.compare_exchange_strong(failed, State::closed);
  const std::shared_ptr<EnginePort> port = port_;
  if (!port) return {};
  return port->close(patience_ns(drain_ns));
}

EngineCore::~EngineCore() {
  guard_void([&] { static_cast<void>(close(0)); });
  if (loader_.joinable())
    loader_.detach();  // only in a forked child, where there is no such thread
}

}  // namespace troupe::capi
