// FakeDevice: an executor without arithmetic, for simulations and `echo:`. It keeps what a real
// device would keep, cell by cell: each cell of each KV block holds the token written there and a
// hash of everything before it, as seen through the block tables. A token is drawn from what the
// tables show, so a wrong table, a block given away too early or a missed copy gives a wrong token
// here as it would on a GPU; `checked` also looks at every cell in reach and reports the first
// wrong one.
//
// What a picture's rows, rope positions, modality, spans and encoder rows change on a real device they
// change here as well: each goes into the hash.
//
//   INV-FAKE-1  a row's token, position and prefix hash agree with the cells that its tables show
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.hpp"
#include "engine/executor.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

// Time that can be waited for: the thread's own, or a simulation's.
class Waiter : public Clock {
 public:
  virtual void wait_until(int64_t ns) = 0;
};
class ThreadWaiter final : public Waiter {
 public:
  [[nodiscard]] int64_t now_ns() const override { return steady_now_ns(); }
  void wait_until(int64_t ns) override;
};

// What one cell remembers.
struct FakeCell {
  uint64_t chain = 0;     // hash of all tokens up to this one
  int32_t token = -1;
  int32_t position = -1;
  int32_t segment_begin = 0;  // position behind the last `segment_token`
  uint64_t aspect = 0;        // what else its keys depend on (fake_aspect)
  bool pictures = false;      // some of the rows so far are a picture's
};

// What a draw may look at: the sequence's cells through its block tables.
class FakeContext {
 public:
  virtual ~FakeContext() = default;
  // Null: out of the tables' reach.
  [[nodiscard]] virtual const FakeCell* cell(int32_t position) const = 0;
  [[nodiscard]] virtual const PlanSampling& sampling() const = 0;
  [[nodiscard]] virtual int32_t prompt_len() const = 0;
  [[nodiscard]] virtual bool banned(int32_t token) const = 0;  // by a bias of minus infinity
};

struct FakeDeviceOptions {
  int32_t vocab = 257;
  int32_t slots = 256;
  int32_t block_tokens = 16;
  std::vector<models::CacheGroup> groups;  // with cache.blocks
  models::ModelFacts facts;  // rope regimes
  int64_t step_ns = 0;       // how long a step takes …
  int64_t row_ns = 0;        // … and how much longer for each of its rows
  int64_t fail_step = -1;    // the step (counted from 0) whose collect() fails
  bool checked = false;
  int32_t segment_token = -1;
  int32_t (*draw)(const FakeContext&) = nullptr;  // null: a hash of the chain
};

class FakeDevice final : public StepExecutor {
 public:
  FakeDevice(FakeDeviceOptions options, Waiter& waiter);
  ~FakeDevice() override;

  Status forward(std::span<const std::byte> plan) override;
  Status sample(std::span<const uint32_t> grammar_mask) override;
  Result<StepResult> collect() override;
  Status put_embedding(uint64_t id, const Matrix& rows) override;
  void drop_embedding(uint64_t id) override;

  // Simulations: the next collect() fails as a lost device does, or a step takes longer.
  void fail_next();
  void delay_next(int64_t ns);
  [[nodiscard]] int64_t ready_at_ns() const;  // of the oldest step in flight

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What FakeDevice draws without `draw`: of this chain, for this seed, choice and position.
int32_t fake_token(uint64_t chain, const PlanSampling& sampling, int32_t vocab);
// `regime`: ModelFacts::rope_regime of the row, which changes the keys that a token leaves.
uint64_t fake_chain(uint64_t before, int32_t token, uint64_t regime = 0, uint64_t aspect = 0);
// What a row of a picture is in place of a token.
int32_t fake_injected(uint64_t embedding, int32_t row);
// Of a row whose rope position, modality, span or encoder rows are not those of plain text; else 0.
// `encoded`: the fake_sum() of the fake_encoded() of the encoder rows seen.
struct FakeAspects {
  int32_t position = 0;
  std::array<int32_t, 3> rope{};
  uint8_t modality = 0;
  int32_t span_end = 0;  // 0: none
  uint64_t encoded = 0;
};
uint64_t fake_aspect(const FakeAspects& row);
uint64_t fake_encoded(uint64_t embedding, int32_t row);
uint64_t fake_sum(uint64_t before, uint64_t encoded);

}  // namespace troupe::engine
