#include "cli/drive.hpp"

#include <utility>

namespace troupe::cli {

Driven drive(troupe_engine* engine, const troupe_request* request, Interrupt& interrupt,
             const std::function<bool(const troupe_event&)>& heard) {
  troupe_queue* handle = nullptr;
  Error error(troupe_queue_new(&handle));
  if (error) return {Ending::failed, text_of(error.get())};
  const Queue queue(handle);
  uint64_t id = 0;
  error.reset(troupe_submit(engine, request, queue.get(), 0, &id));
  if (error) return {Ending::failed, text_of(error.get())};

  int signal = 0;
  bool wanted = true;
  for (;;) {
    if (const int came = interrupt.wait(troupe_queue_fd(queue.get()), -1); came != 0) {
      signal = came;
      troupe_cancel(engine, id);
    }
    troupe_events* list = nullptr;
    error.reset(troupe_queue_wait(queue.get(), 0, 0, &list));
    if (error) return {Ending::failed, text_of(error.get())};
    const Events events(list);
    for (uint32_t i = 0; i < TROUPE_COUNT(list); ++i) {
      const troupe_event& event = *TROUPE_EVENT(list, i);
      if (!heard(event) && std::exchange(wanted, false)) troupe_cancel(engine, id);
      if (!TROUPE_IS_TERMINAL(event.kind)) continue;
      if (signal != 0) return {Ending::interrupted, {}, signal};
      if (!wanted) return {Ending::unheard, {}};
      if (event.kind == TROUPE_EVENT_DONE) return {Ending::done, {}};
      return {Ending::failed,
              event.error != nullptr ? text_of(event.error) : "CANCELLED: the request was cancelled"};
    }
  }
}

}  // namespace troupe::cli
