// The whole cast without a thread: CAF's testing scheduler, a clock of our own, a device that dies,
// delays and cancels wherever the seed says. A failure prints its seed and a trace of one line per
// event; `--gtest_random_seed=N` begins at another seed, `--gtest_repeat` goes on from there.
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>

#include "actors/cast.hpp"
#include "actors/echo_house.hpp"
#include "actors/port_text.hpp"
#include "actors/test_sinks.hpp"
#include "engine/echo.hpp"
#include "engine/fake_eyes.hpp"

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
  void rest(const std::function<void()>&) override {}
  [[nodiscard]] size_t threads() const override { return 0; }
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
  int sung = 0, deaths_sung = 0;  // steps that only repeated the one before, and deaths in them
  bool singing = false;
  bool strikes(const char* where) {
    if (deaths_left == 0) return false;
    if (std::uniform_real_distribution<>(0.0, 1.0)(*random) >= chance) return false;
    --deaths_left;
    deaths_sung += singing ? 1 : 0;
    *trace << "death in " << where << "\n";
    return true;
  }
};

// Text as `echo:` has it, with room for pictures: their rows stand before the end of a segment, so that
// the answer is the text behind them.
class PictureHouse final : public TextHouse {
 public:
  Result<std::vector<int32_t>> encode(std::string_view text, bool special, bool parse) const override {
    return echo_->encode(text, special, parse);
  }
  Result<std::string> decode(std::span<const int32_t> ids, bool skip) const override {
    return echo_->decode(ids, skip);
  }
  Result<std::string> render(const Request& request) const override { return echo_->render(request); }
  std::string template_origin() const override { return {}; }
  std::unique_ptr<engine::TextStream> stream(bool skip) const override { return echo_->stream(skip); }
  Result<HousePrompt> prompt(const Request& request, const PictureText& pictures,
                             size_t /*tokens_most*/) const override {
    HousePrompt out;
    for (const PromptPart& part : request.prompt) {
      const bool picture = part.kind == PromptPart::Kind::image;
      for (const char c : picture ? pictures.expanded.at(part.image) : part.text) {
        out.ids.push_back(static_cast<uint8_t>(c));
      }
      if (!picture) continue;
      out.images.push_back(part.image);
      out.ids.push_back(engine::EchoText::kEos);
    }
    return out;
  }

 private:
  const std::shared_ptr<const TextHouse> echo_ = make_echo_house();
};

// An encoder that dies in the middle of its work: with a status, or by throwing.
class MortalEncoder final : public engine::VisionExecutor {
 public:
  explicit MortalEncoder(Trouble& trouble) : trouble_(trouble) {}
  Result<std::vector<engine::EmbeddingPtr>> encode(std::span<const vision::Tile> tiles) override {
    if (trouble_.strikes("encode")) return Status(Code::device_failed, "died in encode");
    return device_->encode(tiles);
  }
  Result<engine::EmbeddingPtr> join(const vision::PictureLayout& layout,
                                    std::span<const engine::EmbeddingPtr> tiles) override {
    if (trouble_.strikes("join")) throw std::runtime_error("threw in join");
    return device_->join(layout, tiles);
  }
  Result<engine::EmbeddingPtr> adopt(const ImageInput& input) override { return device_->adopt(input); }

 private:
  const std::unique_ptr<engine::VisionExecutor> device_ = engine::fake_vision_executor({});
  Trouble& trouble_;
};

