#include "actors/echo_house.hpp"

#include "actors/port_text.hpp"

namespace troupe::actors {
namespace {

class EchoHouse final : public TextHouse {
 public:
  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special) const override {
    return text_.encode(text, add_special, parse_special);
  }
  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const override {
    return text_.decode(ids, skip_special);
  }
  Result<std::string> render(const Request& request) const override { return text_.render(request); }
  // Pictures become text here: no place is left for them.
  Result<HousePrompt> prompt(const Request& request, const PictureText&, size_t) const override {
    TR_ASSIGN(std::vector<int32_t> ids, text_.prompt(request));
    return HousePrompt{std::move(ids), {}};
  }
  std::string template_origin() const override { return "built-in echo"; }
  std::unique_ptr<engine::TextStream> stream(bool skip_special) const override {
    return text_.stream(skip_special);
  }

 private:
  engine::EchoText text_;
};

// Takes its time, and says how far it is, as a model on its way into memory does.
Status pretend_to_load(int64_t load_ns, engine::Waiter& waiter, const LoadProgress& progress) {
  constexpr int64_t kLooks = 20;
  if (load_ns == 0) return {};
  const int64_t begin = waiter.now_ns();
  for (int64_t look = 0; look <= kLooks; ++look) {
    waiter.wait_until(begin + load_ns / kLooks * look);
    const double fraction = static_cast<double>(look) / kLooks;
    if (progress && !progress("weights", fraction)) {
      return {Code::closed, "opening was given up by the caller"};
    }
  }
  return {};
}

}  // namespace

std::shared_ptr<const TextHouse> make_echo_house() { return std::make_shared<EchoHouse>(); }

CastParts echo_parts(const engine::EchoOptions& echo, const EngineOptions& options,
                     LoadProgress progress) {
  const models::ModelFacts facts = engine::echo_facts(echo, options);
  CastParts parts = common_parts(options, false);
  parts.encode.text = make_echo_house();
  parts.encode.facts = facts;
  parts.encode.block_tokens = facts.groups.front().cache.block_tokens;
  parts.encode.images = true;
  parts.runs_ahead = true;
  parts.scheduler = [facts, options] { return echo_scheduler(facts, options); };
  auto waiter = std::make_shared<engine::ThreadWaiter>();
  parts.open_device = [echo, facts, options, waiter, progress = std::move(progress)](
                          int32_t generation) -> Result<std::unique_ptr<engine::StepExecutor>> {
    if (generation == 0) TR_TRY(pretend_to_load(echo.load_ns, *waiter, progress));
    return engine::echo_device(echo, facts, options.max_sequences, generation, *waiter);
  };
  return parts;
}

}  // namespace troupe::actors
