#include "engine/memory_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace troupe::engine {
namespace {

using models::CacheGroup;
using models::CacheKind;

// Fewer tokens for one sequence are not an engine that anybody wants.
constexpr int32_t kContextLeast = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string bytes_text(int64_t bytes) {
  char text[32];
  const double b = static_cast<double>(bytes);
  if (bytes >= int64_t{1} << 30) {
    std::snprintf(text, sizeof text, "%.2f GiB", b / (1 << 30));
  } else if (bytes >= 1 << 20) {
    std::snprintf(text, sizeof text, "%.1f MiB", b / (1 << 20));
  } else {
    std::snprintf(text, sizeof text, "%.1f KiB", b / 1024);
  }
  return text;
}

const char* kind_name(CacheKind kind) {
  switch (kind) {
    case CacheKind::whole: return "whole";
    case CacheKind::window: return "window";
    case CacheKind::latent: return "latent";
    case CacheKind::fixed: return "fixed";
  }
  return "?";
}

// Blocks of a group when all sequences together hold so many tokens. A window group stops growing
// once every sequence has its window, and one of them a chunk.
int64_t blocks_for(const CacheGroup& g, int64_t tokens, const MemoryRequest& r) {
  const int64_t bt = g.cache.block_tokens;
  if (g.kind == CacheKind::fixed) return r.max_sequences * ceil_div(g.fixed_rows, bt);
  const int64_t all = ceil_div(tokens, bt);
  if (g.kind != CacheKind::window) return all;
  return std::min(all, r.max_sequences * (ceil_div(g.window, bt) + 1) + ceil_div(r.step_rows, bt) + 2);
}

int64_t kv_bytes_for(int64_t tokens, const MemoryRequest& r) {
  int64_t bytes = 0;
  for (size_t g = 0; g < r.groups.size(); ++g) {
    bytes += blocks_for(r.groups[g], tokens, r) * r.block_bytes[g];
  }
  return bytes;
}

// The most tokens, at most `most`, whose KV fits.
int64_t tokens_that_fit(int64_t bytes, int64_t most, const MemoryRequest& r) {
  int64_t low = 0, high = most;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (kv_bytes_for(middle, r) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

Status too_little(int64_t available, int32_t wanted, const MemoryRequest& r) {
  MemoryRequest fewer = r;
  while (fewer.max_sequences > 1 && kv_bytes_for(wanted, fewer) > available) fewer.max_sequences /= 2;
  const bool sequences_help = kv_bytes_for(wanted, fewer) <= available;
  const int64_t tokens = tokens_that_fit(std::max<int64_t>(available, 0), wanted, r);
  const int64_t needed = kv_bytes_for(wanted, r);
  std::string remedy;
  if (sequences_help) remedy += "max_sequences " + std::to_string(fewer.max_sequences) + ", or ";
  if (tokens >= 16) remedy += "context_length " + std::to_string(tokens) + ", or ";
  const int64_t missing = needed - available;
  return {Code::out_of_memory,
          "memory: one sequence of " + std::to_string(wanted) + " tokens needs " + bytes_text(needed) +
              " of KV cache with max_sequences " + std::to_string(r.max_sequences) + ", and " +
              bytes_text(std::max<int64_t>(available, 0)) + " are left (weights " +
              bytes_text(r.weight_bytes) + ", workspace " + bytes_text(r.workspace_bytes) +
              (r.budget_bytes > 0 ? ", of " + bytes_text(r.budget_bytes) : std::string()) +
              "); it would fit with " + remedy + bytes_text(missing) + " more"};
}

std::string table_of(const MemoryPlan& p, const MemoryRequest& r) {
  std::string out;
  char line[160];
  const auto row = [&](const std::string& what, int64_t bytes, const std::string& note) {
    std::snprintf(line, sizeof line, "  %-24s %12s  %s\n", what.c_str(), bytes_text(bytes).c_str(),
                  note.c_str());
    out += line;
  };
  out += "memory plan\n";
  row("weights", p.weight_bytes, "");
  row("workspace", p.workspace_bytes, "steps of up to " + std::to_string(r.step_rows) + " rows");
  if (p.vision_bytes > 0) row("pictures", p.vision_bytes, "tower, encoding, rows kept");
  for (size_t g = 0; g < p.groups.size(); ++g) {
    const CacheGroup& group = p.groups[g];
    std::string note = std::to_string(group.cache.blocks) + " blocks of " +
                       std::to_string(group.cache.block_tokens) + " tokens, " +
                       std::to_string(group.cache.layers) + " layers, " + dtype_name(group.cache.dtype);
    if (group.kind == CacheKind::window) note += ", window " + std::to_string(group.window);
    row(std::string("kv ") + kind_name(group.kind), group.cache.blocks * r.block_bytes[g], note);
  }
  const int64_t sum = p.weight_bytes + p.workspace_bytes + p.vision_bytes + p.kv_bytes;
  row("together", sum, p.budget_bytes > 0 ? "of " + bytes_text(p.budget_bytes) : "");
  out += "  " + std::to_string(p.kv_tokens) + " tokens in the cache; up to " +
         std::to_string(r.max_sequences) + " sequences, each up to " +
         std::to_string(p.context_length) + " tokens";
  if (p.context_length < r.context_length) {
    out += " (the model could " + std::to_string(r.context_length) + ")";
  }
  return out + "\n";
}

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryRequest& r) {
  TR_ASSERT(r.groups.size() == r.block_bytes.size() && r.max_sequences > 0 && r.context_length > 0);
  int64_t available = r.kv_bytes;
  const int64_t left = r.budget_bytes - r.weight_bytes - r.workspace_bytes - r.vision_bytes;
  if (available == 0) {
    available = left;
    if (r.kv_bytes_most > 0) {
      available = std::min(left, std::max(r.kv_bytes_most, kv_bytes_for(r.context_length, r)));
    }
  }
  if (r.budget_bytes > 0 && available > left) {
    return Status(Code::out_of_memory,
                  "memory: kv_bytes asks for " + bytes_text(r.kv_bytes) + ", and " +
                      bytes_text(std::max<int64_t>(left, 0)) + " are left of " +
                      bytes_text(r.budget_bytes) + " (weights " + bytes_text(r.weight_bytes) +
                      ", workspace " + bytes_text(r.workspace_bytes) + "); ask for less");
  }
  const int64_t most = int64_t{r.max_sequences} * r.context_length;
  const int64_t tokens = tokens_that_fit(std::max<int64_t>(available, 0), most, r);
  const int32_t least = std::min(r.context_length, kContextLeast);
  if (tokens < least || (r.groups.empty() && available < 0)) return too_little(available, least, r);

  MemoryPlan plan;
  plan.budget_bytes = r.budget_bytes;
  plan.weight_bytes = r.weight_bytes;
  plan.workspace_bytes = r.workspace_bytes;
  plan.vision_bytes = r.vision_bytes;
  plan.kv_bytes = kv_bytes_for(tokens, r);
  plan.kv_tokens = tokens;
  plan.context_length = static_cast<int32_t>(std::min<int64_t>(tokens, r.context_length));
  plan.groups = r.groups;
  for (CacheGroup& g : plan.groups) {
    g.cache.blocks = static_cast<int32_t>(std::min<int64_t>(blocks_for(g, tokens, r), INT32_MAX));
  }
  plan.table = table_of(plan, r);
  return plan;
}

}  // namespace troupe::engine
