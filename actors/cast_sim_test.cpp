// The whole cast without a thread: CAF's testing scheduler, a clock of our own, a device that dies,
// delays and cancels wherever the seed says. A failure prints its seed and a trace of one line per
// event; `--gtest_random_seed=N` begins at another seed, `--gtest_repeat` goes on from there.
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <sstream>
#include <stdexcept>

#include "actors/cast.hpp"
#include "actors/echo_house.hpp"
#include "actors/port_text.hpp"
#include "actors/test_sinks.hpp"
#include "engine/echo.hpp"

namespace troupe::actors {
namespace {

using Random = std::mt19937_64;

class SimClock final : public engine::Waiter {
 public:
  [[nodiscard]] int64_t now_ns() const override { return now_; }
  void wait_until(int64_t ns) override { now_ = std::max(now_, ns); }

 private:
  int64_t now_ = 1'000'000;
};

// Tasks of the tokenizer's pool, run when the simulation picks one.
class SimRunner final : public TaskRunner {
 public:
  void run(size_t, std::function<void()> task) override { tasks.push_back(std::move(task)); }
  bool run_one(uint64_t choice) {
    if (tasks.empty()) return false;
    const auto it = tasks.begin() + static_cast<std::ptrdiff_t>(choice % tasks.size());
    const std::function<void()> task = std::move(*it);
    tasks.erase(it);
    task();
    return true;
  }
  std::deque<std::function<void()>> tasks;
};

struct Trouble {
  Random* random = nullptr;
  int deaths_left = 0;
  double chance = 0.0;
  std::ostringstream* trace = nullptr;
  bool strikes(const char* where) {
    if (deaths_left == 0) return false;
    if (std::uniform_real_distribution<>(0.0, 1.0)(*random) >= chance) return false;
    --deaths_left;
    *trace << "death in " << where << "\n";
    return true;
  }
};

// A device that dies at any of its calls: with a status, or by throwing.
class MortalDevice final : public engine::StepExecutor {
 public:
  MortalDevice(std::unique_ptr<StepExecutor> device, Trouble& trouble)
      : device_(std::move(device)), trouble_(trouble) {}
  Status forward(std::span<const std::byte> plan) override {
    if (trouble_.strikes("forward")) return {Code::device_failed, "died in forward"};
    return device_->forward(plan);
  }
  Status sample(std::span<const uint32_t> mask) override {
    if (trouble_.strikes("sample")) throw std::runtime_error("threw in sample");
    return device_->sample(mask);
  }
  Result<StepResult> collect() override {
    if (trouble_.strikes("collect")) return Status(Code::device_failed, "died in collect");
    return device_->collect();
  }
  Status put_embedding(uint64_t id, const Matrix& rows) override {
    return device_->put_embedding(id, rows);
  }
  void drop_embedding(uint64_t id) override { device_->drop_embedding(id); }

 private:
  const std::unique_ptr<StepExecutor> device_;
  Trouble& trouble_;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    trouble_.random = &random_;
    trouble_.trace = &trace_;
    trouble_.deaths_left = pick(3) == 0 ? static_cast<int>(1 + pick(3)) : 0;
    trouble_.chance = 0.03;
    EngineOptions options;
    options.max_sequences = static_cast<int32_t>(1 + pick(6));
    options.max_waiting = 64;
    options.block_tokens = 4;
    options.overlap = pick(4) != 0;
    options.prefix_reuse = pick(3) != 0;
    engine::EchoOptions echo;
    echo.context_length = 96;
    echo.kv_tokens = static_cast<int64_t>(96 + 32 * pick(8));
    echo.step_ns = static_cast<int64_t>(pick(2'000'000));
    const models::ModelFacts facts = engine::echo_facts(echo, options);
    CastParts parts;
    parts.simulated = true;
    parts.runner = runner_;
    parts.clock = clock_;
    parts.runs_ahead = pick(2) == 0;
    parts.bounds = {64, 70, 0};
    parts.encode.text = make_echo_house();
    parts.encode.facts = facts;
    parts.scheduler = [facts, options] { return echo_scheduler(facts, options); };
    parts.open_device = [=, this](int32_t generation) {
      trace_ << "device " << generation << " opens\n";
      auto device = engine::echo_device(echo, facts, options.max_sequences, generation, *clock_);
      return Result<std::unique_ptr<engine::StepExecutor>>(
          std::make_unique<MortalDevice>(std::move(device), trouble_));
    };
    auto cast = Cast::open(std::move(parts));
    cast_ = std::move(cast).value();
  }

  ~Simulation() { (void)close(); }
  // Tasks that nobody will run hold orders and a handle: they go before the cast does.
  Status close() {
    runner_->tasks.clear();
    return cast_->close(0);
  }

