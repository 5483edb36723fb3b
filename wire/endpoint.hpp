// Endpoints and keys: which may be bound without CURVE, and whether somebody listens at one.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/status.hpp"

namespace troupe::wire {

// tcp://HOST:PORT (PORT may be *), ipc://PATH. Beyond loopback plaintext must be allowed in so many
// words: INVALID says how.
Status check_bind(std::string_view bind, bool has_keys, bool allow_plaintext);
// What ZeroMQ binds for it: addresses and interfaces, so localhost becomes 127.0.0.1.
[[nodiscard]] std::string bound_endpoint(const std::string& bind);
// Why ZeroMQ could not bind it (an errno).
Status cannot_bind(const std::string& bind, int error, std::string_view said);
// What a client may connect to, before anything is tried.
Status check_connect(std::string_view endpoint);
// The file of a server's ipc:// socket goes with it; libzmq leaves it behind.
void remove_socket(const std::string& endpoint);
// Only this machine can reach it.
[[nodiscard]] bool is_local(std::string_view endpoint);

// 40 characters of Z85; `name` is what the failure calls it.
Status check_key(std::string_view name, std::string_view key);
// The public half of a secret key.
Result<std::string> public_of(std::string_view secret_key);
// A new pair: public, secret. Both begin with a letter or a digit: a word that begins with "-" is
// an option to most programs, one with "#" a comment to most files.
Result<std::pair<std::string, std::string>> make_keys();

// Whether a connection is refused actively: then no server lives there. Names are resolved, which
// may take its time; false when nothing can be said.
[[nodiscard]] bool nobody_listens(const std::string& endpoint);

}  // namespace troupe::wire
