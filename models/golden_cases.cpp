#include "models/golden_cases.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace troupe::models::testing {
namespace {

using nlohmann::json;

// The reference's expert choices, in the order of this model's layers.
std::vector<std::vector<int32_t>> forced_experts(const json& experts, size_t begin, size_t count) {
  std::vector<std::vector<int32_t>> out;
  for (const json& layer : experts) {
    const auto index = layer["layer"].get<size_t>();
    if (out.size() <= index) out.resize(index + 1);
    for (size_t row = begin; row < begin + count; ++row) {
      for (const json& id : layer["ids"][row]) out[index].push_back(id);
    }
  }
  return out;
}

}  // namespace

Case::Case(const json& c) : prompt(c["prompt"]), tokens(c["tokens"]), logprobs(c["logprobs"]), all(c) {}

Piece Case::piece(int32_t sequence, size_t begin, size_t count) const {
  Piece p{.sequence = sequence, .prompt_len = prompt_len(), .tokens = {}, .targets = {}, .modality = {}};
  for (size_t i = begin; i < begin + count; ++i) {
    p.tokens.push_back(i < prompt.size() ? prompt[i] : tokens[i - prompt.size()]);
    p.targets.push_back(i + 1 < prompt.size() ? -1 : tokens[i + 1 - prompt.size()]);
  }
  return p;
}

std::vector<Case> cases_of(const json& expected) {
  std::vector<Case> out;
  for (const json& c : expected["cases"]) out.emplace_back(c);
  return out;
}

Loaded load(const std::string& folder, std::unique_ptr<Backend> backend, const LoadOptions& options,
            Communicator* communicator) {
  Loaded out{std::move(backend), nullptr};
  auto opened = ModelFolder::open(folder, options);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  if (!opened.ok()) return out;
  auto runner = Runner::open(*opened, *out.backend, communicator, options);
  EXPECT_TRUE(runner.ok()) << runner.status().message();
  if (runner.ok()) out.runner = std::move(runner).value();
  return out;
}

void expect_answers(const Case& c, const std::vector<Scored>& got, size_t from) {
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t at = from + i;
    ASSERT_LT(at, c.tokens.size());
    EXPECT_EQ(got[i].best, c.tokens[at]) << c.all["name"] << " token " << at;
    EXPECT_NEAR(got[i].logprob, c.logprobs[at], kGoldenTolerance) << c.all["name"] << " token " << at;
  }
}

void run_together(Runner& runner, const std::vector<Case>& cases, const Check& check) {
  run_lanes(
      runner, cases, {.count = 17, .rounds_most = 200}, [](size_t lane, size_t) { return 7 + lane; },
      [&](const Case& c, const Scored& s, size_t at) { check(c, {s}, at); });
}

void expect_forced(Runner& runner, const Case& c, const std::string& type) {
  const json& forced = c.all["forced"][type];
  const std::vector<float> logprobs = forced["logprobs"];
  size_t scored = 0;
  runner.forget(0);
  for (size_t at = 0; at < c.fed();) {
    const size_t count = at < c.prompt.size() ? c.prompt.size() : 1;
    if (forced.contains("experts")) {
      runner.model().force_routing(forced_experts(forced["experts"], at, count));
    }
    const auto got = runner.step({c.piece(0, at, count)});
    ASSERT_TRUE(got.ok()) << got.status().message();
    for (const Scored& s : *got) {
      EXPECT_NEAR(s.logprob, logprobs[scored++], kGoldenForcedTolerance) << type << c.all["name"];
    }
    at += count;
  }
  EXPECT_EQ(scored, logprobs.size());
}

}  // namespace troupe::models::testing
