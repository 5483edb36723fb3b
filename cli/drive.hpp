// Submits one request and hands its events on until the terminal one; Ctrl-C cancels it.
#pragma once

#include <functional>

#include "cli/handles.hpp"
#include "cli/interrupt.hpp"

namespace troupe::cli {

enum class Ending { done, failed, interrupted, unheard };

struct Driven {
  Ending ending = Ending::failed;
  std::string problem;  // when failed
  int signal = 0;  // when interrupted
};

// `heard` sees every event of the request, the terminal one included; false: it wants no more, and
// what is left is not computed.
Driven drive(troupe_engine* engine, const troupe_request* request, Interrupt& interrupt,
             const std::function<bool(const troupe_event&)>& heard);

}  // namespace troupe::cli
