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
  Result<std::vector<int32_t>> prompt(const Request& request) const override {
    return text_.prompt(request);
  }
  std::string template_origin() const override { return "built-in echo"; }
  std::unique_ptr<engine::TextStream> stream(bool skip_special) const override {
    return text_.stream(skip_special);
  }

 private:
  engine::EchoText text_;
};

}  // namespace

std::shared_ptr<const TextHouse> make_echo_house() { return std::make_shared<EchoHouse>(); }

CastParts echo_parts(const engine::EchoOptions& echo, const EngineOptions& options) {
  const models::ModelFacts facts = engine::echo_facts(echo, options);
  CastParts parts = common_parts(options, false);
  parts.encode.text = make_echo_house();
  parts.encode.facts = facts;
  parts.encode.images = true;
  parts.runs_ahead = true;
  parts.scheduler = [facts, options] { return echo_scheduler(facts, options); };
  auto waiter = std::make_shared<engine::ThreadWaiter>();
  parts.open_device = [echo, facts, options, waiter](int32_t generation)
      -> Result<std::unique_ptr<engine::StepExecutor>> {
    if (generation == 0) waiter->wait_until(waiter->now_ns() + echo.load_ns);
    return engine::echo_device(echo, facts, options.max_sequences, generation, *waiter);
  };
  return parts;
}

}  // namespace troupe::actors
