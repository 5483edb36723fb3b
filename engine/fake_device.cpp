#include "engine/fake_device.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "engine/slot_tables.hpp"

namespace troupe::engine {
namespace {

uint64_t scramble(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ x >> 31;
}

Status wrong(const std::string& what) { return internal_error("INV-FAKE-1: " + what); }

}  // namespace

void ThreadWaiter::wait_until(int64_t ns) {
  if (ns <= now_ns()) return;
  std::this_thread::sleep_until(std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::nanoseconds(ns))));
}

uint64_t fake_chain(uint64_t before, int32_t token, uint64_t regime, uint64_t aspect) {
  return scramble(before * 0x9E3779B97F4A7C15ULL + static_cast<uint32_t>(token) + 1 + (regime << 32) + aspect);
}

int32_t fake_injected(uint64_t embedding, int32_t row) {
  return static_cast<int32_t>(scramble(embedding * 0xD6E8FEB86659FD93ULL + static_cast<uint64_t>(row)) & 0x7FFFFFFF);
}

uint64_t fake_encoded(uint64_t embedding, int32_t row) {
  return scramble(embedding * 0xD6E8FEB86659FD93ULL + static_cast<uint64_t>(row) + 1);
}
uint64_t fake_sum(uint64_t before, uint64_t encoded) { return scramble(before + encoded); }

uint64_t fake_aspect(const FakeAspects& row) {
  const bool plain_rope = row.rope == std::array{row.position, row.position, row.position};
  const bool spans = row.span_end > row.position + 1;
  if (plain_rope && row.modality == 0 && !spans && row.encoded == 0) return 0;
  uint64_t h = row.encoded + row.modality;
  for (const int32_t axis : row.rope) h = scramble(h + static_cast<uint64_t>(plain_rope ? 0 : axis + 1));
  return scramble(h + static_cast<uint64_t>(spans ? row.span_end : 0)) | 1;
}

int32_t fake_token(uint64_t chain, const PlanSampling& s, int32_t vocab) {
  uint64_t h = chain;
  if (s.temperature > 0.0F) {
    h = scramble(h ^ s.seed ^ static_cast<uint64_t>(s.choice) << 32 ^ static_cast<uint32_t>(s.position));
  }
  return static_cast<int32_t>(scramble(h) % static_cast<uint64_t>(vocab));
}

struct FakeDevice::State {
  struct Flight {
    StepResult result;
    int64_t ready_ns = 0;
    bool sampled = false;
  };
  struct Slot {
    int32_t last = -1;
    std::vector<int32_t> history;  // what the sampler's counts would be made of
  };

  class Context;

  State(FakeDeviceOptions o, Waiter& w)
      : options(std::move(o)), waiter(w),
        tables(options.slots, static_cast<int32_t>(options.groups.size()), options.block_tokens) {
    for (const models::CacheGroup& g : options.groups) {
      cells.emplace_back(static_cast<size_t>(g.cache.blocks) * block_tokens());
    }
    slots.resize(static_cast<size_t>(options.slots));
    guide_ = find_guide();
  }

  [[nodiscard]] size_t block_tokens() const { return static_cast<size_t>(options.block_tokens); }
  [[nodiscard]] bool fixed(size_t g) const {
    return options.groups[g].kind == models::CacheKind::fixed;
  }
  // The first group that sees furthest back.
  [[nodiscard]] int32_t guide() const { return guide_; }
  [[nodiscard]] int32_t find_guide() const {
    int32_t best = -1;
    for (size_t g = 0; g < options.groups.size(); ++g) {
      if (fixed(g)) continue;
      if (options.groups[g].kind != models::CacheKind::window) return static_cast<int32_t>(g);
      if (best < 0) best = static_cast<int32_t>(g);
    }
    return best;
  }

  [[nodiscard]] uint64_t regime(const PlanSequence& s, int32_t position) const {
    return options.facts.rope_regime(std::max(s.prompt_len, position + 1));
  }

  [[nodiscard]] std::span<const int32_t> blocks_of(const PlanView& plan, int32_t sequence,
                                                   int32_t group) const {
    return tables.table(plan.sequences()[static_cast<size_t>(sequence)].slot, group).blocks();
  }
  FakeCell* cell(const PlanView& plan, int32_t sequence, int32_t group, int32_t position) {
    const SlotTable& t = tables.table(plan.sequences()[static_cast<size_t>(sequence)].slot, group);
    // Of 32 bits, and one division: it is here that an unchecked step spends its time.
    const auto place = static_cast<uint32_t>(position - t.first_position);
    const uint32_t index = place / static_cast<uint32_t>(options.block_tokens);
    const std::span<const int32_t> blocks = t.blocks();
    if (position < t.first_position || index >= blocks.size()) return nullptr;
    const int32_t block = blocks[index];
    const size_t at = static_cast<size_t>(block) * block_tokens() +
                      (place - index * static_cast<uint32_t>(options.block_tokens));
    auto& memory = cells[static_cast<size_t>(group)];
    return block < 0 || at >= memory.size() ? nullptr : &memory[at];
  }

