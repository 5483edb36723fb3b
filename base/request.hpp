// What is asked of an engine and what comes back: the words that the C ABI, the wire, the gateways
// and the local cast share. Plain data; every number left unset takes the model's
// generation_config.json, else the documented default.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace troupe {

using RequestId = uint64_t;  // unique within a port; 0 is none

struct SamplingParams {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<uint64_t> seed;  // unset: drawn anew for each request
  std::optional<int32_t> max_tokens, min_tokens;
  bool ignore_eos = false;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<std::string> bad_words;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool include_stop = false;
  std::optional<int32_t> logprobs;         // top alternatives per token; unset: none, 0: the chosen one only
  std::optional<int32_t> prompt_logprobs;  // likewise for the prompt
  int32_t n = 1;
  bool skip_special_tokens = true;
};

enum class ImageKind : uint8_t { encoded, pixels, embedding };
enum class PixelLayout : uint8_t { hwc, chw };
enum class PixelFormat : uint8_t { rgb, rgba, bgr, bgra, grey };
enum class EmbeddingType : uint8_t { f16, bf16, f32 };

// Bytes that somebody keeps alive: a copy of ours, or the caller's until `owner` is dropped.
struct SharedBytes {
  std::shared_ptr<const void> owner;
  const std::byte* data = nullptr;
  size_t size = 0;
};

struct ImageInput {
  ImageKind kind = ImageKind::encoded;
  SharedBytes bytes;
  // pixels
  int32_t width = 0, height = 0;
  PixelFormat format = PixelFormat::rgb;
  PixelLayout layout = PixelLayout::hwc;
  int64_t row_stride = 0;  // bytes; 0: dense
  // embedding
  int32_t rows = 0, hidden = 0;
  EmbeddingType type = EmbeddingType::f16;
  std::array<int32_t, 3> grid{};  // time, height, width in merged patches; zero: not given
};

// The prompt in the order in which it was given: text, ids and images of a raw prompt, or of messages.
struct PromptPart {
  enum class Kind : uint8_t { text, tokens, image } kind = Kind::text;
  std::string text;
  std::vector<int32_t> tokens;
  size_t image = 0;  // index into Request::images
};
enum class Role : uint8_t { system, user, assistant, tool };
struct PromptMessage {
  Role role = Role::user;
  std::vector<PromptPart> parts;
};

enum class ConstraintKind : uint8_t { none, json_schema, regex, ebnf, choice };
struct Constraint {
  ConstraintKind kind = ConstraintKind::none;
  std::string text;
};

enum class Task : uint8_t { generate, score, embed, encode_image };

struct Request {
  Task task = Task::generate;
  std::vector<PromptPart> prompt;       // raw prompt, when there are no messages
  std::vector<PromptMessage> messages;  // chat
  std::string messages_json;            // chat in OpenAI's shape; image parts refer to images by index
  std::string tools_json, documents_json, template_kwargs_json;
  bool add_generation_prompt = true;
  bool add_special_tokens = true;
  std::vector<ImageInput> images;
  SamplingParams sampling;
  Constraint constraint;
  uint64_t session = 0;  // 0: none
  std::string adapter;
  int32_t priority = 0;                  // higher first
  std::optional<int64_t> deadline_ns;    // from submission
  std::string client;                    // tenant: salts the prefix cache when set
  uint64_t user_data = 0;
};

enum class EventKind : uint8_t { ready, admitted, tokens, done, cancelled, failed, progress };
enum class FinishReason : uint8_t { none, stop, length, cancelled, error };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0F;
  int32_t rank = 0;
};
// Row i holds the alternatives at token i, best first. In the prompt's table each row begins with
// the prompt's own token, before the alternatives.
using LogprobTable = std::vector<std::vector<TokenLogprob>>;

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, image_tokens = 0;
};
struct Timings {
  int64_t queued_ns = 0, first_token_ns = 0, total_ns = 0;
  // Of its pictures: until all had rows; what decoding and preparing took of threads, and encoding
  // of devices. What was reused took nothing.
  int64_t images_ns = 0, image_prepare_ns = 0, image_encode_ns = 0;
};

// INV-EVENT-1: every accepted request gets exactly one of done, cancelled, failed, and it is the last.
// INV-EVENT-2: tokens of one index come in order, each once; `from` is the number delivered before.
// INV-EVENT-3: the last tokens event of an index carries its finish reason (and stop_token, stop_text);
// `done` repeats that of index 0.
struct Event {
  EventKind kind = EventKind::tokens;
  RequestId id = 0;
  uint64_t user_data = 0;
  int32_t index = 0;  // of n
  int64_t from = 0;
  std::vector<int32_t> tokens;
  std::string text;
  std::vector<float> logprobs;  // of `tokens`, when asked for
  LogprobTable top_logprobs;
  LogprobTable prompt_logprobs;  // with the first event; [0] of a prompt's first token is empty
  FinishReason finish = FinishReason::none;
  int32_t stop_token = -1;  // the id that ended it, -1 otherwise
  std::string stop_text;    // the stop string that ended it
  Usage usage;
  Timings timings;
  Status status;
  std::vector<float> data;  // embeddings
  std::array<int64_t, 2> data_shape{};
  double progress = 0.0;  // of loading: `text` names the phase
};
inline bool is_terminal(EventKind k) {
  return k == EventKind::done || k == EventKind::cancelled || k == EventKind::failed;
}

// The commonest event by far, tokens of a choice that goes on and nobody wants logprobs of, without
// the making of an Event: lent for the length of the call.
struct TokenDelta {
  RequestId id = 0;
  uint64_t user_data = 0;
  int32_t index = 0;  // of n
  int64_t from = 0;
  std::span<const int32_t> tokens;
  std::string_view text;

  [[nodiscard]] Event event() const;
};

// Where a request's events go. Both may be called from any thread, never block, and must not call
// back into the port. Implementations coalesce while their reader lags (merge_events).
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void push(Event&& event) = 0;
  virtual void push_delta(const TokenDelta& delta) { push(delta.event()); }
};

// Appends the tokens event `later` to `earlier` of the same request and index.
void merge_events(Event& earlier, Event&& later);
void merge_events(Event& earlier, const TokenDelta& later);

}  // namespace troupe
