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

PromptImage random_picture(SimRandom& random) {
  PromptImage image;
  const auto content = static_cast<uint64_t>(random.in(1, 5));
  image.embedding = 1000 + content;
  image.content = {content, ~content};
  image.ready = random.chance(60);
  return image;
}

// Runs of rows here and there; now and then a text token in the middle of a picture.
void add_pictures(SimRandom& random, Prompt& prompt, SimSight sight) {
  const int32_t length = prompt.length();
  for (int32_t at = random.in(0, 10); at < length; at += random.in(1, 12)) {
    PromptImage image = random_picture(random);
    image.position = at;
    image.rows = static_cast<int32_t>(image.embedding % 7) + 3;
    if (at + image.rows + 1 > length) break;
    if (sight == SimSight::rows && random.chance(30)) {
      PromptImage first = image;
      first.rows = 2;
      prompt.images.push_back(first);
      image.position += 3;
      image.source_row = 2;
      image.rows -= 2;
    }
    at = image.position + image.rows;
    prompt.images.push_back(std::move(image));
  }
}

// As an image's rows on a grid: time stands still, height and width count, text goes on behind.
void lay_grid(Prompt& prompt) {
  int32_t next = 0;
  size_t image = 0;
  for (int32_t p = 0; p < prompt.length();) {
    if (image < prompt.images.size() && prompt.images[image].position == p) {
      const int32_t rows = prompt.images[image++].rows;
      for (int32_t r = 0; r < rows; ++r) {
        prompt.rope_positions.insert(prompt.rope_positions.end(), {next, next + r / 2, next + r % 2});
      }
      p += rows;
      next += (rows + 1) / 2;
    } else {
      prompt.rope_positions.insert(prompt.rope_positions.end(), {next, next, next});
      ++next;
      ++p;
    }
  }
  prompt.rope_delta = next - prompt.length();
}

void lay_cross(SimRandom& random, Prompt& prompt) {
  prompt.cross.resize(prompt.tokens.size());
  const int32_t count = random.in(1, 3);
  for (int32_t i = 0; i < count; ++i) {
    PromptImage image = random_picture(random);
    const int32_t low = prompt.cross_images.empty() ? 0 : prompt.cross_images.back().position + 1;
    if (low >= prompt.length()) break;
    image.position = random.in(low, prompt.length() - 1);
    image.rows = 2;
    image.source_row = prompt.cross_rows;
    for (int32_t p = image.position; p < prompt.length(); ++p) {
      prompt.cross[static_cast<size_t>(p)] = {image.source_row, image.source_row + 2};
    }
    prompt.cross_rows += 2;
    prompt.cross_images.push_back(std::move(image));
  }
}

void add_sight(SimRandom& random, Prompt& prompt, SimSight sight) {
  if (sight == SimSight::cross) return lay_cross(random, prompt);
  add_pictures(random, prompt, sight);
  if (prompt.images.empty()) return;
  if (sight == SimSight::grid) lay_grid(prompt);
  for (const PromptImage& image : prompt.images) {
    const auto begin = static_cast<size_t>(image.position);
    const auto end = begin + static_cast<size_t>(image.rows);
    if (sight == SimSight::experts) {
      prompt.modality.resize(prompt.tokens.size());
      for (size_t p = begin; p < end; ++p) prompt.modality[p] = 1;
    } else if (sight == SimSight::spans) {
      for (size_t p = prompt.span_ends.size(); p < prompt.tokens.size(); ++p) {
        prompt.span_ends.push_back(static_cast<int32_t>(p) + 1);
      }
      for (size_t p = begin; p < end; ++p) prompt.span_ends[p] = static_cast<int32_t>(end);
    }
  }
}

// What a row is to the fake device: its token and aspect.
struct SimRow {
  int32_t token = 0;
  uint64_t aspect = 0;
};

SimRow row_of(const Prompt& prompt, int32_t position, int32_t token) {
  SimRow row{token, 0};
  const auto p = static_cast<size_t>(position);
  for (const PromptImage& i : prompt.images) {
    if (position < i.position || position >= i.position + i.rows) continue;
    row.token = fake_injected(i.embedding, i.source_row + position - i.position);
  }
  FakeAspects a;
  a.position = position;
  const bool inside = position < prompt.length();
  for (size_t axis = 0; axis < 3; ++axis) {
    a.rope[axis] = inside && !prompt.rope_positions.empty() ? prompt.rope_positions[3 * p + axis]
                                                            : position + prompt.rope_delta;
  }
  if (inside && !prompt.modality.empty()) a.modality = prompt.modality[p];
  if (inside && !prompt.span_ends.empty()) a.span_end = prompt.span_ends[p];
  if (!prompt.cross.empty()) {
    std::vector<uint64_t> encoded;
    for (const PromptImage& i : prompt.cross_images) {
      for (int32_t r = 0; r < i.rows; ++r) encoded.push_back(fake_encoded(i.embedding, r));
    }
    const CrossRows seen = inside ? prompt.cross[p] : prompt.cross.back();
    for (int32_t e = seen.begin; e < seen.end; ++e) {
      a.encoded = fake_sum(a.encoded, encoded[static_cast<size_t>(e)]);
    }
  }
  row.aspect = fake_aspect(a);
  return row;
}

}  // namespace

Job random_job(SimRandom& random, int32_t longest_prompt, SimSight sight) {
  Job job;
  const int32_t length = random.in(1, random.chance(20) ? longest_prompt : std::min(longest_prompt, 40));
  const int32_t shared = random.chance(70) ? random.in(0, length) : 0;
  const int32_t family = random.in(0, 2);
  for (int32_t i = 0; i < length; ++i) {
    job.prompt.tokens.push_back(i < shared ? shared_token(family, i) : random.in(0, kSimVocab - 1));
  }
  if (sight != SimSight::none && random.chance(60)) add_sight(random, job.prompt, sight);
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
  const auto prompt_len = request.prompt.length();
  const int32_t room = context_limit - prompt_len;
  const int32_t most = p.max_tokens < 0 ? room : std::min(room, p.max_tokens);
  request.choices.resize(static_cast<size_t>(most == 0 ? 1 : p.choices));
  for (size_t i = 0; i < request.choices.size(); ++i) {
    SimulatedChoice& choice = request.choices[i];
    choice.natural_end = FinishReason::length;
    uint64_t chain = 0;
    const uint64_t prompt_regime = facts.rope_regime(prompt_len);
    const auto read = [&](int32_t position, int32_t token, uint64_t regime) {
      const SimRow row = row_of(request.prompt, position, token);
      chain = fake_chain(chain, row.token, regime, row.aspect);
    };
    for (int32_t at = 0; at < prompt_len; ++at) {
      read(at, request.prompt.tokens[static_cast<size_t>(at)], prompt_regime);
    }
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
      read(prompt_len + index, token, facts.rope_regime(prompt_len + index + 1));
      if (index >= p.min_tokens && p.is_stop(token)) {
        choice.natural_end = FinishReason::stop;
        break;
      }
    }
  }
}

}  // namespace troupe::engine
