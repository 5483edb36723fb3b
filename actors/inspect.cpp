// `troupe inspect`: what is in a folder and does it fit, without reading the weights.
#include <nlohmann/json.hpp>

#include "actors/devices.hpp"
#include "actors/live_options.hpp"
#include "actors/loaded_encoder.hpp"
#include "actors/loaded_executor.hpp"
#include "actors/local_port.hpp"
#include "actors/model_house.hpp"
#include "actors/port_text.hpp"
#include "actors/shell.hpp"
#include "kernels/device_account.hpp"

namespace troupe::actors {
namespace {

using nlohmann::json;

const char* kind_name(models::CacheKind kind) {
  switch (kind) {
    case models::CacheKind::whole: return "whole";
    case models::CacheKind::window: return "window";
    case models::CacheKind::latent: return "latent";
    case models::CacheKind::fixed: return "fixed";
  }
  return "unknown";
}

json memory_json(const LoadRequest& request, const models::ModelFacts& facts) {
  json out;
  const auto backend = open_backend(request.device, request.threads);
  if (!backend.ok()) return {{"error", backend.status().message()}};
  out["device"] = {{"name", (*backend)->info().name},
                   {"description", (*backend)->info().description},
                   {"memory_total", (*backend)->info().memory_total},
                   {"memory_free", (*backend)->info().memory_free}};
  if (const auto* account = dynamic_cast<const DeviceAccount*>(backend->get())) {
    for (const MemoryShare& share : account->memory_shares())
      out["device"][share.what + "_bytes"] = share.bytes;
  }
  const auto plan = estimate_memory(request, **backend, facts);
  out["fits"] = plan.ok();
  if (!plan.ok()) {
    out["error"] = plan.status().message();
    return out;
  }
  out["weight_bytes"] = plan->weight_bytes;
  out["workspace_bytes"] = plan->workspace_bytes;
  out["kv_bytes"] = plan->kv_bytes;
  out["kv_tokens"] = plan->kv_tokens;
  out["context_length"] = plan->context_length;
  out["table"] = plan->table;
  return out;
}

json images_json(const LoadRequest& request) {
  const Eyes& eyes = *request.eyes;
  return {{"placeholder", eyes.folder->rules().placeholder},
          {"images_max", eyes.images_max},
          {"pixels_max", eyes.pixels_max},
          {"parameters", eyes.folder->parameters()},
          {"weight_bytes", request.vision.weight_bytes},
          {"row_bytes_kept", request.vision.embedding_bytes},
          {"work_bytes", request.vision.work_bytes},
          {"encoders", request.vision.encoders}};
}

json text_json(const std::string& folder, const EngineOptions& options) {
  const auto house = open_model_house(folder, options.chat_template);
  if (!house.ok()) return {{"error", house.status().message()}};
  const std::string origin = (*house)->template_origin();
  return {{"chat_template", origin.empty() ? json(nullptr) : json(origin)}};
}

}  // namespace

Result<std::string> inspect_folder(const std::string& folder, const EngineOptions& given) {
  try {
    TR_ASSIGN(EngineOptions options, take_opening_settings(given));
    TR_TRY(check_options(options));
    LoadRequest request;
    TR_ASSIGN(request.device, choose_device(options.device));
    options.block_tokens = block_tokens_of(request.device, options.block_tokens);
    request.options = options;
    request.load = load_options(options);
    TR_ASSIGN(request.folder, models::ModelFolder::open(folder, request.load));
    TR_TRY(open_eyes(folder, request));
    ThreadNeeds needs;
    needs.encoders = request.vision.encoders;
    needs.cpu_devices = request.device.cpu();
    needs.compute_per_device = options.threads;
    request.threads = make_thread_plan(read_cpu_budget(), needs);
    const models::ModelFacts& facts = request.folder->facts();
    // Of the whole model; what of it are eyes stands among the images.
    const int64_t seeing = request.eyes == nullptr ? 0 : request.eyes->folder->parameters();
    json out = {{"model", last_part(folder)},
                {"family", facts.family},
                {"parameters", facts.parameters + seeing},
                {"weight_bytes", facts.weight_bytes + request.vision.weight_bytes},
                {"dtype", dtype_name(facts.dtype)},
                {"vocab", facts.vocab},
                {"hidden", facts.hidden},
                {"layers", facts.layers},
                {"context_length", facts.context_length},
                {"vision", facts.vision},
                {"eos_tokens", facts.eos_tokens}};
    for (const models::CacheGroup& group : facts.groups) {
      out["cache_groups"].push_back({{"kind", kind_name(group.kind)},
                                     {"window", group.window},
                                     {"layers", group.cache.layers},
                                     {"kv_heads", group.cache.kv_heads},
                                     {"key_dim", group.cache.key_dim}});
    }
    if (request.eyes != nullptr) out["images"] = images_json(request);
    out["text"] = text_json(folder, options);
    out["memory"] = memory_json(request, facts);
    out["threads"] = request.threads.table();
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
  } catch (...) {
    return status_of(std::current_exception()).at("inspecting " + folder);
  }
}

}  // namespace troupe::actors