  void live(int moves) {
    for (int i = 0; i < moves; ++i) {
      const uint64_t what = pick(100);
      if (what < 6) {
        submit();
      } else if (what < 8 && !ids_.empty()) {
        const RequestId id = ids_[pick(ids_.size())];
        trace_ << "cancel " << id << "\n";
        cast_->cancel(id);
      } else if (what < 9) {
        let_time_pass();
      } else if (what < 20) {
        runner_->run_one(pick(1000));
      } else {
        cast_->simulate_one(random_());
      }
    }
  }
  // Everything ends by itself when it is let run. False: something is stuck.
  bool settle() {
    for (int i = 0; i < 20'000 && sink_->ended() < ids_.size(); ++i) {
      const bool ran = cast_->simulate_one(random_());
      if (!runner_->run_one(0) && !ran) let_time_pass();
    }
    for (int i = 0; i < 1000 && cast_->simulate_one(0); ++i) {
    }
    return sink_->ended() == ids_.size();
  }
  void check() {
    for (const RequestId id : ids_) {
      const Heard heard = sink_->of(id);
      EXPECT_EQ(heard.terminals, 1) << id;
      EXPECT_EQ(heard.broken, 0) << id;
      const std::string& prompt = prompts_.at(id);
      for (const auto& [choice, text] : heard.text) {
        EXPECT_EQ(text, prompt.substr(0, text.size())) << id << ": tokens repeated or lost";
      }
      if (heard.end == EventKind::failed) {
        EXPECT_TRUE(heard.status.code() == Code::device_failed ||
                    heard.status.code() == Code::deadline || heard.status.code() == Code::limit)
            << heard.status.message();
      }
    }
    EXPECT_EQ(cast_->in_flight(), 0U);
    const Status asked = cast_->visit([](engine::Scheduler& scheduler) {
      const Status sound = scheduler.check_integrity();
      EXPECT_TRUE(sound.ok()) << sound.message();
      EXPECT_EQ(scheduler.stats().running + scheduler.stats().waiting, 0U);
    });
    EXPECT_TRUE(asked.ok()) << asked.message();
  }
  [[nodiscard]] std::string trace() const { return trace_.str(); }
  [[nodiscard]] Listener& sink() { return *sink_; }
  [[nodiscard]] size_t submitted() const { return ids_.size(); }
  [[nodiscard]] const Board& board() const { return cast_->board(); }
  void submit() {
    std::string text;
    for (uint64_t n = 1 + pick(30); n > 0; --n) text += static_cast<char>('a' + pick(3));
    Request request = text_request(text, static_cast<int32_t>(1 + pick(30)));
    request.sampling.n = pick(5) == 0 ? 2 : 1;
    request.priority = static_cast<int32_t>(pick(3));
    if (pick(4) == 0) request.sampling.stop = {"abc"};
    if (pick(10) == 0) request.deadline_ns = static_cast<int64_t>(1 + pick(400'000'000));
    const auto id = cast_->submit(std::move(request), sink_);
    if (!id.ok()) {
      EXPECT_EQ(id.status().code(), Code::overloaded) << id.status().message();
      return;
    }
    trace_ << "submit " << *id << " " << text << "\n";
    ids_.push_back(*id);
    prompts_.emplace(*id, text);
  }

 private:
  uint64_t pick(uint64_t below) { return random_() % below; }
  void let_time_pass() {
    clock_->wait_until(clock_->now_ns() + 60'000'000);
    cast_->simulate_time(60'000'000);
  }

  Random random_;
  Trouble trouble_;
  std::ostringstream trace_;
  std::shared_ptr<SimClock> clock_ = std::make_shared<SimClock>();
  std::shared_ptr<SimRunner> runner_ = std::make_shared<SimRunner>();
  std::shared_ptr<Listener> sink_ = std::make_shared<Listener>();
  std::vector<RequestId> ids_;
  std::map<RequestId, std::string> prompts_;
  std::unique_ptr<Cast> cast_;  // last: it goes first
};

TEST(CastSimulation, SurvivesWhateverTheSeedSays) {
  const auto first = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) * 1000;
  uint64_t done = 0, cancelled = 0, failed = 0, replaced = 0, preempted = 0;
  for (uint64_t seed = first; seed < first + 300; ++seed) {
    Simulation simulation(seed);
    simulation.live(600);
    ASSERT_TRUE(simulation.settle()) << "stuck; seed " << seed << "\n" << simulation.trace();
    simulation.check();
    if (testing::Test::HasFailure()) {
      FAIL() << "seed " << seed << "\n" << simulation.trace();
    }
    done += simulation.board().done;
    cancelled += simulation.board().cancelled;
    failed += simulation.board().failed;
    replaced += simulation.board().replacements;
    preempted += simulation.board().preemptions;
  }
  // Worlds in which nothing happens prove nothing.
  EXPECT_GT(done, 1000U);
  EXPECT_GT(cancelled, 100U);
  EXPECT_GT(failed, 10U);
  EXPECT_GT(replaced, 30U);
  EXPECT_GT(preempted, 30U);
}

TEST(CastSimulation, ClosingAtAnyMomentGivesEverybodyATerminal) {
  const auto first = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) * 1000;
  for (uint64_t seed = first; seed < first + 200; ++seed) {
    Simulation simulation(seed);
    simulation.live(static_cast<int>(seed % 150));
    EXPECT_TRUE(simulation.close().ok());
    EXPECT_EQ(simulation.sink().ended(), simulation.submitted()) << "seed " << seed << "\n"
                                                                 << simulation.trace();
    for (const auto& [id, heard] : simulation.sink().all()) {
      EXPECT_EQ(heard.terminals, 1) << "seed " << seed;
    }
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace troupe::actors
