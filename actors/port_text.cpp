#include "actors/port_text.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "actors/live_options.hpp"
#include "actors/local_port.hpp"
#include "base/limits.hpp"

namespace troupe::actors {
namespace {

Status check_range(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid(std::string(field) + ": " + std::to_string(value) + " is out of its bounds, " +
                 std::to_string(low) + " to " + std::to_string(high));
}

Status check_choice(const char* field, const std::string& value,
                    std::initializer_list<const char*> known) {
  std::string list;
  for (const char* name : known) {
    if (value == name) return {};
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  return invalid(std::string(field) + ": \"" + value + "\" is unknown; give one of " + list);
}

void begin_metric(std::string& out, const char* name, const char* kind, const char* help) {
  out += std::string("# HELP troupe_") + name + " " + help + "\n# TYPE troupe_" + name + " " + kind +
         "\n";
}

void sample(std::string& out, const char* name, const std::string& labels, double value) {
  out += std::string("troupe_") + name + "{" + labels + "} " + nlohmann::json(value).dump() + "\n";
}

std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

EngineStats stats_of(const Board& board, uint32_t waiting, uint32_t in_flight) {
  EngineStats s;
  s.done = board.done.load();
  s.cancelled = board.cancelled.load();
  s.failed = board.failed.load();
  s.waiting = std::min(waiting, in_flight);
  s.running = in_flight - s.waiting;
  s.submitted = s.done + s.cancelled + s.failed + in_flight;
  s.refused = board.refused.load();
  s.prompt_tokens = board.prompt_tokens.load();
  s.cached_tokens = board.cached_tokens.load();
  s.completion_tokens = board.completion_tokens.load();
  s.images = board.images.load();
  s.images_encoded = board.images_encoded.load();
  s.images_reused = board.images_reused.load();
  s.image_prepare_ns = board.image_prepare_ns.load();
  s.image_encode_ns = board.image_encode_ns.load();
  s.steps = board.steps.load();
  s.preemptions = board.preemptions.load();
  s.sessions = board.sessions.load();
  s.kv_blocks_total = board.kv_blocks_total.load();
  s.kv_blocks_used = board.kv_blocks_used.load();
  s.step_last_ns = board.step_last_ns.load();
  return s;
}

std::string metrics_text(const EngineStats& s, const Whereabouts& where, const std::string& model) {
  const std::string label = "model=\"" + quoted(model) + "\"";
  std::string out;
  const auto add = [&](const char* name, const char* kind, const char* help, auto value) {
    begin_metric(out, name, kind, help);
    sample(out, name, label, static_cast<double>(value));
  };
  add("requests_submitted_total", "counter", "Requests accepted.", s.submitted);
  add("requests_refused_total", "counter", "Requests refused at the door.", s.refused);
  add("requests_done_total", "counter", "Requests that ended by themselves.", s.done);
  add("requests_cancelled_total", "counter", "Requests cancelled.", s.cancelled);
  add("requests_failed_total", "counter", "Requests failed.", s.failed);
  add("requests_waiting", "gauge", "Requests that wait to run.", s.waiting);
  add("requests_running", "gauge", "Requests that run.", s.running);
  add("sessions", "gauge", "Sessions open.", s.sessions);
  add("prompt_tokens_total", "counter", "Tokens of prompts.", s.prompt_tokens);
  add("prompt_tokens_cached_total", "counter", "Of these, found in the cache.", s.cached_tokens);
  add("completion_tokens_total", "counter", "Tokens generated.", s.completion_tokens);
  add("steps_total", "counter", "Steps finished.", s.steps);
  add("step_last_seconds", "gauge", "Time between the last two steps.",
      static_cast<double>(s.step_last_ns) * 1e-9);
  add("preemptions_total", "counter", "Sequences put back to make room.", s.preemptions);
  add("kv_blocks", "gauge", "Blocks of the cache.", s.kv_blocks_total);
  add("kv_blocks_used", "gauge", "Of these, in use.", s.kv_blocks_used);
  add("images_total", "counter", "Pictures of requests.", s.images);
  add("images_encoded_total", "counter", "Pictures that were given rows.", s.images_encoded);
  add("images_reused_total", "counter", "Pictures that had rows, or were on their way to them.",
      s.images_reused);
  add("image_prepare_seconds_total", "counter", "Threads' time for decoding and preparing.",
      static_cast<double>(s.image_prepare_ns) * 1e-9);
  add("image_encode_seconds_total", "counter", "Devices' time for encoding.",
      static_cast<double>(s.image_encode_ns) * 1e-9);
  add("uptime_seconds", "counter", "Time since the engine opened.",
      static_cast<double>(s.uptime_ns) * 1e-9);
  add("executor_host_seconds_total", "counter",
      "Time of the device's thread in steps, without that in which it waited for the device.",
      static_cast<double>(where.executor_host_ns) * 1e-9);
  add("executor_recording_seconds_total", "counter",
      "Beside that, its time for recording steps: once for each kind of them.",
      static_cast<double>(where.executor_recording_ns) * 1e-9);
  add("executor_moves_total", "counter",
      "How often it has gone to another core, since steps took too long on its own.",
      where.executor_moves);
  begin_metric(out, "actor_busy_seconds_total", "counter", "Time in handlers.");
  for (const HandlerClockPtr& clock : where.clocks) {
    sample(out, "actor_busy_seconds_total", label + ",actor=\"" + clock->actor + "\"",
           static_cast<double>(clock->busy_ns.load()) * 1e-9);
  }
  if (where.memory.empty()) return out;
  begin_metric(out, "device_memory_bytes", "gauge", "The device's memory by what took it.");
  for (const MemoryShare& share : where.memory) {
    sample(out, "device_memory_bytes", label + ",what=\"" + share.what + "\"",
           static_cast<double>(share.bytes));
  }
  return out;
}

std::string options_json(const EngineOptions& o) {
  const nlohmann::json json = {{"device", o.device},
                               {"threads", o.threads},
                               {"dtype", o.dtype},
                               {"kv_dtype", o.kv_dtype},
                               {"load_format", o.load_format},
                               {"chat_template", o.chat_template},
                               {"tensor_parallel", o.tensor_parallel},
                               {"max_sequences", o.max_sequences},
                               {"max_waiting", o.max_waiting},
                               {"max_step_tokens", o.max_step_tokens},
                               {"context_length", o.context_length},
                               {"kv_bytes", o.kv_bytes},
                               {"block_tokens", o.block_tokens},
                               {"prefix_reuse", o.prefix_reuse},
                               {"overlap", o.overlap},
                               {"deterministic", o.deterministic},
                               {"packed_weights", o.packed_weights ? "auto" : "off"},
                               {"seed", o.seed},
                               {"session_lease_ns", o.session_lease_ns}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  return slash == std::string::npos || path.size() == 1 ? path : path.substr(slash + 1);
}

int64_t kv_tokens(const std::vector<models::CacheGroup>& groups) {
  int64_t least = groups.empty() ? 0 : INT64_MAX;
  for (const models::CacheGroup& group : groups) {
    if (group.kind == models::CacheKind::fixed) continue;
    least = std::min(least, int64_t{group.cache.blocks} * group.cache.block_tokens);
  }
  return least;
}

CastParts common_parts(const EngineOptions& options, bool cpu_device, int32_t encoders) {
  CastParts parts;
  ThreadNeeds needs;
  needs.cpu_devices = cpu_device;
  needs.compute_per_device = options.threads;
  needs.encoders = encoders;
  parts.threads = make_thread_plan(read_cpu_budget(), needs);
  parts.bounds.waiting = static_cast<uint32_t>(options.max_waiting);
  parts.bounds.in_flight = static_cast<uint32_t>(options.max_waiting + options.max_sequences);
  parts.bounds.image_bytes = limits::waiting_image_bytes;
  parts.encode.block_tokens = options.block_tokens;
  std::random_device entropy;
  parts.encode.seed_base =
      options.deterministic ? options.seed : (uint64_t{entropy()} << 32) ^ entropy();
  return parts;
}

engine::SchedulerConfig scheduler_config(const models::ModelFacts& facts,
                                         const EngineOptions& options) {
  engine::SchedulerConfig config;
  config.slots = options.max_sequences;
  config.waiting_max = options.max_waiting;
  config.context_length = facts.context_length;
  config.vocab = facts.vocab;
  config.block_tokens = options.block_tokens;
  config.overlap = options.overlap;
  config.prefix_reuse = options.prefix_reuse;
  config.session_lease_ns = options.session_lease_ns;
  config.facts = facts;
  return config;
}

engine::SchedulerConfig echo_scheduler(const models::ModelFacts& facts,
                                       const EngineOptions& options) {
  engine::SchedulerConfig config = scheduler_config(facts, options);
  config.block_tokens = facts.groups.front().cache.block_tokens;
  if (options.max_step_tokens > 0) config.step_rows = options.max_step_tokens;
  config.step_rows = std::max(config.step_rows, config.slots);
  config.groups = facts.groups;
  return config;
}

Status check_options(const EngineOptions& o) {
  TR_TRY(check_range("threads", o.threads, 0, 4096));
  TR_TRY(check_range("max_sequences", o.max_sequences, 1, limits::running_sequences));
  TR_TRY(check_range("max_waiting", o.max_waiting, 1, kMaxWaitingMost));
  TR_TRY(check_range("max_step_tokens", o.max_step_tokens, 0, limits::step_rows));
  TR_TRY(check_range("context_length", o.context_length, 0, limits::prompt_tokens));
  TR_TRY(check_range("kv_bytes", o.kv_bytes, 0, INT64_MAX));
  TR_TRY(check_range("block_tokens", o.block_tokens, 0, 256));
  TR_TRY(check_range("session_lease_ns", o.session_lease_ns, 0, INT64_MAX));
  TR_TRY(check_choice("load_format", o.load_format, {"auto", "dummy"}));
  TR_TRY(check_choice("dtype", o.dtype, {"auto", "f32", "f16", "bf16"}));
  if (o.tensor_parallel != 1) {
    return unsupported("tensor_parallel: " + std::to_string(o.tensor_parallel) +
                       "; this engine drives one device so far, leave it at 1");
  }
  for (const auto& [key, value] : o.extra) TR_TRY(check_live_option(key));
  return {};
}

}  // namespace troupe::actors
