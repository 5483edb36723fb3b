// Deterministic mode on a CUDA device: what a sequence's tokens are worth is the same to the last
// bit whether it runs alone, in one chunk, or among 63 others that come and go, in many chunks.
// The shape is large enough for the fast kernels: wgmma products, split attention, tiled prefill.
#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "models/test_runner.hpp"
#include "tests/gpu/dummy_folder.hpp"

namespace troupe::models::testing {
namespace {

constexpr int32_t kVocab = DummyFolder::kVocab;
struct Script {
  std::vector<int32_t> tokens;  // the prompt, then what is fed token by token
  int32_t prompt = 0;
};

Script script_of(unsigned seed) {
  std::mt19937 rng(seed);
  Script s;
  s.prompt = 30 + static_cast<int32_t>(rng() % 150);
  const size_t length = static_cast<size_t>(s.prompt) + 40;
  while (s.tokens.size() < length) s.tokens.push_back(static_cast<int32_t>(rng() % kVocab));
  return s;
}

Piece piece_of(const Script& s, int32_t lane, size_t begin, size_t count) {
  Piece p{.sequence = lane, .prompt_len = s.prompt, .tokens = {}, .targets = {}, .modality = {}};
  for (size_t i = begin; i < begin + count; ++i) {
    p.tokens.push_back(s.tokens[i]);
    p.targets.push_back(i + 1 < s.tokens.size() ? s.tokens[i + 1] : 0);
  }
  return p;
}

class DeterministicCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    TR_NEEDS_DEVICE();
    auto backend = cuda::CudaBackend::open(0);
    ASSERT_TRUE(backend.ok()) << backend.status().message();
    backend_ = std::move(*backend);
    backend_->keep_rows_independent();
    LoadOptions options;
    options.format = LoadFormat::dummy;
    options.block_tokens = 64;
    auto opened = ModelFolder::open(folder_.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    auto runner = Runner::open(*opened, *backend_, nullptr, options);
    ASSERT_TRUE(runner.ok()) << runner.status().message();
    runner_ = std::move(*runner);
  }

  // Every score of lane 0, whose prompt comes in chunks of `chunk`, beside `others` more lanes.
  std::vector<Scored> scores(const Script& script, size_t chunk, int32_t others) {
    for (int32_t lane = 0; lane <= others; ++lane) runner_->forget(lane);
    std::vector<Script> scripts = {script};
    for (int32_t lane = 1; lane <= others; ++lane)
      scripts.push_back(script_of(1000 + static_cast<unsigned>(lane)));
    std::vector<size_t> fed(scripts.size(), 0);
    std::vector<Scored> out;
    while (fed[0] < script.tokens.size()) {
      std::vector<Piece> pieces;
      for (size_t lane = scripts.size(); lane-- > 0;) {
        const Script& s = scripts[lane];
        if (fed[lane] >= s.tokens.size()) continue;
        const auto prompt = static_cast<size_t>(s.prompt);
        const size_t most = lane == 0 ? chunk : 1 + lane % 7;
        const size_t count = fed[lane] < prompt ? std::min(most, prompt - fed[lane]) : 1;
        pieces.push_back(piece_of(s, static_cast<int32_t>(lane), fed[lane], count));
        fed[lane] += count;
      }
      const auto got = runner_->step(pieces);
      EXPECT_TRUE(got.ok()) << got.status().message();
      if (!got.ok()) return out;
      for (const Scored& s : *got) {
        if (s.sequence == 0) out.push_back(s);
      }
    }
    return out;
  }

  DummyFolder folder_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Runner> runner_;
};

TEST_F(DeterministicCuda, AloneEqualsAmong64) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    const Script script = script_of(seed);
    const std::vector<Scored> alone = scores(script, 512, 0);
    ASSERT_EQ(alone.size(), script.tokens.size());
    EXPECT_LT(alone.back().logprob, 0.0F);
    for (const size_t chunk : {512, 64, 29, 1}) {
      const std::vector<Scored> among = scores(script, chunk, Runner::kSequences - 1);
      ASSERT_EQ(among.size(), alone.size());
      for (size_t i = 0; i < alone.size(); ++i) {
        ASSERT_EQ(among[i].best, alone[i].best)
            << "seed " << seed << " chunk " << chunk << " " << i;
        ASSERT_EQ(among[i].logprob, alone[i].logprob)
            << "seed " << seed << " chunk " << chunk << " token " << i;
      }
    }
  }
}

}  // namespace
}  // namespace troupe::models::testing
