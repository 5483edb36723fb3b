// What the stub engine answers, request by request (docs/echo.md says it of the real one).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/port.hpp"

namespace troupe::stub {

inline constexpr int32_t kEos = 256, kVocab = 257;

struct StubOptions {
  int64_t step_ns = 0, load_ns = 0;
  int64_t fail_step = -1;
  int32_t context_length = 8192;
};

// Of "echo:?key=value&key=value".
Result<StubOptions> parse(const std::string &endpoint);

// The prompt's parts, images as text in their place.
std::string parts_text(const Request &request, const std::vector<PromptPart> &parts);

struct Choice {
  std::string said, pending;  // said: text released so far
  size_t made = 0;
  FinishReason finish = FinishReason::none;
};

struct Job {
  RequestId id = 0;
  Request request;
  std::shared_ptr<EventSink> sink;
  std::vector<int32_t> prompt, answer;
  std::vector<Choice> choices;
  int64_t submitted_ns = 0, first_token_ns = 0;
  Usage usage;
  bool running = false, cancelled = false;

  // One token of one choice; whether it goes on.
  bool speak(size_t index, int64_t context_length);
  void send(Event &&event);

 private:
  void add_token(Choice &choice, int32_t token, Event &event);
};

}  // namespace troupe::stub
