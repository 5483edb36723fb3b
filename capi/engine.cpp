// The engine's entry points: open, ask, submit, cancel, close.
#include <span>
#include <string>
#include <utility>

#include "base/limits.hpp"
#include "capi/bytes.hpp"
#include "capi/checks.hpp"
#include "capi/connect.hpp"
#include "capi/engine_core.hpp"
#include "capi/error.hpp"
#include "capi/options.hpp"
#include "capi/request.hpp"
#include "capi/sized.hpp"

namespace can = troupe::can;
using troupe::EnginePort;
using troupe::Status;
using troupe::capi::EngineCore;
using troupe::capi::guard;
using troupe::capi::guard_out;
using troupe::capi::guard_void;

namespace {

using Port = std::shared_ptr<EnginePort>;

Status hand_out(const troupe::Result<std::string>& text, troupe_bytes** out) {
  if (!text.ok()) return text.status();
  *out = troupe::capi::make_bytes(text->data(), text->size());
  return {};
}

Status open(const char* endpoint, const troupe_engine_options* options, troupe_engine** out) {
  TR_NEED(endpoint);
  TR_TRY(troupe::capi::check_utf8("endpoint", endpoint));
  TR_TRY(troupe::capi::check_endpoint(endpoint));
  TR_ASSIGN(const troupe_engine_options read, troupe::capi::read_options(options));
  troupe::capi::OpenRequest request;
  request.endpoint = endpoint;
  TR_ASSIGN(request.options, troupe::capi::engine_options(read));
  if (troupe::capi::is_remote(endpoint)) {
    TR_TRY(troupe::capi::check_remote_options(read, endpoint));
  }
  if (read.library_dir != nullptr) request.library_dir = read.library_dir;
  if (read.queue != nullptr) {
    request.announced = std::make_shared<troupe::capi::Channel>(read.queue->queue, read.user_data);
  }
  auto handle = std::make_unique<troupe_engine>();
  TR_ASSIGN(handle->core, EngineCore::open(std::move(request)));
  *out = handle.release();
  return {};
}

troupe_info info_view(const troupe::EngineInfo& info) {
  troupe_info view{};
  view.context_length = info.context_length;
  view.model = info.model.c_str();
  view.family = info.family.c_str();
  view.endpoint = info.endpoint.c_str();
  view.device = info.device.c_str();
  view.dtype = info.dtype.c_str();
  view.chat_template_origin = info.chat_template_origin.c_str();
  view.config_json = info.config_json.c_str();
  view.vocab_size = info.vocab_size;
  view.max_sequences = info.max_sequences;
  view.images_max = info.images_max;
  view.image_pixels_max = info.image_pixels_max;
  view.weight_bytes = info.weight_bytes;
  view.kv_bytes = info.kv_bytes;
  view.kv_tokens = info.kv_tokens;
  view.capabilities = info.capabilities;
  return view;
}

troupe_stats stats_view(const troupe::EngineStats& stats) {
  troupe_stats view{};
  view.waiting = stats.waiting;
  view.running = stats.running;
  view.sessions = stats.sessions;
  view.submitted = stats.submitted;
  view.refused = stats.refused;
  view.done = stats.done;
  view.cancelled = stats.cancelled;
  view.failed = stats.failed;
  view.prompt_tokens = stats.prompt_tokens;
  view.cached_tokens = stats.cached_tokens;
  view.completion_tokens = stats.completion_tokens;
  view.images = stats.images;
  view.steps = stats.steps;
  view.preemptions = stats.preemptions;
  view.kv_blocks_total = stats.kv_blocks_total;
  view.kv_blocks_used = stats.kv_blocks_used;
  view.step_last_ns = stats.step_last_ns;
  view.uptime_ns = stats.uptime_ns;
  return view;
}

Status check_size(const char* what, size_t size, size_t most) {
  if (size <= most) return {};
  return troupe::limit_exceeded(std::string("argument `") + what + "` is " + std::to_string(size) +
                                ": at most " + std::to_string(most));
}

}  // namespace

extern "C" {

troupe_error* troupe_engine_open(const char* endpoint, const troupe_engine_options* options,
                                 troupe_engine** out) {
  return guard_out(out, [&]() -> Status { return open(endpoint, options, out); });
}

troupe_error* troupe_engine_close(troupe_engine* engine, int64_t drain_ns) {
  return guard([&]() -> Status {
    TR_NEED(engine);
    return engine->core->close(drain_ns);
  });
}

void troupe_engine_free(troupe_engine* engine) {
  guard_void([&] {
    if (engine == nullptr) return;
    const std::unique_ptr<troupe_engine> owned(engine);
    static_cast<void>(engine->core->close(0));
  });
}

troupe_error* troupe_engine_info(troupe_engine* engine, troupe_info* out) {
  return guard([&]() -> Status {
    TR_NEED(engine);
    TR_NEED(out);
    TR_ASSIGN(const Port port, engine->core->port());
    return troupe::capi::write_sized(out, info_view(engine->core->info()), "troupe_info");
  });
}

troupe_error* troupe_engine_stats(troupe_engine* engine, troupe_stats* out) {
  return guard([&]() -> Status {
    TR_NEED(engine);
    TR_NEED(out);
    TR_ASSIGN(const Port port, engine->core->port());
    TR_ASSIGN(const troupe::EngineStats stats, port->stats());
    return troupe::capi::write_sized(out, stats_view(stats), "troupe_stats");
  });
}

troupe_error* troupe_engine_metrics(troupe_engine* engine, troupe_bytes** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(engine);
    TR_ASSIGN(const Port port, engine->core->port());
    return hand_out(port->metrics(), out);
  });
}

