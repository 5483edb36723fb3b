// Sampling on the device, as docs/sampling.md defines it; kernels/cpu/plain/sample.cpp reads like
// it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

// Mirrors of the plan's structs (kernels/batch.hpp), which C++17 cannot include; sizes are checked
// where both are seen.
struct LogitRow {
  int32_t row, sequence, sampling, target, top_n;
};
struct DrawRule {
  int32_t slot, top_k;
  float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  uint64_t seed;
  int32_t choice, position;
  int32_t bias_begin, bias_count, bad_begin, bad_count, history_begin, history_count,
      history_prompt;
  int32_t mask_row, reset;
};
struct TokenBias {
  int32_t token;
  float bias;
};
constexpr int kTail = 16;

// What the device remembers of a slot between steps.
struct SlotMemory {
  int32_t* last_token = nullptr;  // per slot
  int32_t* tail = nullptr;  // per slot: kTail tokens, oldest first
  int32_t* tail_count = nullptr;
  // Per slot and token: times generated, and bit 30 when it occurred at all. Null until a request
  // has penalties.
  int32_t* counts = nullptr;
  int64_t vocab = 0;
};

// Written in one piece: a row that bears the step's number is there, whoever looks for it.
struct alignas(16) Drawn {
  int32_t token, rank;
  float logprob;
  uint32_t step;
};
struct TopToken {
  int32_t token;
  float logprob;
};
// Where what was drawn goes: memory of the host, another place each step.
struct DrawTarget {
  Drawn* drawn = nullptr;  // per logit row
  TopToken* tops = nullptr;  // per logit row: Sampling::tops_stride
  uint32_t step = 0;  // Drawn::step
};

// Where blocks that look for a row's likeliest token meet; zero before the first use, and left so.
struct GreedyRow {
  unsigned long long best;
  uint32_t arrived;
};

struct Sampling {
  Matrix logits;  // f32; scaled and capped in place
  float scale = 1.0F, softcap = 0.0F;
  int32_t rules = 0;  // how many
  const LogitRow* rows = nullptr;
  const DrawRule* draws = nullptr;
  const TokenBias* biases = nullptr;
  const int32_t* lists = nullptr;
  int32_t list_count = 0;
  const uint32_t* masks = nullptr;  // mask rows x ceil(vocab / 32)
  int32_t mask_rows = 0;
  SlotMemory slots;
  float* changed = nullptr;  // logit rows x vocab: rows that rules change; null when none does
  const DrawTarget* target = nullptr;  // on the device
  int32_t tops_stride = 0;
  GreedyRow* greedy = nullptr;  // per logit row; for sample_greedy() and give_likeliest()
};

// Resets and histories of the rules; before sample().
cudaError_t take_histories(const Sampling& args, cudaStream_t stream);
cudaError_t sample(const Sampling& args, cudaStream_t stream);
// The same for rows that are all drawn greedily from logits as they are, with nothing reported.
cudaError_t sample_greedy(const Sampling& args, int multiprocessors, cudaStream_t stream);
// The same where a product has left the keys of the best tokens (GemmOperands::likeliest): logits
// are not read.
cudaError_t give_likeliest(const Sampling& args, cudaStream_t stream);

}  // namespace troupe::cuda