  // What write() will look at when it comes to this sequence, some of it now and the rest when that
  // is there: a cold cache is waited for by many at once.
  void fetch_ahead(const PlanView& plan, int32_t sequence) const;
  Status copy_blocks(const PlanView& plan);
  Status encode(const PlanView& plan);
  Result<uint64_t> aspect(const PlanView& plan, int32_t sequence, int32_t row);
  [[nodiscard]] const std::vector<uint64_t>* encoder_rows(const PlanView& plan, int32_t sequence) const;
  Status write(const PlanView& plan, int32_t sequence);
  Status check(const PlanView& plan, int32_t sequence);
  [[nodiscard]] int32_t input(const PlanView& plan, const PlanSequence& s, int32_t row) const;
  void draw(const PlanView& plan, const PlanLogitRow& row, StepResult& result);
  Status check_history(const PlanSequence& sequence, const PlanSampling& s, const FakeCell& last);

  FakeDeviceOptions options;
  int32_t guide_ = -1;
  Waiter& waiter;
  SlotTables tables;
  std::vector<std::vector<FakeCell>> cells;  // by group
  std::map<int32_t, std::vector<uint64_t>> encoder_cells;  // by the first block of a fixed group
  std::vector<Slot> slots;
  std::deque<Flight> flights;
  Status broken;  // sticky, comes back from collect()
  int64_t collected = 0;
  int64_t last_ready_ns = 0;
  int64_t delay_ns = 0;
  bool fail = false;
};

FakeDevice::FakeDevice(FakeDeviceOptions options, Waiter& waiter)
    : state_(std::make_unique<State>(std::move(options), waiter)) {}
FakeDevice::~FakeDevice() = default;

void FakeDevice::State::fetch_ahead(const PlanView& plan, int32_t sequence) const {
  constexpr int32_t kFar = 15, kMiddle = 10, kNear = 5;
  const auto sequences = plan.sequences();
  const auto slot_table = [&](int32_t ahead) -> const SlotTable* {
    const auto i = static_cast<size_t>(sequence + ahead);
    return i < sequences.size() && guide_ >= 0 ? &tables.table(sequences[i].slot, guide_) : nullptr;
  };
  if (const SlotTable* t = slot_table(kFar)) {
    __builtin_prefetch(t);
    __builtin_prefetch(&slots[static_cast<size_t>(sequences[static_cast<size_t>(sequence + kFar)].slot)], 1);
  }
  const auto place = [&](const SlotTable& t, int32_t ahead) -> const int32_t* {
    const PlanSequence& s = sequences[static_cast<size_t>(sequence + ahead)];
    const auto index = static_cast<size_t>(std::max(0, s.kv_len - 1 - t.first_position) / options.block_tokens);
    return index < t.blocks().size() ? &t.blocks()[index] : nullptr;
  };
  if (const SlotTable* t = slot_table(kMiddle)) __builtin_prefetch(place(*t, kMiddle));
  const SlotTable* const t = slot_table(kNear);
  const int32_t* const block = t == nullptr ? nullptr : place(*t, kNear);
  if (block == nullptr || *block < 0) return;
  const auto position = static_cast<size_t>(sequences[static_cast<size_t>(sequence + kNear)].kv_len - 1);
  const auto& memory = cells[static_cast<size_t>(guide_)];
  const size_t at = static_cast<size_t>(*block) * block_tokens() + position % block_tokens();
  if (at < memory.size()) __builtin_prefetch(&memory[at], 1);
}

Status FakeDevice::State::copy_blocks(const PlanView& plan) {
  for (const PlanCopy& c : plan.copies()) {
    for (const PlanCopy& other : plan.copies()) {
      if (other.group == c.group && other.to == c.from) {
        return wrong("INV-CACHE-6: block " + std::to_string(c.from) + " is source and target of copies");
      }
    }
    auto& memory = cells[static_cast<size_t>(c.group)];
    std::copy_n(memory.begin() + c.from * options.block_tokens, options.block_tokens,
                memory.begin() + c.to * options.block_tokens);
  }
  return ok_status();
}

