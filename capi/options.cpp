#include "capi/options.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "base/limits.hpp"
#include "capi/checks.hpp"
#include "capi/error.hpp"
#include "capi/patience.hpp"
#include "capi/sized.hpp"

namespace troupe::capi {
namespace {

constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr size_t kSettings = 256;

constexpr troupe_engine_options engine_defaults() {
  troupe_engine_options o{};
  o.struct_size = sizeof o;
  o.threads = o.tensor_parallel = o.max_sequences = o.max_waiting = o.max_step_tokens = -1;
  o.context_length = o.block_tokens = -1;
  o.kv_bytes = o.session_lease_ns = -1;
  o.seed = o.connect_timeout_ns = TROUPE_UNSET;
  o.prefix_reuse = o.overlap = o.deterministic = -1;
  return o;
}

constexpr troupe_session_options session_defaults() {
  troupe_session_options o{};
  o.struct_size = sizeof o;
  o.lease_ns = TROUPE_UNSET;
  return o;
}

constexpr troupe_server_options server_defaults() {
  troupe_server_options o{};
  o.struct_size = sizeof o;
  o.allow_plaintext = -1;
  o.resume_window_ns = TROUPE_UNSET;
  return o;
}

constexpr troupe_engine_options kEngineDefaults = engine_defaults();
constexpr troupe_session_options kSessionDefaults = session_defaults();
constexpr troupe_server_options kServerDefaults = server_defaults();

Status take_string(std::string_view name, const char* value, std::string& to) {
  if (value == nullptr) return {};
  TR_TRY(check_utf8(name, value));
  to = value;
  return {};
}

// `settings` of either options struct, `owner` being its name.
template <class Options>
Status take_settings(const std::string& owner, const Options& o,
                     std::vector<std::pair<std::string, std::string>>& to) {
  if (o.n_settings > kSettings) {
    return limit_exceeded(owner + ".n_settings is " + std::to_string(o.n_settings) + ": at most " +
                          std::to_string(kSettings));
  }
  TR_TRY(check_list(owner + ".settings", o.settings, "n_settings", o.n_settings));
  for (size_t i = 0; i < o.n_settings; ++i) {
    const std::string name = owner + ".settings[" + std::to_string(i) + "]";
    std::string setting;
    if (o.settings[i] == nullptr) return invalid(name + " is NULL");
    TR_TRY(take_string(name, o.settings[i], setting));
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return invalid(name + " is \"" + setting + "\": it must be \"key=value\"");
    }
    to.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return {};
}

Status take_remote(const troupe_engine_options& o, RemoteOptions& to) {
  TR_TRY(take_string("troupe_engine_options.server_key", o.server_key, to.server_key));
  TR_TRY(take_string("troupe_engine_options.client_public_key", o.client_public_key,
                     to.client_public_key));
  TR_TRY(take_string("troupe_engine_options.client_secret_key", o.client_secret_key,
                     to.client_secret_key));
  TR_TRY(take_time("troupe_engine_options.connect_timeout_ns", o.connect_timeout_ns, 1,
                   to.connect_timeout_ns));
  to.connect_timeout_ns = std::min(to.connect_timeout_ns, kForEver_ns);
  return {};
}

}  // namespace

Result<troupe_engine_options> read_options(const troupe_engine_options* options) {
  if (options == nullptr) return kEngineDefaults;
  return read_sized(*options, kEngineDefaults, "troupe_engine_options");
}

Result<EngineOptions> engine_options(const troupe_engine_options& o) {
  EngineOptions to;
  TR_TRY(take_string("troupe_engine_options.device", o.device, to.device));
  TR_TRY(take_string("troupe_engine_options.dtype", o.dtype, to.dtype));
  TR_TRY(take_string("troupe_engine_options.kv_dtype", o.kv_dtype, to.kv_dtype));
  TR_TRY(take_string("troupe_engine_options.load_format", o.load_format, to.load_format));
  TR_TRY(take_string("troupe_engine_options.chat_template", o.chat_template, to.chat_template));
  TR_TRY(take_int("troupe_engine_options.threads", o.threads, 1, 1024, to.threads));
  TR_TRY(take_int("troupe_engine_options.tensor_parallel", o.tensor_parallel, 1, 64,
                  to.tensor_parallel));
  TR_TRY(take_int("troupe_engine_options.max_sequences", o.max_sequences, 1,
                  limits::running_sequences, to.max_sequences));
  TR_TRY(take_int("troupe_engine_options.max_waiting", o.max_waiting, 1, 1 << 20, to.max_waiting));
  TR_TRY(take_int("troupe_engine_options.max_step_tokens", o.max_step_tokens, 1, limits::step_rows,
                  to.max_step_tokens));
  TR_TRY(take_int("troupe_engine_options.context_length", o.context_length, 1,
                  limits::prompt_tokens, to.context_length));
  TR_TRY(take_int("troupe_engine_options.block_tokens", o.block_tokens, 1, 256, to.block_tokens));
  TR_TRY(take_int("troupe_engine_options.kv_bytes", o.kv_bytes, 1, kInt64Max, to.kv_bytes));
  TR_TRY(take_int("troupe_engine_options.session_lease_ns", o.session_lease_ns, 1, kInt64Max,
                  to.session_lease_ns));
  TR_TRY(take_int("troupe_engine_options.prefix_reuse", o.prefix_reuse, 0, 1, to.prefix_reuse));
  TR_TRY(take_int("troupe_engine_options.overlap", o.overlap, 0, 1, to.overlap));
  TR_TRY(take_int("troupe_engine_options.deterministic", o.deterministic, 0, 1, to.deterministic));
  if (o.seed != TROUPE_UNSET) to.seed = static_cast<uint64_t>(o.seed);
  TR_TRY(take_settings("troupe_engine_options", o, to.extra));
  TR_TRY(take_remote(o, to.remote));
  return to;
}

Status check_remote_options(const troupe_engine_options& o, std::string_view endpoint) {
  const troupe_engine_options& d = kEngineDefaults;
  const std::pair<const char*, bool> local[] = {
      {"threads", o.threads != d.threads},
      {"device", o.device != nullptr},
      {"dtype", o.dtype != nullptr},
      {"kv_dtype", o.kv_dtype != nullptr},
      {"load_format", o.load_format != nullptr},
      {"chat_template", o.chat_template != nullptr},
      {"tensor_parallel", o.tensor_parallel != d.tensor_parallel},
      {"max_sequences", o.max_sequences != d.max_sequences},
      {"max_waiting", o.max_waiting != d.max_waiting},
      {"max_step_tokens", o.max_step_tokens != d.max_step_tokens},
      {"context_length", o.context_length != d.context_length},
      {"block_tokens", o.block_tokens != d.block_tokens},
      {"kv_bytes", o.kv_bytes != d.kv_bytes},
      {"session_lease_ns", o.session_lease_ns != d.session_lease_ns},
      {"seed", o.seed != d.seed},
      {"prefix_reuse", o.prefix_reuse != d.prefix_reuse},
      {"overlap", o.overlap != d.overlap},
      {"deterministic", o.deterministic != d.deterministic},
  };
  for (const auto& [name, given] : local) {
    if (!given) continue;
    return unsupported(std::string("troupe_engine_options.") + name + ": " + std::string(endpoint) +
                       " is remote, and this is set where it is served (troupe serve)");
  }
  return {};
}

Result<SessionOptions> session_options(const troupe_session_options* options) {
  SessionOptions to;
  if (options == nullptr) return to;
  TR_ASSIGN(const troupe_session_options o,
            read_sized(*options, kSessionDefaults, "troupe_session_options"));
  TR_TRY(take_time("troupe_session_options.lease_ns", o.lease_ns, 1, to.lease_ns));
  return to;
}

Result<ServerOptions> server_options(const troupe_server_options* options) {
  ServerOptions to;
  if (options == nullptr) return to;
  TR_ASSIGN(const troupe_server_options o,
            read_sized(*options, kServerDefaults, "troupe_server_options"));
  TR_TRY(take_int("troupe_server_options.allow_plaintext", o.allow_plaintext, 0, 1,
                  to.allow_plaintext));
  TR_TRY(take_string("troupe_server_options.public_key", o.public_key, to.public_key));
  TR_TRY(take_string("troupe_server_options.secret_key", o.secret_key, to.secret_key));
  TR_TRY(take_string("troupe_server_options.client_keys", o.client_keys, to.client_keys));
  TR_TRY(take_settings("troupe_server_options", o, to.settings));
  TR_TRY(take_time("troupe_server_options.resume_window_ns", o.resume_window_ns, 0,
                   to.resume_window_ns));
  return to;
}

}  // namespace troupe::capi

extern "C" {

void troupe_engine_options_init(troupe_engine_options* options, uint32_t struct_size) {
  troupe::capi::init_sized(options, struct_size, troupe::capi::kEngineDefaults);
}

void troupe_session_options_init(troupe_session_options* options, uint32_t struct_size) {
  troupe::capi::init_sized(options, struct_size, troupe::capi::kSessionDefaults);
}

void troupe_server_options_init(troupe_server_options* options, uint32_t struct_size) {
  troupe::capi::init_sized(options, struct_size, troupe::capi::kServerDefaults);
}
}
