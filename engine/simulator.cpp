#include "engine/simulator.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "engine/fake_device.hpp"
#include "engine/scheduler.hpp"
#include "engine/simulated_request.hpp"
#include "engine/step_loop.hpp"

namespace troupe::engine {
namespace {

constexpr int64_t kStepNs = 1'000'000;
// Turns from admission to end, for everybody: the worlds are small, so nobody may need more.
constexpr int64_t kPatienceTurns = 6000;

class VirtualTime final : public Waiter {
 public:
  [[nodiscard]] int64_t now_ns() const override { return now_; }
  void wait_until(int64_t ns) override { now_ = std::max(now_, ns); }
  void pass(int64_t ns) { now_ += ns; }

 private:
  int64_t now_ = 1;
};

models::CacheGroup group(models::CacheKind kind, int32_t blocks, int32_t window, int32_t fixed_rows) {
  models::CacheGroup g;
  g.kind = kind;
  g.window = window;
  g.fixed_rows = fixed_rows;
  g.cache.layers = 1;
  g.cache.blocks = blocks;
  return g;
}

SimSight random_sight(SimRandom& random) {
  return random.chance(50) ? SimSight::none : static_cast<SimSight>(random.in(1, 5));
}

SchedulerConfig random_config(SimRandom& random, SimSight sight) {
  using models::CacheKind;
  SchedulerConfig c;
  c.slots = random.in(1, 8);
  c.waiting_max = random.in(6, 40);
  c.step_rows = c.slots + random.in(1, 60);
  if (sight == SimSight::spans) c.step_rows += kSimSpan;
  c.logit_rows = c.slots + random.in(1, 16);
  if (sight == SimSight::spans) c.logit_rows += kSimSpan;
  c.context_length = random.in(40, 300);
  c.vocab = kSimVocab;
  c.block_tokens = random.chance(50) ? 4 : 16;
  c.overlap = random.chance(60);
  if (random.chance(30)) c.long_step_rows = random.in(4, 40);
  c.prefix_reuse = random.chance(80);
  if (random.chance(50)) c.attach_blocks = random.in(1, 4);
  c.ageing_ns = int64_t{random.in(1, 50)} * kStepNs;
  c.session_share = 0.25;
  if (random.chance(10)) {
    c.chunked_prefill = false;
    c.step_rows = c.context_length + c.slots;
  }
  if (random.chance(20)) c.facts.regime_length = random.in(8, 60);
  c.facts.regime_per_length = random.chance(50);
  const int32_t whole = random.in(6, 60) * (c.block_tokens == 4 ? 4 : 1);
  c.groups.push_back(group(random.chance(80) ? CacheKind::whole : CacheKind::latent, whole, 0, 0));
  if (c.chunked_prefill && random.chance(40)) {
    const int32_t window = random.in(1, 40);
    c.groups.push_back(group(CacheKind::window, whole + window / c.block_tokens + 2, window, 0));
    if (random.chance(30)) std::swap(c.groups[0], c.groups[1]);
  }
  if (sight == SimSight::cross) c.groups.push_back(group(CacheKind::fixed, c.slots * 3, 0, 3 * c.block_tokens));
  if (sight != SimSight::cross && random.chance(15)) c.groups.push_back(group(CacheKind::fixed, c.slots * 2, 0, c.block_tokens));
  return c;
}

class World {
 public:
  World(uint64_t seed, bool with_trace);
  SimulationReport run();

 private:
  void act();
  void submit();
  void session_act();
  void develop_pictures();
  void send_cuts();
  void lose_device(const Status& why);
  void take();
  void take_end(const RequestEnd& end);
  void session_takes(const SimulatedRequest& r);
  void check_patience();
  void fail(const std::string& what);
  void note(const char* event, uint64_t request, int32_t choice, const std::string& detail);

