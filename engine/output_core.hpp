// OutputCore: from what the scheduler says of steps to the events that callers get: text, stop
// strings, logprob tables, the one terminal event. Driven by the detokenizer actor alone.
//
//   INV-OUT-1  per choice, text and tokens come in order and never after the choice's finish
//   INV-OUT-2  a request's terminal event is its last, and carries what its first choice ended with
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/request.hpp"
#include "engine/job.hpp"
#include "engine/token_text.hpp"

namespace troupe::engine {

// What the output side must know of a request; given before its first output.
struct OutputSpec {
  RequestId id = 0;
  uint64_t user_data = 0;
  int32_t choices = 1;
  int32_t min_tokens = 0;        // no stop string ends a choice before
  std::vector<std::string> stop;
  bool include_stop = false;     // show the text of what stopped it
  bool skip_special = true;
  bool logprobs = false;         // any asked for
  bool prompt_logprobs = false;
};

struct Cut {
  RequestId request = 0;
  int32_t choice = 0;
  int32_t keep = 0;  // tokens of the choice's output
};

class OutputCore {
 public:
  explicit OutputCore(const TextSource& text);
  ~OutputCore();
  OutputCore(OutputCore&&) = delete;

  // `sink` hears everything of this request, in order, until its terminal event.
  void open(OutputSpec spec, std::shared_ptr<EventSink> sink);
  // Tells the sinks what came of a step. Appends the choices that a stop string ended: those go to
  // Scheduler::cut().
  void take(const Outputs& outputs, std::vector<Cut>& cuts);
  [[nodiscard]] size_t live() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe::engine
