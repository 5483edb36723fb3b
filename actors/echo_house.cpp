#include "actors/echo_house.hpp"

#include "engine/echo.hpp"

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

}  // namespace troupe::actors