// The cells of a fixed group: which rows of which embeddings were written there.
Status FakeDevice::State::encode(const PlanView& plan) {
  for (const PlanEncode& e : plan.encodes()) {
    for (int32_t g = 0; g < static_cast<int32_t>(cells.size()); ++g) {
      if (!fixed(static_cast<size_t>(g))) continue;
      const auto table = blocks_of(plan, e.sequence, g);
      if (static_cast<int32_t>(table.size()) * options.block_tokens < e.row + e.count) {
        return wrong("encoder rows without blocks");
      }
      std::vector<uint64_t>& rows = encoder_cells[table[0]];
      rows.resize(static_cast<size_t>(e.row));
      for (int32_t r = 0; r < e.count; ++r) rows.push_back(fake_encoded(e.id, r));
    }
  }
  return ok_status();
}

const std::vector<uint64_t>* FakeDevice::State::encoder_rows(const PlanView& plan,
                                                             int32_t sequence) const {
  for (int32_t g = 0; g < static_cast<int32_t>(cells.size()); ++g) {
    if (!fixed(static_cast<size_t>(g))) continue;
    const auto table = blocks_of(plan, sequence, g);
    const auto at = table.empty() ? encoder_cells.end() : encoder_cells.find(table[0]);
    return at == encoder_cells.end() ? nullptr : &at->second;
  }
  return nullptr;
}

Result<uint64_t> FakeDevice::State::aspect(const PlanView& plan, int32_t sequence, int32_t row) {
  const bool text = plan.rope_positions().empty() && plan.modality().empty() &&
                    plan.span_ends().empty() && plan.cross_spans().empty();
  if (text) return uint64_t{0};
  const auto r = static_cast<size_t>(row);
  const PlanSequence& s = plan.sequences()[static_cast<size_t>(sequence)];
  FakeAspects a;
  a.position = plan.positions()[r];
  a.rope = {a.position, a.position, a.position};
  for (size_t axis = 0; axis < 3 && !plan.rope_positions().empty(); ++axis) {
    a.rope[axis] = plan.rope_positions()[3 * r + axis];
  }
  if (!plan.modality().empty()) a.modality = plan.modality()[r];
  if (!plan.span_ends().empty()) a.span_end = plan.span_ends()[r];
  if (a.span_end > s.kv_len) return wrong("a span of attention was cut at " + std::to_string(s.kv_len));
  if (plan.cross_spans().empty()) return fake_aspect(a);
  const std::vector<uint64_t>* encoded = encoder_rows(plan, sequence);
  for (int32_t e = plan.cross_spans()[2 * r]; e < plan.cross_spans()[2 * r + 1]; ++e) {
    if (encoded == nullptr || e >= static_cast<int32_t>(encoded->size())) return wrong("encoder rows are missing");
    a.encoded = fake_sum(a.encoded, (*encoded)[static_cast<size_t>(e)]);
  }
  return fake_aspect(a);
}

int32_t FakeDevice::State::input(const PlanView& plan, const PlanSequence& s, int32_t row) const {
  const int32_t token = plan.token_ids()[static_cast<size_t>(row)];
  if (token == kTokenFromSlot) return slots[static_cast<size_t>(s.slot)].last;
  if (token != kTokenInjected) return token;
  for (const PlanInject& i : plan.injects()) {
    if (row < i.row || row >= i.row + i.count) continue;
    return fake_injected(i.id, i.source_row + row - i.row);
  }
  return -1;
}

Status FakeDevice::State::write(const PlanView& plan, int32_t sequence) {
  const PlanSequence& s = plan.sequences()[static_cast<size_t>(sequence)];
  const int32_t lead = guide();
  FakeCell before;
  const int32_t start = s.kv_len - s.row_count;
  if (start > 0) {
    const FakeCell* last = cell(plan, sequence, lead, start - 1);
    if (last == nullptr) return wrong("the tables do not reach back to position " + std::to_string(start - 1));
    before = *last;
  }
  for (int32_t i = 0; i < s.row_count; ++i) {
    const int32_t row = s.row_begin + i;
    const int32_t position = plan.positions()[static_cast<size_t>(row)];
    const int32_t token = input(plan, s, row);
    if (position != start + i) return wrong("position " + std::to_string(position));
    if (token < 0) return wrong("row " + std::to_string(row) + " has no token");
    TR_ASSIGN(before.aspect, aspect(plan, sequence, row));
    before.chain = fake_chain(before.chain, token, regime(s, position), before.aspect);
    before.token = token;
    before.pictures |= plan.token_ids()[static_cast<size_t>(row)] == kTokenInjected || before.aspect != 0;
    before.position = position;
    if (token == options.segment_token) before.segment_begin = position + 1;
    for (int32_t g = 0; g < static_cast<int32_t>(cells.size()); ++g) {
      if (fixed(static_cast<size_t>(g))) continue;
      FakeCell* c = cell(plan, sequence, g, position);
      if (c == nullptr) return wrong("INV-PLAN-3: no block for position " + std::to_string(position));
      *c = before;
    }
  }
  return ok_status();
}

