// One task of attention: some query rows of one sequence against one key head, with the heads that
// share it. Softmax runs online over tiles of tokens, so no row of scores is ever whole.
#pragma once

#include <cstdint>

#include "kernels/cpu/kv_cache.hpp"

namespace troupe::cpu {

// Where keys and values lie: in the paged cache, or (vision) in two matrices, token after token.
struct KvSource {
  DType dtype = DType::f32;
  int32_t block_tokens = 0;
  int32_t first_position = 0;  // of the first token of the first block
  // Paged: the blocks' numbers.
  const HostKvCache* cache = nullptr;
  int32_t layer = 0;
  int32_t head = 0;
  const int32_t* table = nullptr;
  // Packed: rows of one head.
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t key_stride = 0;
  int64_t value_stride = 0;
};

struct AttentionTask {
  const float* query = nullptr;  // first row, first head
  int64_t query_stride = 0;
  float* output = nullptr;
  int64_t output_stride = 0;
  int32_t rows = 0;
  int32_t heads = 0;  // of each row: rows * heads <= kMicroRows
  int32_t key_dim = 0;
  int32_t value_dim = 0;
  float scale = 1.0F;
  float softcap = 0.0F;
  const float* slopes = nullptr;  // of these heads
  const float* sinks = nullptr;
  const int32_t* positions = nullptr;  // per row, for slopes; null without
  const int32_t* begins = nullptr;     // per row: tokens [begin, end) are seen
  const int32_t* ends = nullptr;
  KvSource kv;
};

inline constexpr int64_t kMicroRows = 96;   // query rows times heads of one task
inline constexpr int64_t kTokenTile = 64;   // tokens whose scores are held at once

// Floats of scratch that a task needs.
int64_t attention_scratch_floats(int32_t key_dim, int32_t value_dim, int32_t block_tokens);
// `scratch` is 64-byte aligned.
void attend(const AttentionTask& task, float* scratch);

}  // namespace troupe::cpu
