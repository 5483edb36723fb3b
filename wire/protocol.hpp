// TRP/1 in numbers: kinds of messages and keys of their maps, as docs/protocol.md freezes them.
//
// A message is frame 0, the head (4 bytes: 'T', 'R', version, kind), frame 1, the body (one msgpack
// map with small integer keys; some kinds take several, back to back), and raw blobs behind them.
// Numbers are only ever added. Unknown keys and unknown kinds are ignored.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace troupe::wire {

inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kHeadBytes = 4;

enum class Kind : uint8_t {
  // the connection
  hello = 0x01,
  welcome = 0x02,
  refused = 0x03,
  ping = 0x04,
  pong = 0x05,
  bye = 0x06,
  // requests, from the client; those marked * take several maps in one body
  submit = 0x10,
  blob = 0x11,
  credit = 0x12,  // *
  cancel = 0x13,  // *
  resume = 0x14,  // *
  release = 0x15,  // *
  // requests, from the server
  accepted = 0x20,  // *
  admitted = 0x21,  // *
  delta = 0x22,  // *
  done = 0x23,  // *
  cancelled = 0x24,  // *
  failed = 0x25,  // *
  grant = 0x26,  // *
  data = 0x27,
  // questions, each answered by one reply
  stats = 0x30,
  metrics = 0x31,
  tokenize = 0x32,
  detokenize = 0x33,
  render = 0x34,
  session_new = 0x38,
  session_fork = 0x39,
  session_rewind = 0x3A,
  session_info = 0x3B,
  session_free = 0x3C,
  reply = 0x3F,
};
inline bool is_question(Kind kind) {
  return kind >= Kind::stats && kind < Kind::reply;
}

inline std::array<char, kHeadBytes> head_of(Kind kind) {
  return {'T', 'R', static_cast<char>(kVersion), static_cast<char>(kind)};
}
// Is this the head of a TRP/1 message?
inline bool is_head(std::string_view frame) {
  return frame.size() == kHeadBytes && frame[0] == 'T' && frame[1] == 'R' &&
         static_cast<uint8_t>(frame[2]) == kVersion;
}
inline Kind kind_of(std::string_view head) {
  return static_cast<Kind>(static_cast<uint8_t>(head[3]));
}

// A client's name for a request, and names of clients, servers and tickets: 128 bits, made at
// random.
using Id128 = std::array<uint8_t, 16>;
struct IdHash {
  // Clients draw ids as they please; the hash mixes all of it.
  size_t operator()(const Id128& id) const {
    uint64_t low = 0, high = 0;
    for (size_t i = 0; i < 8; ++i) {
      low = low << 8 | id[i];
      high = high << 8 | id[8 + i];
    }
    uint64_t x = low ^ (high * 0x9E3779B97F4A7C15U);
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9U;
    return static_cast<size_t>(x ^ (x >> 32));
  }
};

namespace key {
// Key 0 is the id of a request, in all messages about one, and the number of a question.
inline constexpr uint64_t id = 0, call = 0;

namespace hello {
inline constexpr uint64_t versions = 0, client = 1, name = 2, capabilities = 3, ticket = 4;
}
namespace welcome {
inline constexpr uint64_t version = 0, server = 1, resumed = 2, heartbeat_ms = 3, idle_ms = 4,
                          resume_ms = 5, limits = 6, info = 7, ticket = 8;
}
namespace limit {
inline constexpr uint64_t requests = 0, body_bytes = 1, blob_bytes = 2, image_bytes = 3,
                          image_pixels = 4, images = 5, prompt_tokens = 6, sessions = 7,
                          upload_bytes = 8, questions = 9;
}
namespace info {
inline constexpr uint64_t model = 0, family = 1, device = 2, dtype = 3, chat_template_origin = 4,
                          config_json = 5, context_length = 6, vocab_size = 7, max_sequences = 8,
                          images_max = 9, image_pixels_max = 10, weight_bytes = 11, kv_bytes = 12,
                          kv_tokens = 13, capabilities = 14, max_waiting = 15;
}
namespace refused {
inline constexpr uint64_t error = 0;
}
namespace ping {
inline constexpr uint64_t t = 0;
}
namespace pong {
inline constexpr uint64_t t = 0, steps = 1, waiting = 2, running = 3;
}
namespace bye {
inline constexpr uint64_t error = 0, drain_ms = 1;
}
namespace error {
inline constexpr uint64_t code = 0, message = 1, retryable = 2;
}
namespace submit {
inline constexpr uint64_t credit = 1, request = 2, uploads = 3;
}
namespace request {
inline constexpr uint64_t task = 0, prompt = 1, messages = 2, messages_json = 3, tools_json = 4,
                          documents_json = 5, template_kwargs_json = 6, add_generation_prompt = 7,
                          add_special_tokens = 8, images = 9, sampling = 10, constraint = 11,
                          session = 12, adapter = 13, priority = 14, deadline_ms = 15, client = 16;
}
namespace image {
inline constexpr uint64_t kind = 0, blob = 1, width = 2, height = 3, format = 4, layout = 5,
                          row_stride = 6, rows = 7, hidden = 8, type = 9, grid = 10;
}
namespace sampling {
inline constexpr uint64_t temperature = 0, top_p = 1, min_p = 2, top_k = 3, repetition_penalty = 4,
                          presence_penalty = 5, frequency_penalty = 6, seed = 7, max_tokens = 8,
                          min_tokens = 9, ignore_eos = 10, logit_bias = 11, bad_words = 12,
                          stop = 13, stop_tokens = 14, include_stop = 15, logprobs = 16,
                          prompt_logprobs = 17, n = 18, skip_special_tokens = 19;
}
namespace blob {
inline constexpr uint64_t blob = 1, offset = 2;
}
namespace credit {
inline constexpr uint64_t n = 1;
}
namespace resume {
inline constexpr uint64_t from = 1, credit = 2;
}
namespace grant {
inline constexpr uint64_t blob = 1, bytes = 2;
}
namespace event {
inline constexpr uint64_t seq = 1, index = 2, from = 3, text_from = 4, tokens = 5, text = 6,
                          logprobs = 7, top_logprobs = 8, prompt_logprobs = 9, finish = 10,
                          stop_token = 11, stop_text = 12, usage = 13, timings = 14, error = 15,
                          data_shape = 16;
}
namespace data {
inline constexpr uint64_t offset = 1;
}
namespace question {
inline constexpr uint64_t text = 1, flags = 2, tokens = 3, request = 4, session = 5, lease_ns = 6,
                          n_tokens = 7;
}
namespace reply {
inline constexpr uint64_t error = 1, text = 2, tokens = 3, stats = 4, session = 5, state = 6;
}
}  // namespace key

// Flags of tokenize and detokenize, equal to TROUPE_TEXT_* of troupe.h.
inline constexpr uint64_t kAddSpecial = 1, kParseSpecial = 2, kSkipSpecial = 4;

// Deltas that a SUBMIT or RESUME without a credit of its own may be sent before the first CREDIT.
inline constexpr uint32_t kDefaultCredit = 8;
// More than this counts as this.
inline constexpr uint64_t kCreditMax = uint64_t{1} << 20;
// What one delta carries at most: the rest waits for the next one.
inline constexpr size_t kDeltaTokens = 8192;
inline constexpr size_t kDeltaTextBytes = size_t{64} << 10;
// Blobs beyond a message's own frames come in pieces of at most this, against grants.
inline constexpr size_t kChunkBytes = size_t{256} << 10;

}  // namespace troupe::wire
