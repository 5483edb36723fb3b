#include "wire/sampling_codec.hpp"

#include <cmath>
#include <limits>

#include "base/limits.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

namespace keys = key::sampling;
constexpr float kPenaltyMax =
    1000.0F;  // as troupe.h has it: far beyond sense, well within arithmetic

void write_texts(Writer& to, const std::vector<std::string>& texts) {
  to.array(texts.size());
  for (const std::string& text : texts) to.text(text);
}

void write_lists(Writer::Map& map, Writer& to, const SamplingParams& s) {
  if (!s.logit_bias.empty()) {
    map.key(keys::logit_bias).array(s.logit_bias.size());
    for (const auto& [token, bias] : s.logit_bias) {
      to.array(2);
      to.integer(token);
      to.real(bias);
    }
  }
  if (!s.bad_words.empty()) write_texts(map.key(keys::bad_words), s.bad_words);
  if (!s.stop.empty()) write_texts(map.key(keys::stop), s.stop);
  if (!s.stop_token_ids.empty()) {
    map.key(keys::stop_tokens).array(s.stop_token_ids.size());
    for (const int32_t token : s.stop_token_ids) to.integer(token);
  }
}

// A number within [low, high]; with `above`, low itself is out.
float bounded(Reader& from, const char* name, float low, float high, bool above = false) {
  const float value = from.real32();
  const bool good = value >= low && value <= high && !(above && value == low);
  if (from.ok() && !good) {
    from.fail(std::string(name) + " is " + std::to_string(value) + ": it must be " +
              (above ? "above " : "") + std::to_string(low) + " to " + std::to_string(high) + ",");
  }
  return value;
}

std::vector<std::string> read_texts(Reader& from, size_t most) {
  std::vector<std::string> texts;
  for (size_t n = from.array(most); n > 0 && from.ok(); --n) {
    texts.emplace_back(from.text(limits::stop_string_bytes));
    if (from.ok() && texts.back().empty()) from.fail("a stop string or bad word is empty");
  }
  return texts;
}

void read_bias(Reader& from, SamplingParams& s) {
  for (size_t n = from.array(limits::logit_biases); n > 0 && from.ok(); --n) {
    if (from.array(2) != 2) from.fail("a bias is a list of token and value");
    const int32_t token = from.int32(0);
    const float value = from.real32();
    if (std::isnan(value)) from.fail("a bias is NaN");
    s.logit_bias.emplace_back(token, value);
  }
}

bool read_reals(Reader& from, uint64_t k, SamplingParams& s) {
  switch (k) {
    case keys::temperature:
      s.temperature = bounded(from, "temperature", 0, kPenaltyMax);
      return true;
    case keys::top_p:
      s.top_p = bounded(from, "top_p", 0, 1, true);
      return true;
    case keys::min_p:
      s.min_p = bounded(from, "min_p", 0, 1);
      return true;
    case keys::repetition_penalty:
      s.repetition_penalty = bounded(from, "repetition_penalty", 0, kPenaltyMax, true);
      return true;
    case keys::presence_penalty:
      s.presence_penalty = bounded(from, "presence_penalty", -kPenaltyMax, kPenaltyMax);
      return true;
    case keys::frequency_penalty:
      s.frequency_penalty = bounded(from, "frequency_penalty", -kPenaltyMax, kPenaltyMax);
      return true;
    default:
      return false;
  }
}

bool read_one(Reader& from, uint64_t k, SamplingParams& s) {
  switch (k) {
    case keys::top_k:
      s.top_k = from.int32(0);
      return true;
    case keys::seed:
      s.seed = from.number();
      return true;
    case keys::max_tokens:
      s.max_tokens = from.int32(0);
      return true;
    case keys::min_tokens:
      s.min_tokens = from.int32(0);
      return true;
    case keys::ignore_eos:
      s.ignore_eos = from.boolean();
      return true;
    case keys::logit_bias:
      read_bias(from, s);
      return true;
    case keys::bad_words:
      s.bad_words = read_texts(from, limits::bad_words);
      return true;
    case keys::stop:
      s.stop = read_texts(from, limits::stop_strings);
      return true;
    case keys::stop_tokens:
      for (size_t n = from.array(limits::stop_tokens); n > 0 && from.ok(); --n) {
        s.stop_token_ids.push_back(from.int32(0));
      }
      return true;
    case keys::include_stop:
      s.include_stop = from.boolean();
      return true;
    case keys::logprobs:
      s.logprobs = from.int32(0, limits::top_logprobs);
      return true;
    case keys::prompt_logprobs:
      s.prompt_logprobs = from.int32(0, limits::top_logprobs);
      return true;
    case keys::n:
      s.n = from.int32(1, limits::choices);
      return true;
    case keys::skip_special_tokens:
      s.skip_special_tokens = from.boolean();
      return true;
    default:
      return read_reals(from, k, s);
  }
}

}  // namespace

void write_sampling(Writer& writer, const SamplingParams& s) {
  Writer::Map map(writer, Writer::Map::Size::large);
  put(map, keys::temperature, s.temperature);
  put(map, keys::top_p, s.top_p);
  put(map, keys::min_p, s.min_p);
  put(map, keys::top_k, s.top_k);
  put(map, keys::repetition_penalty, s.repetition_penalty);
  put(map, keys::presence_penalty, s.presence_penalty);
  put(map, keys::frequency_penalty, s.frequency_penalty);
  if (s.seed) map.key(keys::seed).number(*s.seed);
  put(map, keys::max_tokens, s.max_tokens);
  put(map, keys::min_tokens, s.min_tokens);
  if (s.ignore_eos) map.key(keys::ignore_eos).boolean(true);
  write_lists(map, writer, s);
  if (s.include_stop) map.key(keys::include_stop).boolean(true);
  put(map, keys::logprobs, s.logprobs);
  put(map, keys::prompt_logprobs, s.prompt_logprobs);
  if (s.n != 1) map.key(keys::n).integer(s.n);
  if (!s.skip_special_tokens) map.key(keys::skip_special_tokens).boolean(false);
}

SamplingParams read_sampling(Reader& reader) {
  SamplingParams s;
  reader.each([&](uint64_t k) { return read_one(reader, k, s); });
  if (reader.ok() && s.min_tokens && s.max_tokens && *s.min_tokens > *s.max_tokens) {
    reader.fail("min_tokens is more than max_tokens");
  }
  return s;
}

}  // namespace troupe::wire
