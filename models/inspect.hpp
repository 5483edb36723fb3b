// What `troupe inspect` says of a model folder. Template and tokenizer are the text room's, whether
// it fits is the engine's.
#pragma once

#include <string>
#include <vector>

#include "models/model.hpp"

namespace troupe::models {

struct CacheReport {
  CacheKind kind = CacheKind::whole;
  int32_t layers = 0;
  int32_t window = 0;  // tokens kept, for windows
  int32_t fixed_rows = 0;  // per sequence, for encoder rows
  int64_t bytes_per_token = 0;  // of all its layers, on one rank (per row when fixed)
};
const char* cache_kind_name(CacheKind kind);

struct FolderReport {
  std::string path;
  ModelFacts facts;  // of one rank
  GenerationDefaults defaults;
  std::string format;  // "safetensors", "pytorch"; "none" when there are no weights
  std::string weights_problem;  // why the weights cannot be used; empty: they can
  int64_t file_bytes = 0;  // of all weight files
  int32_t files = 0;
  int32_t tensors = 0;  // in the files
  int32_t experts = 0;  // per layer, at most; 0: no mixture
  int32_t experts_active = 0;
  std::vector<CacheReport> caches;
  int64_t kv_bytes_per_token = 0;  // of the groups that grow with the sequence
  std::vector<std::string> missing;  // tensors the model wants and the files have not
  std::vector<std::string> unused;  // tensors the files have and the model leaves alone; of models
                                    // without eyes only
};

// A folder whose config is good but whose weights are absent or damaged is reported, not refused.
Result<FolderReport> inspect(const std::string& path, const LoadOptions& options);

}  // namespace troupe::models