  SimRandom random_;
  SimSight sight_;
  bool with_trace_;
  VirtualTime time_;
  SchedulerConfig config_;
  Scheduler scheduler_;
  std::unique_ptr<FakeDevice> device_;
  StepLoop loop_;
  int32_t context_limit_;
  int64_t turn_ = 0;
  bool singing_ = false;  // the last step only repeated the one before
  int32_t arrivals_left_;
  int32_t arrival_percent_;
  uint64_t next_id_ = 1;
  int32_t crashes_left_;
  Outputs out_;
  std::map<uint64_t, SimulatedRequest> requests_;
  struct SimSession {
    Prompt content;
    uint64_t busy = 0;
    uint64_t from = 0;  // the request that it took its tokens from
  };
  std::map<uint64_t, SimSession> sessions_;
  SimulationReport report_;
};

FakeDeviceOptions device_options(const SchedulerConfig& c) {
  FakeDeviceOptions o;
  o.vocab = c.vocab;
  o.slots = c.slots;
  o.block_tokens = c.block_tokens;
  o.groups = c.groups;
  o.facts = c.facts;
  o.step_ns = kStepNs;
  o.checked = true;
  return o;
}

bool too_much_to_see(const SimulatedRequest& r, const SchedulerConfig& c) {
  const int32_t span = std::min(c.step_rows, c.logit_rows) - c.slots;
  return r.prompt.cross_rows > 3 * c.block_tokens || r.prompt.longest_span() > span ||
         (r.prompt.longest_span() > 1 && c.groups.size() > 1);
}

int32_t limit_of(const SchedulerConfig& c) {
  // The naive bound: the scarcest group that keeps everything.
  int32_t limit = c.context_length;
  for (const models::CacheGroup& g : c.groups) {
    if (g.kind == models::CacheKind::whole || g.kind == models::CacheKind::latent) {
      limit = std::min(limit, g.cache.blocks * c.block_tokens);
    }
  }
  return limit;
}

World::World(uint64_t seed, bool with_trace)
    : random_(seed), sight_(random_sight(random_)), with_trace_(with_trace), config_(random_config(random_, sight_)), scheduler_(config_),
      device_(std::make_unique<FakeDevice>(device_options(config_), time_)),
      loop_(scheduler_, *device_, time_), context_limit_(limit_of(config_)),
      arrivals_left_(random_.in(4, 30)), arrival_percent_(random_.in(5, 60)),
      crashes_left_(random_.chance(25) ? random_.in(1, 3) : 0) {
  config_.groups = scheduler_.config().groups;
}

void World::note(const char* event, uint64_t request, int32_t choice, const std::string& detail) {
  if (!with_trace_) return;
  char line[64];
  std::snprintf(line, sizeof line, "%6lld %9lldus %-9s r%-4llu c%-3d ", static_cast<long long>(turn_),
                static_cast<long long>(time_.now_ns() / 1000), event,
                static_cast<unsigned long long>(request), choice);
  report_.trace += line + detail + "\n";
}

void World::fail(const std::string& what) {
  if (!report_.ok) return;
  report_.ok = false;
  report_.failure = "turn " + std::to_string(turn_) + ": " + what;
  note("FAILURE", 0, 0, what);
}

void World::submit() {
  SimulatedRequest r;
  r.job = random_job(random_, context_limit_ + 3, sight_);
  r.job.id = next_id_++;
  r.job.submitted_ns = time_.now_ns();
  if (random_.chance(10)) r.job.deadline_ns = time_.now_ns() + random_.in(1, 60) * kStepNs;
  if (random_.chance(12)) r.cancel_at_turn = static_cast<int32_t>(turn_) + random_.in(0, 40);
  SimSession* session = nullptr;
  if (!sessions_.empty() && random_.chance(30)) {
    auto it = std::next(sessions_.begin(), random_.in(0, static_cast<int32_t>(sessions_.size()) - 1));
    r.job.session = it->first;
    session = &it->second;
    r.prompt = session->content;
  }
  r.prompt = join_prompts(r.prompt, r.job.prompt);
  r.admitted_at_turn = turn_;
  const auto length = r.prompt.length();
  const int32_t needed = length + (r.job.sampling.max_tokens == 0 ? 0 : 1);
  const Status status = scheduler_.admit(r.job);
  note("submit", r.job.id, r.job.sampling.choices,
       "prompt " + std::to_string(length) + " max " + std::to_string(r.job.sampling.max_tokens) +
           " priority " + std::to_string(r.job.priority) + " session " +
           std::to_string(r.job.session) + (status.ok() ? "" : ": " + status.message()));
  const bool busy = session != nullptr && session->busy != 0;
  if (!status.ok()) {
    if (status.code() == Code::limit && needed > context_limit_) return;
    if (status.code() == Code::limit && too_much_to_see(r, config_)) return;
    if (status.code() == Code::overloaded) return;
    if (status.code() == Code::invalid && busy) return;
    return fail("refused for no reason: " + status.message());
  }
  if (busy || needed > context_limit_) return fail("admitted what cannot run");
  expect_tokens(r, config_.facts, context_limit_);
  for (SimulatedChoice& c : r.choices) {
    const auto all = static_cast<int32_t>(c.expected.size());
    if (all > 0 && random_.chance(15)) c.cut_at = random_.in(1, all);
  }
  if (session != nullptr) session->busy = r.job.id;
  ++report_.requests;
  requests_.emplace(r.job.id, std::move(r));
}

void World::session_act() {
  if (sessions_.empty() || random_.chance(40)) {
    const auto id = scheduler_.session_new({}, time_.now_ns());
    if (!id.ok()) return fail(id.status().message());
    sessions_[*id];
    return note("session", 0, static_cast<int32_t>(*id), "new");
  }
  auto it = std::next(sessions_.begin(), random_.in(0, static_cast<int32_t>(sessions_.size()) - 1));
  const auto state = scheduler_.session_info(it->first, time_.now_ns());
  if (!state.ok() || state->tokens != static_cast<int64_t>(it->second.content.tokens.size())) {
    return fail("session " + std::to_string(it->first) + " holds other tokens than it should");
  }
  const int32_t what = random_.in(0, 2);
  if (what == 0) {
    const auto fork = scheduler_.session_fork(it->first, time_.now_ns());
    if (!fork.ok()) return fail(fork.status().message());
    sessions_[*fork].content = it->second.content;
    sessions_[*fork].from = it->second.from;
    note("session", 0, static_cast<int32_t>(*fork), "fork of " + std::to_string(it->first));
  } else if (what == 1) {
    const int32_t to = random_.in(0, it->second.content.length());
    const Status status = scheduler_.session_rewind(it->first, to, time_.now_ns());
    const auto& images = it->second.content.images;
    const bool cuts = std::any_of(images.begin(), images.end(), [&](const PromptImage& i) {
      return to > i.position && to < i.position + i.rows;
    });
    if (status.ok() != (it->second.busy == 0 && !cuts)) return fail("rewind of a busy session, or into a picture");
    if (status.ok()) shorten_prompt(it->second.content, to);
    if (status.ok()) it->second.from = 0;
    note("session", 0, static_cast<int32_t>(it->first), "rewind to " + std::to_string(to));
  } else if (it->second.busy == 0) {
    scheduler_.session_free(it->first);
    note("session", 0, static_cast<int32_t>(it->first), "free");
    sessions_.erase(it);
  }
}

// Encoders are slow: pictures become ready one by one, some long after their request came.
void World::develop_pictures() {
  for (auto& [id, r] : requests_) {
    for (auto* images : {&r.prompt.images, &r.prompt.cross_images}) {
      for (PromptImage& image : *images) {
        if (r.ended || image.ready || !random_.chance(20)) continue;
        scheduler_.embedding_ready(id, image.embedding);
        note("picture", id, 0, std::to_string(image.embedding));
        for (PromptImage& same : *images) same.ready |= same.embedding == image.embedding;
      }
    }
  }
}

// The reader is slow: a stop string may be found long after its token.
void World::send_cuts() {
  for (auto& [id, r] : requests_) {
    for (size_t i = 0; i < r.choices.size(); ++i) {
      SimulatedChoice& c = r.choices[i];
      if (c.cut_at < 0 || c.cut_sent || c.got < c.cut_at || !random_.chance(40)) continue;
      c.cut_sent = true;
      note("cut", id, static_cast<int32_t>(i), "to " + std::to_string(c.cut_at));
      report_.sung.cuts += singing_ && !c.ended ? 1 : 0;
      scheduler_.cut(id, static_cast<int32_t>(i), c.cut_at, time_.now_ns(), out_);
      // An answer that a session has taken over already is cut there.
      const int32_t kept = r.prompt.length() + c.cut_at;
      for (auto& [session_id, session] : sessions_) {
        if (i == 0 && session.from == id && session.content.length() > kept) {
          shorten_prompt(session.content, kept);
        }
      }
    }
  }
}

void World::lose_device(const Status& why) {
  if (why.code() != Code::device_failed) return fail(why.message());
  note("crash", 0, 0, why.message());
  report_.sung.crashes += singing_ ? 1 : 0;
  ++report_.restarts;
  device_ = std::make_unique<FakeDevice>(device_options(config_), time_);
  loop_.replace(*device_);
  scheduler_.device_lost(why, time_.now_ns(), out_);
}

void World::act() {
  if (arrivals_left_ > 0 && random_.chance(arrival_percent_)) {
    --arrivals_left_;
    submit();
    while (arrivals_left_ > 0 && random_.chance(30)) {
      --arrivals_left_;
      submit();
    }
  }
  if (random_.chance(6)) session_act();
  develop_pictures();
  for (auto& [id, r] : requests_) {
    if (r.ended || r.cancel_at_turn < 0 || r.cancel_at_turn > turn_) continue;
    r.cancel_at_turn = -1;
    note("cancel", id, 0, "");
    report_.sung.cancels += singing_ && r.started ? 1 : 0;
    scheduler_.end(id, Status(Code::cancelled, "by the simulation"), time_.now_ns(), out_);
  }
  if (random_.chance(3)) device_->delay_next(random_.in(1, 40) * kStepNs);
  if (crashes_left_ > 0 && scheduler_.steps_in_flight() > 0 && random_.chance(5)) {
    --crashes_left_;
    device_->fail_next();
  }
}

void World::take() {
  for (const RequestId id : out_.started) {
    SimulatedRequest& r = requests_.at(id);
    if (r.started || r.ended) fail("request " + std::to_string(id) + " started twice");
    r.started = true;
    note("start", id, 0, "");
  }
  for (const ScoreOutput& s : out_.scores) {
    SimulatedRequest& r = requests_.at(s.request);
    if (r.ended || s.position != static_cast<int32_t>(r.scored.size()) + 1 ||
        s.token != r.prompt.tokens[static_cast<size_t>(s.position)]) {
      fail("request " + std::to_string(s.request) + ": score of position " + std::to_string(s.position));
    }
    r.scored.push_back(s.position);
  }
  for (const TokenOutput& t : out_.tokens) {
    SimulatedRequest& r = requests_.at(t.request);
    SimulatedChoice& c = r.choices.at(static_cast<size_t>(t.choice));
    note("token", t.request, t.choice, std::to_string(t.index) + ": " + std::to_string(t.token));
    ++report_.tokens;
    if (r.ended || c.ended) {
      fail("INV-SCHED-2: a token after the end, request " + std::to_string(t.request));
    } else if (t.index != c.got || static_cast<size_t>(t.index) >= c.expected.size() ||
               t.token != c.expected[static_cast<size_t>(t.index)]) {
      fail("request " + std::to_string(t.request) + " choice " + std::to_string(t.choice) +
           " token " + std::to_string(t.index) + " is " + std::to_string(t.token) + ", not what a naive loop draws");
    }
    ++c.got;
  }
  for (const ChoiceEnd& e : out_.choices) {
    SimulatedRequest& r = requests_.at(e.request);
    SimulatedChoice& c = r.choices.at(static_cast<size_t>(e.choice));
    note("finish", e.request, e.choice, "tokens " + std::to_string(c.got));
    const bool natural = static_cast<size_t>(c.got) == c.expected.size();
    if (c.ended || r.ended || (!c.cut_sent && (!natural || e.reason != c.natural_end))) {
      fail("request " + std::to_string(e.request) + ": a choice ended wrongly");
    }
    c.ended = true;
    if (e.choice == 0) session_takes(r);
  }
  for (const RequestEnd& e : out_.requests) take_end(e);
  out_.clear();
}

void World::session_takes(const SimulatedRequest& r) {
  const auto it = sessions_.find(r.job.session);
  if (it == sessions_.end() || it->second.busy != r.job.id) return;
  it->second.busy = 0;
  const SimulatedChoice& c = r.choices.front();
  const bool scoring = c.expected.empty();
  const int32_t kept = c.cut_sent ? std::min(c.cut_at, c.got) : c.got;
  if (c.got == 0 && !scoring) return;
  it->second.from = r.job.id;
  it->second.content = r.prompt;
  append_output(it->second.content, std::span(c.expected).first(static_cast<size_t>(kept)));
}

void World::take_end(const RequestEnd& end) {
  SimulatedRequest& r = requests_.at(end.request);
  note("end", end.request, 0, end.kind == EventKind::done ? "done" : end.status.message());
  if (r.ended) return fail("INV-SCHED-1: two ends of request " + std::to_string(end.request));
  r.ended = true;
  if (end.kind == EventKind::done) {
    report_.seen += r.prompt.images.empty() && r.prompt.cross_images.empty() ? 0 : 1;
    for (const SimulatedChoice& c : r.choices) {
      if (!c.ended) fail("done, and a choice has not ended");
    }
    const bool scores = r.job.sampling.prompt_logprobs >= 0 && !r.choices.front().cut_sent;
    if (scores && r.scored.size() + 1 != r.prompt.tokens.size()) fail("done, and scores are missing");
  } else {
    session_takes(r);
  }
}

void World::check_patience() {
  for (const auto& [id, r] : requests_) {
    if (!r.ended && turn_ - r.admitted_at_turn > kPatienceTurns) {
      return fail("INV-SCHED-6: request " + std::to_string(id) + " has been here for " +
                  std::to_string(kPatienceTurns) + " steps");
    }
  }
}

SimulationReport World::run() {
  while (report_.ok) {
    ++turn_;
    act();
    const SchedulerStats before = scheduler_.stats();
    const Result<bool> worked = loop_.turn(out_);
    const SchedulerStats after = scheduler_.stats();
    report_.sung.preemptions += singing_ ? static_cast<int64_t>(after.preemptions - before.preemptions) : 0;
    if (after.steps != before.steps) singing_ = after.steps_sung != before.steps_sung;
    if (!worked.ok()) lose_device(worked.status());
    if (worked.ok() && !*worked) time_.pass(kStepNs);
    take();
    send_cuts();
    take();
    if (const Status s = scheduler_.check_integrity(); !s.ok()) fail(s.message());
    if (turn_ % 256 == 0) check_patience();
    if (arrivals_left_ == 0 && scheduler_.idle()) break;
  }
  for (auto& [id, r] : requests_) {
    if (report_.ok && !r.ended) fail("INV-SCHED-1: request " + std::to_string(id) + " never ended");
  }
  for (const auto& [id, session] : sessions_) scheduler_.session_free(id);
  const SchedulerStats stats = scheduler_.stats();
  if (report_.ok && stats.kv_blocks_used != 0) {
    fail("INV-CACHE-1: " + std::to_string(stats.kv_blocks_used) + " blocks never came back");
  }
  report_.steps = static_cast<int64_t>(stats.steps);
  report_.sung.steps = static_cast<int64_t>(stats.steps_sung);
  report_.preemptions = static_cast<int64_t>(stats.preemptions);
  report_.cached_tokens = static_cast<int64_t>(stats.cached_tokens);
  report_.speculative_dropped = static_cast<int64_t>(stats.speculative_rows_dropped);
  return report_;
}

}  // namespace

SimulationReport simulate(uint64_t seed, bool with_trace) { return World(seed, with_trace).run(); }

}  // namespace troupe::engine
