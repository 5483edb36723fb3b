#include "engine/echo.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "base/limits.hpp"

namespace troupe::engine {
namespace {

// The prompt from its last end-of-text on, then an end-of-text; round and round if nobody stops it.
int32_t draw_echo(const FakeContext& context) {
  const int32_t prompt = context.prompt_len();
  const FakeCell* last = context.cell(prompt - 1);
  const int32_t begin = last == nullptr ? prompt : last->segment_begin;
  const int32_t at = (context.sampling().position - prompt) % (prompt - begin + 1);
  const FakeCell* said = begin + at < prompt ? context.cell(begin + at) : nullptr;
  if (said != nullptr) return said->token;
  return context.banned(EchoText::kEos) ? ' ' : EchoText::kEos;
}

struct Key {
  std::string_view name;
  double scale;  // of what is written to what is kept
  double most;
  int64_t EchoOptions::* wide;
  int32_t EchoOptions::* narrow;
};

constexpr double kMs = 1e6, kUs = 1e3;
const Key kKeys[] = {
    {"step_ms", kMs, 1e6, &EchoOptions::step_ns, nullptr},
    {"delay_ms", kMs, 1e6, &EchoOptions::step_ns, nullptr},  // the same by another name
    {"row_us", kUs, 1e9, &EchoOptions::row_ns, nullptr},
    {"load_ms", kMs, 1e6, &EchoOptions::load_ns, nullptr},
    {"context", 1, limits::prompt_tokens, nullptr, &EchoOptions::context_length},
    {"kv_tokens", 1, 1e9, &EchoOptions::kv_tokens, nullptr},
    {"fail_step", 1, 1e15, &EchoOptions::fail_step, nullptr},
    {"fail_times", 1, 1e6, nullptr, &EchoOptions::fail_times},
};

Status set(EchoOptions& options, std::string_view name, std::string_view value) {
  for (const Key& key : kKeys) {
    if (key.name != name) continue;
    double number = 0.0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || !(number >= 0.0) ||
        number > key.most) {
      return invalid("echo: " + std::string(name) + " must be a number from 0 to " +
                     std::to_string(static_cast<int64_t>(key.most)) + ", and is \"" +
                     std::string(value) + "\"");
    }
    const double kept = std::round(number * key.scale);
    if (key.wide != nullptr) options.*key.wide = static_cast<int64_t>(kept);
    if (key.narrow != nullptr) options.*key.narrow = static_cast<int32_t>(kept);
    return ok_status();
  }
  std::string known;
  for (const Key& key : kKeys) known += (known.empty() ? "" : ", ") + std::string(key.name);
  return invalid("echo: unknown option \"" + std::string(name) + "\"; there are " + known);
}

}  // namespace

Result<EchoOptions> EchoOptions::parse(std::string_view endpoint) {
  constexpr std::string_view kScheme = "echo:";
  EchoOptions options;
  if (!endpoint.starts_with(kScheme)) return invalid("echo: endpoint \"" + std::string(endpoint) + "\"");
  endpoint.remove_prefix(kScheme.size());
  if (endpoint.empty()) return options;
  if (!endpoint.starts_with('?')) {
    return invalid("echo: expected ?key=value behind it, found \"" + std::string(endpoint) + "\"");
  }
  endpoint.remove_prefix(1);
  while (!endpoint.empty()) {
    const size_t end = std::min(endpoint.find('&'), endpoint.size());
    const std::string_view pair = endpoint.substr(0, end);
    endpoint.remove_prefix(std::min(end + 1, endpoint.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) {
      return invalid("echo: option \"" + std::string(pair) + "\" has no value");
    }
    TR_TRY(set(options, pair.substr(0, equals), pair.substr(equals + 1)));
  }
  if (options.context_length < 2) return invalid("echo: context must be 2 at least");
  return options;
}

models::ModelFacts echo_facts(const EchoOptions& echo, const EngineOptions& options) {
  models::ModelFacts facts;
  facts.family = "echo";
  facts.vocab = EchoText::kVocab;
  facts.hidden = 1;
  facts.layers = 1;
  facts.context_length = options.context_length > 0
                             ? std::min(options.context_length, echo.context_length)
                             : echo.context_length;
  facts.eos_tokens = {EchoText::kEos};
  models::CacheGroup group;
  group.cache.layers = 1;
  const int32_t block_tokens = options.block_tokens > 0 ? options.block_tokens : 16;
  group.cache.block_tokens = block_tokens;
  const int64_t tokens = echo.kv_tokens > 0
                             ? echo.kv_tokens
                             : std::max(int64_t{options.max_sequences} * 1024,
                                        int64_t{facts.context_length} * 2);
  group.cache.blocks = static_cast<int32_t>((tokens + block_tokens - 1) / block_tokens);
  facts.groups = {group};
  return facts;
}

std::unique_ptr<StepExecutor> echo_device(const EchoOptions& echo, const models::ModelFacts& facts,
                                          int32_t slots, int32_t generation, Waiter& waiter) {
  FakeDeviceOptions options;
  options.vocab = facts.vocab;
  options.slots = slots;
  options.block_tokens = facts.groups.front().cache.block_tokens;
  options.groups = facts.groups;
  options.step_ns = echo.step_ns;
  options.row_ns = echo.row_ns;
  options.fail_step = generation < echo.fail_times ? echo.fail_step : -1;
  options.segment_token = EchoText::kEos;
  options.draw = draw_echo;
  return std::make_unique<FakeDevice>(std::move(options), waiter);
}

}  // namespace troupe::engine
