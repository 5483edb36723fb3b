#include "actors/encode.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "actors/picture_prompt.hpp"
#include "base/limits.hpp"
#include "engine/sampling_plan.hpp"

namespace troupe::actors {
namespace {

Status over(const char* field, size_t value, size_t limit, const char* unit) {
  return limit_exceeded(std::string(field) + ": " + std::to_string(value) + " " + unit +
                        ", the limit is " + std::to_string(limit));
}

Status check_lists(const SamplingParams& s) {
  if (s.n > limits::choices) return over("n", static_cast<size_t>(s.n), limits::choices, "choices");
  if (s.stop.size() > limits::stop_strings) {
    return over("stop", s.stop.size(), limits::stop_strings, "strings");
  }
  for (const std::string& stop : s.stop) {
    if (stop.empty()) return invalid("stop: an empty string would end every answer; leave it out");
    if (stop.size() > limits::stop_string_bytes) {
      return over("stop", stop.size(), limits::stop_string_bytes, "bytes in one string");
    }
  }
  if (s.stop_token_ids.size() > limits::stop_tokens) {
    return over("stop_token_ids", s.stop_token_ids.size(), limits::stop_tokens, "ids");
  }
  if (s.bad_words.size() > limits::bad_words) {
    return over("bad_words", s.bad_words.size(), limits::bad_words, "words");
  }
  if (s.logit_bias.size() > limits::logit_biases) {
    return over("logit_bias", s.logit_bias.size(), limits::logit_biases, "entries");
  }
  return {};
}

template <class F>
void each_part(const Request& request, F&& visit) {
  for (const PromptPart& part : request.prompt) visit(part);
  for (const PromptMessage& message : request.messages) {
    for (const PromptPart& part : message.parts) visit(part);
  }
}

// The words with and without a space before them: often a token of its own with, and several without. Not where the
// space is but a token in front: behind it the bare word's own come all the same.
Result<std::vector<std::vector<int32_t>>> encode_bad_words(const std::vector<std::string>& words,
                                                           const TextHouse& text) {
  std::vector<std::vector<int32_t>> lists;
  for (const std::string& word : words) {
    const size_t begin = word.find_first_not_of(' ');
    if (begin == std::string::npos) return invalid("bad_words: a word is empty");
    TR_ASSIGN(std::vector<int32_t> bare, text.encode(word, false, false));
    TR_ASSIGN(std::vector<int32_t> spaced, text.encode(" " + word.substr(begin), false, false));
    for (const auto* ids : {&bare, &spaced}) {
      if (ids->size() > limits::bad_word_tokens) {
        return over("bad_words", ids->size(), limits::bad_word_tokens, "tokens in one word");
      }
    }
    const bool also_spaced =
        spaced.size() < bare.size() || !std::equal(bare.rbegin(), bare.rend(), spaced.rbegin());
    if (!bare.empty()) lists.push_back(std::move(bare));
    if (also_spaced) lists.push_back(std::move(spaced));
  }
  return lists;
}

// A number that looks drawn: what two requests without a seed must not share.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Tokens in front of the prompt that only begin a text, which a session's later turn is not. What
// the caller wrote down himself stays: ids, or raw text that asks for no special tokens.
Result<int32_t> opening_of(const Request& request, const std::vector<int32_t>& ids,
                           const TextHouse& text) {
  const bool raw = request.messages.empty() && request.messages_json.empty();
  if (raw && (!request.add_special_tokens || request.prompt.empty() ||
              request.prompt.front().kind != PromptPart::Kind::text)) {
    return 0;
  }
  TR_ASSIGN(const std::vector<int32_t> opening, text.encode("", true, false));
  const bool there = opening.size() <= ids.size() &&
                     std::equal(opening.begin(), opening.end(), ids.begin());
  return there ? static_cast<int32_t>(opening.size()) : 0;
}

uint64_t salt_of(const std::string& client) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : client) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  return client.empty() ? 0 : hash;
}

SamplingParams effective(const Request& request) {
  SamplingParams params = request.sampling;
  if (request.task == Task::score) {
    params.max_tokens = 0;
    if (!params.prompt_logprobs) params.prompt_logprobs = 0;
  }
  return params;
}

Status check_images(const Request& request, const EncodeParts& parts) {
  const bool sees = parts.images || parts.eyes != nullptr;
  if (!request.images.empty() && !sees) {
    return unsupported("images: this model takes text only (family " + parts.facts.family + ")");
  }
  const size_t most = parts.eyes != nullptr ? static_cast<size_t>(parts.eyes->images_max)
                                            : static_cast<size_t>(limits::images_per_request);
  if (request.images.size() > most) return over("images", request.images.size(), most, "images");
  for (const ImageInput& image : request.images) {
    if (image.bytes.size > limits::image_bytes) {
      return over("images", image.bytes.size, limits::image_bytes, "bytes in one image");
    }
  }
  if (request.task != Task::encode_image) return {};
  if (parts.eyes == nullptr) {
    return unsupported("task: encode_image needs a vision encoder, and this model has none (family " +
                       parts.facts.family + ")");
  }
  return request.images.empty() ? invalid("images: the task encode_image needs at least one") : Status();
}

}  // namespace