// A device that dies at any of its calls: with a status, or by throwing.
class MortalDevice final : public engine::StepExecutor {
 public:
  MortalDevice(std::unique_ptr<StepExecutor> device, Trouble& trouble)
      : device_(std::move(device)), trouble_(trouble) {}
  Status forward(std::span<const std::byte> plan) override {
    const auto view = PlanView::parse(plan);
    EXPECT_TRUE(view.ok());
    trouble_.singing = view->repeats();
    trouble_.sung += view->repeats() ? 1 : 0;
    if (trouble_.strikes("forward")) return {Code::device_failed, "died in forward"};
    for (const PlanInject& i : view->injects()) {
      const auto at = rows_.find(i.id);
      EXPECT_TRUE(at != rows_.end() && i.source_row + i.count <= at->second.rows) << "rows are missing";
      if (at == rows_.end()) continue;
      // Rows of one picture, in their order (engine/fake_eyes.hpp).
      const auto* first = at->second.row<float>(0);
      for (int32_t r = i.source_row; r < i.source_row + i.count; ++r) {
        EXPECT_EQ(at->second.row<float>(r)[0], first[0]);
        EXPECT_EQ(at->second.row<float>(r)[1] * static_cast<float>(at->second.rows) / first[3] +
                      at->second.row<float>(r)[2],
                  static_cast<float>(r));
      }
    }
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
    EXPECT_TRUE(rows_.emplace(id, rows).second) << "put twice";
    return device_->put_embedding(id, rows);
  }
  void drop_embedding(uint64_t id) override {
    EXPECT_EQ(rows_.erase(id), 1U) << "dropped, and not there";
    device_->drop_embedding(id);
  }

