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

// The text of an image on `echo:`, put into the prompt in its place: what it is, its size and the
// FNV-1a 64 of its bytes (of pixels: row by row, without padding):
//   [image 640x480 png 0123456789abcdef]   [image 3x2 rgb 0123456789abcdef]
//   [embedding 16x4096 f16 0123456789abcdef]
Result<std::string> echo_image_text(const ImageInput& image);

struct EchoOptions {
  int64_t step_ns = 0;
  int64_t row_ns = 0;         // on top, for each row of a step
  int64_t load_ns = 0;        // opening takes so long
  int32_t context_length = 32768;
  int64_t kv_tokens = 0;      // 0: room for 1024 tokens of every sequence, two whole contexts at least
  int64_t fail_step = -1;     // the device dies at this step …
  int32_t fail_times = 1;     // … and its successors too, this often in all

  // `echo:` or `echo:?key=value&…`. An unknown key or a bad value is refused by name.
  static Result<EchoOptions> parse(std::string_view endpoint);
};

// Bytes are ids, and one id more ends a text. The echo of a prompt is what follows its last kEos: in
// a chat every message but the last ends with one, in a session every answer does.
class EchoText final : public TextSource {
 public:
  static constexpr int32_t kEos = 256, kVocab = 257;
  static constexpr std::string_view kEosText = "<|eos|>";

  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special,
                                            bool parse_special) const;
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special) const;
  // The prompt as text, with its images as text.
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
