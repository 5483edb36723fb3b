#include "capi/session.hpp"

#include <string>

#include "capi/error.hpp"
#include "capi/options.hpp"
#include "capi/sized.hpp"

using troupe::EnginePort;
using troupe::Status;
using troupe::capi::EngineCore;
using troupe::capi::guard;
using troupe::capi::guard_out;
using troupe::capi::guard_void;

namespace {

// Owns a port's session until a handle does.
class Fresh {
 public:
  Fresh(EnginePort& port, uint64_t id) : port_(port), id_(id) {}
  ~Fresh() {
    if (id_ != 0) port_.session_free(id_);
  }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;
  troupe_session* into_handle(const std::shared_ptr<EngineCore>& core) {
    auto* handle = new troupe_session{core, id_};
    id_ = 0;
    return handle;
  }

 private:
  EnginePort& port_;
  uint64_t id_;
};

}  // namespace

extern "C" {

troupe_error* troupe_session_new(troupe_engine* engine, const troupe_session_options* options,
                                 troupe_session** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(engine);
    TR_ASSIGN(const troupe::SessionOptions read, troupe::capi::session_options(options));
    TR_ASSIGN(const std::shared_ptr<EnginePort> port, engine->core->port());
    TR_ASSIGN(const uint64_t id, port->session_new(read));
    *out = Fresh(*port, id).into_handle(engine->core);
    return {};
  });
}

troupe_error* troupe_session_fork(troupe_session* session, troupe_session** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(session);
    TR_ASSIGN(const std::shared_ptr<EnginePort> port, session->core->port());
    TR_ASSIGN(const uint64_t id, port->session_fork(session->id));
    *out = Fresh(*port, id).into_handle(session->core);
    return {};
  });
}

troupe_error* troupe_session_rewind(troupe_session* session, int64_t tokens) {
  return guard([&]() -> Status {
    TR_NEED(session);
    if (tokens < 0) {
      return troupe::invalid("argument `tokens` is " + std::to_string(tokens) +
                             ": it must be 0 or more");
    }
    TR_ASSIGN(const std::shared_ptr<EnginePort> port, session->core->port());
    return port->session_rewind(session->id, tokens);
  });
}

troupe_error* troupe_session_info(troupe_session* session, troupe_session_state* out) {
  return guard([&]() -> Status {
    TR_NEED(session);
    TR_NEED(out);
    TR_ASSIGN(const std::shared_ptr<EnginePort> port, session->core->port());
    TR_ASSIGN(const troupe::SessionState state, port->session_info(session->id));
    troupe_session_state filled{};
    filled.tokens = state.tokens;
    filled.cached_tokens = state.cached_tokens;
    filled.lease_left_ns = state.lease_left_ns;
    return troupe::capi::write_sized(out, filled, "troupe_session_state");
  });
}

void troupe_session_free(troupe_session* session) {
  guard_void([&] {
    if (session == nullptr) return;
    const std::unique_ptr<troupe_session> owned(session);
    if (const auto port = session->core->port(); port.ok()) (*port)->session_free(session->id);
  });
}
}
