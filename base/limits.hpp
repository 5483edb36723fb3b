// Every bound of the engine in one place, with the relations between them checked at compile time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::limits {

inline constexpr int32_t waiting_requests = 2048;                       // default, per engine
inline constexpr size_t waiting_image_bytes = size_t{1} << 30;          // 1 GiB
inline constexpr int32_t running_sequences = 4096;                      // what an option may ask for
inline constexpr int32_t step_rows = 65536;                             // rows of one step
inline constexpr size_t prompt_bytes = size_t{64} << 20;                // text of one request
inline constexpr int32_t prompt_tokens = 16 * 1024 * 1024;
inline constexpr int32_t choices = 128;                                 // n
inline constexpr int32_t priority = 100;                                // -100 .. 100
inline constexpr int32_t stop_strings = 64;
inline constexpr size_t stop_string_bytes = 4096;
inline constexpr int32_t stop_tokens = 256;
inline constexpr int32_t bad_words = 1024;
inline constexpr int32_t bad_word_tokens = 16;                          // == kSlotTail
inline constexpr int32_t logit_biases = 4096;
inline constexpr int32_t top_logprobs = 64;
inline constexpr int32_t images_per_request = 1024;
inline constexpr size_t image_bytes = size_t{256} << 20;
inline constexpr int64_t image_pixels = int64_t{256} * 1024 * 1024;
inline constexpr int32_t sessions = 4096;
inline constexpr size_t config_bytes = size_t{16} << 20;                // config.json and its like
inline constexpr size_t safetensors_header_bytes = size_t{100} << 20;
inline constexpr size_t tokenizer_bytes = size_t{256} << 20;
inline constexpr int32_t layers = 1024;
inline constexpr int32_t experts = 1024;
inline constexpr int64_t expert_weights = 1 << 17;                      // experts of all layers
inline constexpr int json_depth = 32;                                   // nesting of a model's JSON
inline constexpr size_t tensors = size_t{1} << 20;                      // of a model folder
inline constexpr size_t tensor_rank = 8;
inline constexpr size_t shards = 4096;                                  // weight files of a folder
inline constexpr size_t pickle_bytes = size_t{64} << 20;                // data.pkl of a pytorch_model.bin
inline constexpr size_t pickle_values = size_t{16} << 20;
inline constexpr size_t zip_entries = size_t{1} << 20;
inline constexpr int32_t ranks = 64;                                    // tensor parallel
inline constexpr int32_t heads = 4096;
inline constexpr int32_t head_dim = 4096;
inline constexpr int32_t hidden = 1 << 20;
inline constexpr int32_t inner = 1 << 22;                                // width of a feed-forward
inline constexpr int32_t vocabulary = 1 << 24;

static_assert(running_sequences <= step_rows, "every running sequence must fit into one decode step");
static_assert(image_bytes <= waiting_image_bytes, "one image must fit among the waiting ones");

}  // namespace troupe::limits