// Everything that the last row sees must be there, in order, and the same in all groups.
Status FakeDevice::State::check(const PlanView& plan, int32_t sequence) {
  const PlanSequence& s = plan.sequences()[static_cast<size_t>(sequence)];
  const int32_t start = s.kv_len - s.row_count;
  for (int32_t g = 0; g < static_cast<int32_t>(cells.size()); ++g) {
    const models::CacheGroup& group = options.groups[static_cast<size_t>(g)];
    if (fixed(static_cast<size_t>(g))) continue;
    const bool window = group.kind == models::CacheKind::window;
    const int32_t from = window ? std::max(0, start - group.window + 1) : 0;
    const FakeCell* before = nullptr;
    for (int32_t p = from; p < s.kv_len; ++p) {
      const FakeCell* c = cell(plan, sequence, g, p);
      if (c == nullptr || c->position != p ||
          (before != nullptr && c->chain != fake_chain(before->chain, c->token, regime(s, p), c->aspect)) ||
          (p == 0 && c->chain != fake_chain(0, c->token, regime(s, 0), c->aspect))) {
        return wrong("group " + std::to_string(g) + " position " + std::to_string(p) + " of " +
                     std::to_string(s.kv_len) + (c == nullptr ? ": no block" : ": another's content"));
      }
      before = c;
    }
    const FakeCell* last = cell(plan, sequence, guide(), s.kv_len - 1);
    if (before == nullptr || before->chain != last->chain) return wrong("groups disagree");
  }
  return ok_status();
}

Status FakeDevice::forward(std::span<const std::byte> bytes) {
  State& st = *state_;
  if (!st.flights.empty() && !st.flights.back().sampled) {
    return wrong("a step is sent off before the one before it was sampled");
  }
  State::Flight& flight = st.flights.emplace_back();
  TR_TRY(st.tables.take(bytes));
  const PlanView& plan = st.tables.rows();
  const auto sequences = static_cast<int32_t>(plan.sequences().size());
  if (st.broken.ok()) st.broken = st.copy_blocks(plan);
  if (st.broken.ok()) st.broken = st.encode(plan);
  for (int32_t i = 0; i < sequences && st.broken.ok(); ++i) {
    st.fetch_ahead(plan, i);
    st.broken = st.write(plan, i);
  }
  for (int32_t i = 0; i < sequences && st.broken.ok() && st.options.checked; ++i) {
    st.broken = st.check(plan, i);
  }
  const int64_t takes = st.options.step_ns + st.options.row_ns * plan.rows() + std::exchange(st.delay_ns, 0);
  flight.ready_ns = std::max(st.waiter.now_ns(), st.last_ready_ns) + takes;
  st.last_ready_ns = flight.ready_ns;
  return ok_status();
}

Status FakeDevice::State::check_history(const PlanSequence& sequence, const PlanSampling& s,
                                        const FakeCell& last) {
  if (s.repetition_penalty == 1.0F || last.pictures) return ok_status();
  const Slot& slot = slots[static_cast<size_t>(s.slot)];
  uint64_t chain = 0;
  int32_t position = 0;
  for (const int32_t t : slot.history) chain = fake_chain(chain, t, regime(sequence, position++));
  if (chain == last.chain) return ok_status();
  return wrong("slot " + std::to_string(s.slot) + " counts " + std::to_string(slot.history.size()) +
               " tokens that are not the sequence's " + std::to_string(s.position));
}

