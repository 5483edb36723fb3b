// EnginePort: what an engine can do, whoever asks and wherever it runs.
//
// Implemented by the local cast (actors/), by the echo engine and by the wire client; used by the C
// ABI and by the wire server. All calls are thread-safe; none blocks on a step. Calls after close()
// answer `closed`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "base/request.hpp"
#include "base/status.hpp"

namespace troupe {

// How to reach an engine elsewhere (tcp://, ipc://).
struct RemoteOptions {
  int64_t connect_timeout_ns = 10'000'000'000;
  std::string server_key;  // CURVE, Z85; empty: plaintext
  std::string client_public_key, client_secret_key;  // empty: made anew
};

// One const struct per engine, parsed once at the door.
struct EngineOptions {
  std::string device = "auto";  // auto | cpu | cpu:2 | cuda | cuda:0,1 | path of a backend plugin
  int32_t threads = 0;  // 0: what the cgroup and affinity mask give
  std::string dtype = "auto";  // auto | f32 | f16 | bf16
  std::string kv_dtype = "auto";
  std::string load_format = "auto";  // auto | dummy
  std::string chat_template;  // name or file; empty: the folder's own, else the family's
  int32_t tensor_parallel = 1;
  int32_t max_sequences = 256;  // running at once
  int32_t max_waiting = 2048;
  int32_t max_step_tokens = 0;  // prefill budget of a step; 0: by device
  int32_t context_length = 0;  // 0: the model's own
  int64_t kv_bytes = 0;  // 0: planned from what is free
  int32_t block_tokens = 0;  // of a cache block; 0: by device
  bool prefix_reuse = true;
  bool overlap = true;  // false: the no-overlap twin, the executable specification
  bool deterministic = false;
  bool packed_weights = true;  // second copies that few rows read quicker, where memory is left
  uint64_t seed = 0;  // of dummy weights
  int64_t session_lease_ns = 600'000'000'000;
  std::vector<std::pair<std::string, std::string>>
      extra;  // set_option before opening, unknown refused
  RemoteOptions remote;
};

// Bits of EngineInfo::capabilities, equal to TROUPE_CAN_* of troupe.h. What an engine lacks it
// refuses with `unsupported`, by name.
namespace can {
inline constexpr uint64_t chat = 1U << 0;
inline constexpr uint64_t tools = 1U << 1;
inline constexpr uint64_t see_images = 1U << 2;
inline constexpr uint64_t take_image_embeddings = 1U << 3;
inline constexpr uint64_t encode_images = 1U << 4;
inline constexpr uint64_t embed = 1U << 5;
inline constexpr uint64_t score = 1U << 6;
inline constexpr uint64_t constrain = 1U << 7;
inline constexpr uint64_t keep_sessions = 1U << 8;
inline constexpr uint64_t use_adapters = 1U << 9;
inline constexpr uint64_t serve = 1U << 10;
}  // namespace can

struct EngineInfo {
  std::string model, family, endpoint, device, dtype;
  std::string chat_template_origin;  // empty: none, chat is refused
  int32_t context_length = 0, vocab_size = 0, max_sequences = 0, images_max = 0;
  int32_t max_waiting = 2048;
  int64_t image_pixels_max = 0, weight_bytes = 0, kv_bytes = 0, kv_tokens = 0;
  uint64_t capabilities = 0;  // can::*
  std::string config_json;  // the options in force, as one JSON object
};

struct EngineStats {
  uint64_t submitted = 0, refused = 0, done = 0, cancelled = 0, failed = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, images = 0;
  uint64_t images_encoded = 0,
           images_reused = 0;  // pictures given rows; found with rows, or on their way
  int64_t image_prepare_ns = 0, image_encode_ns = 0;
  uint64_t steps = 0, preemptions = 0;
  uint32_t waiting = 0, running = 0, sessions = 0;
  uint64_t kv_blocks_total = 0, kv_blocks_used = 0;
  int64_t step_last_ns = 0, uptime_ns = 0;
};

struct SessionOptions {
  std::optional<int64_t> lease_ns;
};
struct SessionState {
  int64_t tokens = 0, cached_tokens = 0, lease_left_ns = 0;
};

class EnginePort {
 public:
  virtual ~EnginePort() = default;

  virtual Result<EngineInfo> info() = 0;
  virtual Result<EngineStats> stats() = 0;
  virtual Result<std::string> metrics() = 0;  // Prometheus text
  virtual Status set_option(std::string_view key, std::string_view value) = 0;

  virtual Result<std::vector<int32_t>> tokenize(std::string_view text, bool add_special,
                                                bool parse_special) = 0;
  virtual Result<std::string> detokenize(std::span<const int32_t> ids, bool skip_special) = 0;
  virtual Result<std::string> render(const Request& request) = 0;

  // Accepts or refuses at once. Accepted: events go to `sink` until the terminal one.
  virtual Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) = 0;
  virtual void cancel(RequestId id) = 0;

  virtual Result<uint64_t> session_new(const SessionOptions& options) = 0;
  virtual Result<uint64_t> session_fork(uint64_t session) = 0;
  virtual Status session_rewind(uint64_t session, int64_t tokens) = 0;
  virtual Result<SessionState> session_info(uint64_t session) = 0;
  virtual void session_free(uint64_t session) = 0;

  // Stops admission, gives running requests `drain_ns`, cancels the rest; every terminal event has
  // been pushed when it returns. Idempotent.
  virtual Status close(int64_t drain_ns) = 0;
};

// A port that listens for remote clients. Closes when it goes.
struct ServerOptions {
  bool allow_plaintext = false;  // bind beyond loopback without keys
  std::string public_key, secret_key;  // CURVE, Z85; empty: plaintext
  std::string client_keys;  // file with one allowed key per line; empty: any
  std::optional<int64_t> resume_window_ns;
  std::vector<std::pair<std::string, std::string>> settings;  // limits by name, unknown refused
};
class ServerPort {
 public:
  virtual ~ServerPort() = default;
  [[nodiscard]] virtual std::string endpoint() const = 0;  // with the port that was chosen
  // Says so to every client, takes nothing new, gives what runs `drain_ns`, cancels the rest and
  // says goodbye. Idempotent; the engine stays open.
  virtual Status close(int64_t drain_ns) = 0;
};

// ---- libtroupe_engine.so: opened by libtroupe.so when a local engine is wanted ----
// Its one symbol: `extern "C" const EnginePlugin* troupe_engine_plugin()`.
inline constexpr const char* kEnginePluginSymbol = "troupe_engine_plugin";
// Called while loading with a phase and a fraction in [0, 1], from any thread; may be empty. False:
// whoever asked has lost interest, and open() gives up with `closed` as soon as it can.
using LoadProgress = std::function<bool(std::string_view phase, double fraction)>;
struct EnginePlugin {
  const char* build_id = nullptr;  // first, and equal to the caller's (base/build_id.hpp)
  Result<std::unique_ptr<EnginePort>> (*open)(const std::string& endpoint, const EngineOptions&,
                                              LoadProgress progress) = nullptr;
  // What is in this folder, does it fit: one JSON object (`troupe inspect`).
  Result<std::string> (*inspect)(const std::string& folder, const EngineOptions&) = nullptr;
  // The plugin has its own copy of base/: this is set_log_forward there.
  void (*set_log)(LogLevel level, LogForward forward) = nullptr;
  // Null in builds without the wire server.
  Result<std::unique_ptr<ServerPort>> (*serve)(std::shared_ptr<EnginePort> engine,
                                               const std::string& bind,
                                               const ServerOptions&) = nullptr;
};

}  // namespace troupe
