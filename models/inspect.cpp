#include "models/inspect.hpp"

#include <algorithm>
#include <set>

#include "models/folder.hpp"
#include "models/mapped_file.hpp"
#include "models/weights.hpp"

namespace troupe::models {
namespace {

void report_caches(FolderReport& out) {
  for (const CacheGroup& g : out.facts.groups) {
    const KvCacheSpec& c = g.cache;
    const int64_t per_head = c.key_dim + (c.values_in_keys ? 0 : c.value_dim);
    CacheReport r{
        .kind = g.kind, .layers = c.layers, .window = g.window, .fixed_rows = g.fixed_rows};
    r.bytes_per_token =
        int64_t{c.layers} * c.kv_heads * per_head * static_cast<int64_t>(dtype_bytes(c.dtype));
    if (g.kind != CacheKind::fixed) out.kv_bytes_per_token += r.bytes_per_token;
    out.caches.push_back(r);
  }
}

void report_experts(const ModelDescription& model, FolderReport& out) {
  for (const Layer& layer : model.layers) {
    if (const auto* mixture = std::get_if<Experts>(&layer.ffn)) {
      out.experts = std::max(out.experts, mixture->routing.experts);
      out.experts_active = std::max(out.experts_active, mixture->routing.top_k);
    }
  }
}

void report_weights(const Folder& folder, FolderReport& out) {
  const Checkpoint& weights = *folder.checkpoint();
  out.format = weights.format();
  out.files = static_cast<int32_t>(weights.files().size());
  out.tensors = static_cast<int32_t>(weights.tensors().size());
  for (const auto& file : weights.files()) {
    out.file_bytes += static_cast<int64_t>(file->bytes().size());
  }
  std::set<const HostTensor*> used;
  std::set<std::string> missing;
  visit_weights(folder.description(), [&](const TensorSpec& spec) {
    const HostTensor* tensor = find_weight(weights, folder.description().renames, spec.name);
    if (tensor == nullptr) {
      missing.insert(spec.name);
    } else {
      used.insert(tensor);
    }
  });
  out.missing.assign(missing.begin(), missing.end());
  for (const auto& [name, tensor] : weights.tensors()) {
    const bool another_rooms = out.facts.vision;  // a tower uses what this room does not know
    if (!used.contains(&tensor) && !another_rooms) out.unused.push_back(name);
  }
  if (!out.missing.empty()) {
    out.weights_problem = std::to_string(out.missing.size()) +
                          " tensors are missing, the first is " + out.missing.front();
  }
}

}  // namespace

const char* cache_kind_name(CacheKind kind) {
  switch (kind) {
    case CacheKind::whole:
      return "whole";
    case CacheKind::window:
      return "window";
    case CacheKind::latent:
      return "latent";
    case CacheKind::fixed:
      return "fixed";
  }
  return "?";
}

Result<FolderReport> inspect(const std::string& path, const LoadOptions& options) {
  FolderReport out;
  out.path = path;
  out.format = "none";
  auto opened = Folder::open_folder(path, options);
  if (!opened.ok() && options.format == LoadFormat::files) {
    LoadOptions config_only = options;
    config_only.format = LoadFormat::dummy;
    auto second = Folder::open_folder(path, config_only);
    if (!second.ok()) return second.status();  // the config itself is at fault
    out.weights_problem = opened.status().message();
    opened = std::move(second);
  }
  if (!opened.ok()) return opened.status();
  const Folder& folder = **opened;
  out.facts = folder.facts();
  out.defaults = folder.defaults();
  report_caches(out);
  report_experts(folder.description(), out);
  if (folder.checkpoint() != nullptr) report_weights(folder, out);
  return out;
}

}  // namespace troupe::models