class FakeDevice::State::Context final : public FakeContext {
 public:
  Context(State& state, const PlanView& plan, const PlanLogitRow& row, const PlanSampling& s)
      : state_(state), plan_(plan), sequence_(row.sequence), sampling_(s) {}
  [[nodiscard]] const FakeCell* cell(int32_t position) const override {
    return state_.cell(plan_, sequence_, state_.guide(), position);
  }
  [[nodiscard]] const PlanSampling& sampling() const override { return sampling_; }
  [[nodiscard]] int32_t prompt_len() const override {
    return plan_.sequences()[static_cast<size_t>(sequence_)].prompt_len;
  }
  [[nodiscard]] bool banned(int32_t token) const override {
    const auto biases = plan_.biases().subspan(static_cast<size_t>(sampling_.bias_begin),
                                               static_cast<size_t>(sampling_.bias_count));
    return std::any_of(biases.begin(), biases.end(), [&](const PlanBias& b) {
      return b.token == token && b.bias < std::numeric_limits<float>::lowest();
    });
  }

 private:
  State& state_;
  const PlanView& plan_;
  int32_t sequence_;
  const PlanSampling& sampling_;
};

void FakeDevice::State::draw(const PlanView& plan, const PlanLogitRow& row, StepResult& result) {
  const int32_t position = plan.positions()[static_cast<size_t>(row.row)];
  const FakeCell* last = cell(plan, row.sequence, guide(), position);
  StepToken out;
  out.sequence = row.sequence;
  int32_t token = row.target;
  if (row.sampling >= 0) {
    const PlanSampling& s = plan.sampling()[static_cast<size_t>(row.sampling)];
    const PlanSequence& sequence = plan.sequences()[static_cast<size_t>(row.sequence)];
    Slot& slot = slots[static_cast<size_t>(s.slot)];
    if (s.reset != 0) slot.history.clear();
    const auto history = plan.token_lists().subspan(static_cast<size_t>(s.history_begin),
                                                    static_cast<size_t>(s.history_count));
    slot.history.insert(slot.history.end(), history.begin(), history.end());
    if (options.checked && broken.ok()) broken = check_history(sequence, s, *last);
    const Context context(*this, plan, row, s);
    token = options.draw != nullptr ? options.draw(context)
                                    : fake_token(last->chain, s, options.vocab);
    for (int32_t tries = 0; tries < options.vocab && context.banned(token); ++tries) {
      token = (token + 1) % options.vocab;
    }
    if (context.banned(token)) token = -1;
    slot.last = std::max(token, 0);  // what is computed behind a draw of nothing is thrown away
    if (token >= 0 && s.repetition_penalty != 1.0F) slot.history.push_back(token);
    out.token = token;
  }
  const uint64_t h = scramble(last->chain + static_cast<uint32_t>(token));
  out.logprob = -static_cast<float>(h % 1000) / 1000.0F;
  out.rank = 1;
  out.top_begin = static_cast<int32_t>(result.tops.size());
  for (int32_t i = 0; i < row.top_n; ++i) {
    result.tops.push_back({(token + i) % options.vocab, out.logprob - static_cast<float>(i)});
    ++out.top_count;
  }
  result.tokens.push_back(out);
}

Status FakeDevice::sample(std::span<const uint32_t> /*grammar_mask*/) {
  State& st = *state_;
  if (st.flights.empty() || st.flights.back().sampled) return wrong("there is no step to sample");
  State::Flight& flight = st.flights.back();
  const PlanView& plan = st.tables.rows();
  flight.sampled = true;
  flight.result.step = plan.step();
  flight.result.tokens.reserve(plan.logit_rows().size());
  for (const PlanLogitRow& row : plan.logit_rows()) {
    if (!st.broken.ok()) break;
    st.draw(plan, row, flight.result);
  }
  return ok_status();
}

Result<StepResult> FakeDevice::collect() {
  State& st = *state_;
  if (st.flights.empty()) return internal_error("fake device: nothing to collect");
  State::Flight flight = std::move(st.flights.front());
  st.flights.pop_front();
  st.waiter.wait_until(flight.ready_ns);
  if (!st.broken.ok()) return st.broken;
  if (std::exchange(st.fail, false) || st.collected++ == st.options.fail_step) {
    st.broken = Status(Code::device_failed, "fake device: lost at step " +
                                                std::to_string(flight.result.step) + ", as asked", true);
    return st.broken;
  }
  return std::move(flight.result);
}

Status FakeDevice::put_embedding(uint64_t /*id*/, const Matrix& /*rows*/) { return ok_status(); }
void FakeDevice::drop_embedding(uint64_t /*id*/) {}
void FakeDevice::fail_next() { state_->fail = true; }
void FakeDevice::delay_next(int64_t ns) { state_->delay_ns = ns; }
int64_t FakeDevice::ready_at_ns() const {
  return state_->flights.empty() ? 0 : state_->flights.front().ready_ns;
}

}  // namespace troupe::engine