 private:
  const std::unique_ptr<StepExecutor> device_;
  std::map<uint64_t, Matrix> rows_;
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
    parts.helps = pick(2) == 0;
    parts.bounds = {64, 70, 1 << 20};
    parts.encode.text = make_echo_house();
    parts.encode.facts = facts;
    sees_ = pick(2) == 0;
    if (sees_) parts.vision = make_vision();
    if (sees_) parts.encode.text = std::make_shared<PictureHouse>();
    parts.encode.eyes = parts.vision.eyes;
    const auto attach_blocks = static_cast<int32_t>(1 + pick(4));
    parts.scheduler = [facts, options, attach_blocks] {
      engine::SchedulerConfig config = echo_scheduler(facts, options);
      config.attach_blocks = attach_blocks;
      return config;
    };
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
    decoders_->tasks.clear();
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
      } else if (what < 35) {
        decoders_->run_one(pick(1000));
      } else {
        cast_->simulate_one(random_());
      }
    }
  }
  // Everything ends by itself when it is let run. False: something is stuck.
  bool settle() {
    for (int i = 0; i < 20'000 && sink_->ended() < ids_.size(); ++i) {
      const bool ran = cast_->simulate_one(random_());
      const bool decoded = decoders_->run_one(0);
      if (!runner_->run_one(0) && !ran && !decoded) let_time_pass();
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
                    heard.status.code() == Code::deadline || heard.status.code() == Code::limit ||
                    (broken_.contains(id) && heard.status.code() == Code::invalid))
            << heard.status.message();
      }
    }
    for (const auto& [id, rows] : rows_wanted_) {
      const Heard heard = sink_->of(id);
      if (heard.end == EventKind::done) {
        EXPECT_EQ(heard.data.size(), static_cast<size_t>(rows) * 4);
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
  [[nodiscard]] const Trouble& trouble() const { return trouble_; }
  void submit() {
    std::string text;
    for (uint64_t n = 1 + pick(30); n > 0; --n) text += static_cast<char>('a' + pick(3));
    Request request = text_request(text, static_cast<int32_t>(1 + pick(30)));
    request.sampling.n = pick(5) == 0 ? 2 : 1;
    request.priority = static_cast<int32_t>(pick(3));
    if (pick(4) == 0) request.sampling.stop = {"abc"};
    int32_t rows = 0;
    const bool broken = sees_ && pick(2) == 0 && add_pictures(request, rows);
    if (!request.images.empty() && pick(6) == 0) request.task = Task::encode_image;
    if (pick(10) == 0) request.deadline_ns = static_cast<int64_t>(1 + pick(400'000'000));
    const bool rows_wanted = request.task == Task::encode_image;
    const auto id = cast_->submit(std::move(request), sink_);
    if (!id.ok()) {
      EXPECT_EQ(id.status().code(), Code::overloaded) << id.status().message();
      return;
    }
    trace_ << "submit " << *id << " " << text << "\n";
    if (broken) broken_.insert(*id);
    if (rows_wanted) rows_wanted_[*id] = rows;
    ids_.push_back(*id);
    prompts_.emplace(*id, text);
  }

 private:
  uint64_t pick(uint64_t below) { return random_() % below; }
  VisionParts make_vision() {
    VisionParts vision;
    auto eyes = std::make_shared<Eyes>();
    eyes->folder = engine::fake_vision_folder({});
    eyes->source = {engine::measure_fake, engine::load_fake};
    eyes->row_bytes = 16;
    eyes->images_max = 8;
    eyes->pixels_max = 1000;
    vision.eyes = std::move(eyes);
    vision.devices = static_cast<int32_t>(1 + pick(3));
    vision.runner = decoders_;
    engine::VisionConfig config;
    config.embedding_bytes = static_cast<int64_t>(16 * (40 + pick(60)));
    config.work_bytes = static_cast<int64_t>(50'000 + pick(100'000));
    config.batch_patches = static_cast<int64_t>(1 + pick(20));
    vision.balancer = [config] { return config; };
    vision.open_device = [this](int32_t device, int32_t generation) {
      trace_ << "encoder " << device << "." << generation << " opens\n";
      return Result<std::unique_ptr<engine::VisionExecutor>>(std::make_unique<MortalEncoder>(trouble_));
    };
    return vision;
  }
  // A few pictures, many requests. True: one of them cannot be decoded.
  bool add_pictures(Request& request, int32_t& rows) {
    bool broken = false;
    std::vector<PromptPart> parts;
    for (uint64_t n = 1 + pick(3); n > 0; --n) {
      const auto self = static_cast<uint8_t>(1 + pick(6));
      const bool bad = pick(25) == 0;
      const auto tiles = static_cast<uint8_t>(1 + self % 3), height = static_cast<uint8_t>(1 + self % 2);
      PromptPart part;
      part.kind = PromptPart::Kind::image;
      part.image = request.images.size();
      parts.push_back(part);
      request.images.push_back(engine::fake_picture(bad ? 255 : tiles, height, self));
      broken |= bad;
      rows += tiles * height;
    }
    request.prompt.insert(request.prompt.begin(), parts.begin(), parts.end());
    return broken;
  }
  void let_time_pass() {
    clock_->wait_until(clock_->now_ns() + 60'000'000);
    cast_->simulate_time(60'000'000);
  }

  Random random_;
  Trouble trouble_;
  std::ostringstream trace_;
  std::shared_ptr<SimClock> clock_ = std::make_shared<SimClock>();
  std::shared_ptr<SimRunner> runner_ = std::make_shared<SimRunner>();
  std::shared_ptr<SimRunner> decoders_ = std::make_shared<SimRunner>();
  bool sees_ = false;
  std::set<RequestId> broken_;
  std::map<RequestId, int32_t> rows_wanted_;
  std::shared_ptr<Listener> sink_ = std::make_shared<Listener>();
  std::vector<RequestId> ids_;
  std::map<RequestId, std::string> prompts_;
  std::unique_ptr<Cast> cast_;  // last: it goes first
};

TEST(CastSimulation, SurvivesWhateverTheSeedSays) {
  const auto first = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) * 1000;
  uint64_t done = 0, cancelled = 0, failed = 0, replaced = 0, preempted = 0, encoded = 0, reused = 0;
  int sung = 0, deaths_sung = 0;
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
    encoded += simulation.board().images_encoded;
    reused += simulation.board().images_reused;
    sung += simulation.trouble().sung;
    deaths_sung += simulation.trouble().deaths_sung;
  }
  // Worlds in which nothing happens prove nothing.
  EXPECT_GT(done, 1000U);
  EXPECT_GT(cancelled, 100U);
  EXPECT_GT(failed, 10U);
  EXPECT_GT(replaced, 30U);
  EXPECT_GT(preempted, 30U);
  EXPECT_GT(encoded, 500U);
  EXPECT_GT(reused, 300U);
  EXPECT_GT(sung, 500);
  EXPECT_GT(deaths_sung, 5);
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
