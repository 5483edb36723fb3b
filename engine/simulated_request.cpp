#include "engine/simulated_request.hpp"

#include <algorithm>
#include <limits>

#include "engine/fake_device.hpp"

namespace troupe::engine {
namespace {

// Few prefixes, many requests: the cache is worth something.
int32_t shared_token(int32_t family, int32_t position) {
  return static_cast<int32_t>(fake_chain(static_cast<uint64_t>(family) * 1000003U, position) % kSimVocab);
}

bool banned(const std::vector<PlanBias>& biases, int32_t token) {
  return std::any_of(biases.begin(), biases.end(), [&](const PlanBias& b) {
    return b.token == token && b.bias < std::numeric_limits<float>::lowest();
  });
}

}  // namespace

Job random_job(SimRandom& random, int32_t longest_prompt) {
  Job job;
  const int32_t length = random.in(1, random.chance(20) ? longest_prompt : std::min(longest_prompt, 40));
  const int32_t shared = random.chance(70) ? random.in(0, length) : 0;
  const int32_t family = random.in(0, 2);
  for (int32_t i = 0; i < length; ++i) {
    job.prompt.tokens.push_back(i < shared ? shared_token(family, i) : random.in(0, kSimVocab - 1));
  }
  models::ModelFacts facts;
  facts.vocab = kSimVocab;
  facts.eos_tokens = {kSimEos};
  SamplingParams params;
  params.temperature = random.chance(50) ? 0.0F : 1.0F;
  params.seed = random.bits();
  params.max_tokens = random.chance(8) ? 0 : random.chance(10) ? 200 : random.in(1, 24);
  if (random.chance(20)) params.min_tokens = random.in(0, *params.max_tokens);
  params.ignore_eos = random.chance(20);
  if (random.chance(20)) params.stop_token_ids = {random.in(0, kSimVocab - 1)};
  if (random.chance(20)) params.repetition_penalty = 1.1F;
  if (random.chance(10)) {
    params.logit_bias = {{random.in(0, kSimVocab - 1), -std::numeric_limits<float>::infinity()}};
  }
  if (random.chance(25)) params.n = random.in(2, 5);
  if (random.chance(15)) params.logprobs = random.in(0, 3);
  if (random.chance(15)) params.prompt_logprobs = random.in(0, 3);
  job.sampling = plan_sampling(params, {}, facts, {}, 0).value();
  job.priority = random.chance(70) ? 0 : random.in(-2, 2);
  job.tenant_salt = random.chance(80) ? 0 : 1;
  return job;
}

void expect_tokens(SimulatedRequest& request, const models::ModelFacts& facts,
                   int32_t context_limit) {
  const SamplingPlan& p = request.job.sampling;
  const auto prompt_len = static_cast<int32_t>(request.prompt.size());
  const int32_t room = context_limit - prompt_len;
  const int32_t most = p.max_tokens < 0 ? room : std::min(room, p.max_tokens);
  request.choices.resize(static_cast<size_t>(most == 0 ? 1 : p.choices));
  for (size_t i = 0; i < request.choices.size(); ++i) {
    SimulatedChoice& choice = request.choices[i];
    choice.natural_end = FinishReason::length;
    uint64_t chain = 0;
    const uint64_t prompt_regime = facts.rope_regime(prompt_len);
    for (const int32_t t : request.prompt) chain = fake_chain(chain, t, prompt_regime);
    for (int32_t index = 0; index < most; ++index) {
      PlanSampling s;
      s.temperature = p.temperature;
      s.seed = p.seed;
      s.choice = static_cast<int32_t>(i);
      s.position = prompt_len + index;
      int32_t token = fake_token(chain, s, kSimVocab);
      const auto& biases = index < p.min_tokens ? p.early_biases : p.biases;
      while (banned(biases, token)) token = (token + 1) % kSimVocab;
      choice.expected.push_back(token);
      chain = fake_chain(chain, token, facts.rope_regime(prompt_len + index + 1));
      if (index >= p.min_tokens && p.is_stop(token)) {
        choice.natural_end = FinishReason::stop;
        break;
      }
    }
  }
}

}  // namespace troupe::engine