troupe_error* troupe_engine_set_option(troupe_engine* engine, const char* key, const char* value) {
  return guard([&]() -> Status {
    TR_NEED(engine);
    TR_NEED(key);
    TR_NEED(value);
    TR_ASSIGN(const Port port, engine->core->port());
    return port->set_option(key, value);
  });
}

troupe_error* troupe_inspect(const char* endpoint, const troupe_engine_options* options,
                             troupe_bytes** out_json) {
  return guard_out(out_json, [&]() -> Status {
    TR_NEED(endpoint);
    TR_TRY(troupe::capi::check_endpoint(endpoint));
    if (troupe::capi::is_remote(endpoint)) {
      return troupe::unsupported(std::string("endpoint ") + endpoint +
                                 ": only folders can be inspected");
    }
    TR_ASSIGN(const troupe_engine_options read, troupe::capi::read_options(options));
    TR_ASSIGN(const troupe::EngineOptions opened, troupe::capi::engine_options(read));
    TR_ASSIGN(const troupe::EnginePlugin* plugin,
              troupe::capi::load_engine_plugin(read.library_dir ? read.library_dir : ""));
    return hand_out(plugin->inspect(endpoint, opened), out_json);
  });
}

troupe_error* troupe_tokenize(troupe_engine* engine, const char* text, size_t size, uint32_t flags,
                              troupe_bytes** out_i32) {
  return guard_out(out_i32, [&]() -> Status {
    TR_NEED(engine);
    if (size > 0) TR_NEED(text);
    TR_TRY(check_size("size", size, troupe::limits::prompt_bytes));
    const std::string_view view = size > 0 ? std::string_view(text, size) : std::string_view();
    TR_TRY(troupe::capi::check_utf8("text", view));
    TR_ASSIGN(const Port port, engine->core->port());
    TR_ASSIGN(const std::vector<int32_t> ids,
              port->tokenize(view, (flags & TROUPE_TEXT_ADD_SPECIAL) != 0,
                             (flags & TROUPE_TEXT_PARSE_SPECIAL) != 0));
    *out_i32 = troupe::capi::make_bytes(ids.data(), ids.size() * sizeof(int32_t));
    return {};
  });
}

troupe_error* troupe_detokenize(troupe_engine* engine, const int32_t* tokens, size_t n_tokens,
                                uint32_t flags, troupe_bytes** out_utf8) {
  return guard_out(out_utf8, [&]() -> Status {
    TR_NEED(engine);
    if (n_tokens > 0) TR_NEED(tokens);
    TR_TRY(check_size("n_tokens", n_tokens, troupe::limits::prompt_tokens));
    TR_ASSIGN(const Port port, engine->core->port());
    const std::span ids(tokens, n_tokens);
    TR_TRY(troupe::capi::check_tokens("tokens", ids, engine->core->info().vocab_size));
    return hand_out(port->detokenize(ids, (flags & TROUPE_TEXT_SKIP_SPECIAL) != 0), out_utf8);
  });
}

troupe_error* troupe_render(troupe_engine* engine, const troupe_request* request,
                            troupe_bytes** out_utf8) {
  return guard_out(out_utf8, [&]() -> Status {
    TR_NEED(engine);
    TR_NEED(request);
    TR_ASSIGN(const Port port, engine->core->port());
    TR_ASSIGN(const troupe::Request copy, troupe::capi::snapshot(*request, *engine->core));
    return hand_out(port->render(copy), out_utf8);
  });
}

troupe_error* troupe_submit(troupe_engine* engine, const troupe_request* request,
                            troupe_queue* queue, uint64_t user_data, uint64_t* out_id) {
  if (out_id != nullptr) *out_id = 0;
  return guard([&]() -> Status {
    TR_NEED(engine);
    TR_NEED(request);
    TR_NEED(queue);
    TR_ASSIGN(const Port port, engine->core->port());
    TR_ASSIGN(troupe::Request copy, troupe::capi::snapshot(*request, *engine->core));
    copy.user_data = user_data;
    auto channel = std::make_shared<troupe::capi::Channel>(queue->queue, user_data);
    TR_ASSIGN(const troupe::RequestId id, port->submit(std::move(copy), std::move(channel)));
    if (out_id != nullptr) *out_id = id;
    return {};
  });
}

void troupe_cancel(troupe_engine* engine, uint64_t id) {
  guard_void([&] {
    if (engine == nullptr || id == 0) return;
    if (const Port port = engine->core->port_if_any()) port->cancel(id);
  });
}
}

static_assert(TROUPE_CAN_CHAT == can::chat && TROUPE_CAN_TOOLS == can::tools);
static_assert(TROUPE_CAN_SEE_IMAGES == can::see_images);
static_assert(TROUPE_CAN_TAKE_IMAGE_EMBEDDINGS == can::take_image_embeddings);
static_assert(TROUPE_CAN_ENCODE_IMAGES == can::encode_images && TROUPE_CAN_EMBED == can::embed);
static_assert(TROUPE_CAN_SCORE == can::score && TROUPE_CAN_CONSTRAIN == can::constrain);
static_assert(TROUPE_CAN_KEEP_SESSIONS == can::keep_sessions);
static_assert(TROUPE_CAN_USE_ADAPTERS == can::use_adapters && TROUPE_CAN_SERVE == can::serve);
