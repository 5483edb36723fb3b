// `echo:`, the engine without a model: it answers with its prompt, token by token, through the very
// same cast as a real one. Only two things are its own: a tokenizer whose ids are bytes, and a
// device that reads the answer out of the KV cells which the prompt was written to (FakeDevice).
// What the answers are and which options the endpoint takes stands in docs/echo.md.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/port.hpp"
#include "base/request.hpp"
#include "engine/fake_device.hpp"
#include "engine/token_text.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

// The text of an image on `echo:`, put into the prompt in its place:
//   [image 640x480 encoded 0123456789abcdef], the hash being FNV-1a 64 of its bytes.
Result<std::string> echo_image_text(const ImageInput& image);

struct EchoOptions {
  int64_t step_ns = 0;
  int64_t row_ns = 0;
  int64_t load_ns = 0;        // opening takes so long
  int32_t context_length = 8192;
  int64_t kv_tokens = 0;      // 0: enough for every sequence at a quarter of the context
  int64_t fail_step = -1;     // the device dies at this step …
  int32_t fail_times = 1;     // … and its successors too, this often

  // `echo:` or `echo:?key=value&…`. An unknown key or a bad value is refused by name.
  static Result<EchoOptions> parse(std::string_view endpoint);
};

class EchoText final : public TextSource {
 public:
  static constexpr int32_t kEos = 256, kBos = 257, kBegin = 258, kEnd = 259, kVocab = 260;

  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special,
                                            bool parse_special) const;
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special) const;
  // The prompt as text, with its images as text; a chat marks its last message as what to echo.
  [[nodiscard]] Result<std::string> render(const Request& request) const;
  // The prompt as ids: raw parts as they are, a chat rendered.
  [[nodiscard]] Result<std::vector<int32_t>> prompt(const Request& request) const;
  [[nodiscard]] std::unique_ptr<TextStream> stream(bool skip_special) const override;
};

models::ModelFacts echo_facts(const EchoOptions& echo, const EngineOptions& options);
// `generation`: how many devices died before this one (fail_times counts down with it). `waiter`
// outlives the device.
std::unique_ptr<StepExecutor> echo_device(const EchoOptions& echo, const models::ModelFacts& facts,
                                          int32_t slots, int32_t generation, Waiter& waiter);

}  // namespace troupe::engine