size_t text_bytes(const Request& request) {
  size_t bytes = request.messages_json.size() + request.tools_json.size() +
                 request.documents_json.size() + request.template_kwargs_json.size();
  each_part(request, [&](const PromptPart& p) { bytes += p.text.size() + p.tokens.size(); });
  return bytes;
}

size_t image_bytes(const Request& request) {
  size_t bytes = 0;
  for (const ImageInput& image : request.images) bytes += image.bytes.size;
  return bytes;
}

Status check_request(const Request& request, const EncodeParts& parts) {
  if (request.task == Task::embed) {
    return unsupported("task: this engine generates and scores; embeddings are not there yet");
  }
  if (request.constraint.kind != ConstraintKind::none) {
    return unsupported("constraint: constrained output is not there yet; send the request without it");
  }
  if (!request.adapter.empty()) {
    return {Code::not_found, "adapter: no adapter of the name \"" + request.adapter + "\" is loaded"};
  }
  TR_TRY(check_images(request, parts));
  if (const size_t bytes = text_bytes(request); bytes > limits::prompt_bytes) {
    return over("prompt", bytes, limits::prompt_bytes, "bytes");
  }
  if (request.deadline_ns && *request.deadline_ns <= 0) {
    return {Code::deadline, "deadline_ms: the deadline had passed when the request was submitted"};
  }
  Status bad_token;
  each_part(request, [&](const PromptPart& p) {
    if (!bad_token.ok() || p.kind != PromptPart::Kind::tokens) return;
    const auto bad = std::find_if(p.tokens.begin(), p.tokens.end(), [&](int32_t t) {
      return t < 0 || t >= parts.facts.vocab;
    });
    if (bad == p.tokens.end()) return;
    bad_token = invalid("prompt: token id " + std::to_string(*bad) + " at index " +
                        std::to_string(bad - p.tokens.begin()) + ", ids go from 0 to " +
                        std::to_string(parts.facts.vocab - 1));
  });
  TR_TRY(bad_token);
  TR_TRY(check_lists(request.sampling));
  return engine::plan_sampling(effective(request), parts.defaults, parts.facts, {}, 0).status();
}

Status encode_order(Order& order, const EncodeParts& parts) {
  Request& request = order.request;
  const SamplingParams params = effective(request);
  TR_TRY(read_prompt(order, parts));
  if (order.sight != nullptr && order.sight->rows_wanted) {
    request = Request{};
    return {};
  }
  const size_t length = order.job.prompt.tokens.size();
  if (length == 0) {
    return invalid("prompt: it is empty, and this model's tokenizer puts no token before it");
  }
  if (length > limits::prompt_tokens) return over("prompt", length, limits::prompt_tokens, "tokens");
  TR_ASSIGN(const auto bad_words, encode_bad_words(params.bad_words, *parts.text));
  engine::Job& job = order.job;
  job.id = order.ticket->id();
  TR_ASSIGN(job.sampling,
            engine::plan_sampling(params, parts.defaults, parts.facts, bad_words,
                                  mix(parts.seed_base + job.id)));
  if (request.session != 0) {
    TR_ASSIGN(job.opening, opening_of(request, job.prompt.tokens, *parts.text));
  }
  job.priority = request.priority;
  job.submitted_ns = order.ticket->stub().submitted_ns;
  if (order.ticket->stub().deadline_ns != 0) job.deadline_ns = order.ticket->stub().deadline_ns;
  job.session = request.session;
  job.tenant_salt = salt_of(request.client);
  if (parts.block_tokens > 0) {
    const uint64_t regime = parts.facts.rope_regime(static_cast<int32_t>(length));
    engine::name_blocks(job.prompt, engine::root_key({0, job.tenant_salt, regime, job.adapter}), parts.block_tokens);
  }

  engine::OutputSpec& spec = order.spec;
  spec.id = job.id;
  spec.user_data = order.ticket->stub().user_data;
  spec.choices = job.sampling.choices;
  spec.min_tokens = job.sampling.min_tokens;
  spec.stop = params.stop;
  spec.include_stop = params.include_stop;
  spec.skip_special = params.skip_special_tokens;
  spec.logprobs = job.sampling.logprobs >= 0;
  spec.prompt_logprobs = job.sampling.prompt_logprobs >= 0;
  request = Request{};
  return {};
}

}  // namespace troupe::actors
