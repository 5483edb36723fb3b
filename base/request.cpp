#include "base/request.hpp"

#include <iterator>

namespace troupe {
namespace {

template <class T>
void append(std::vector<T>& to, std::vector<T>&& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

}  // namespace

Event TokenDelta::event() const {
  Event event;
  event.id = id;
  event.user_data = user_data;
  event.index = index;
  event.from = from;
  event.tokens.assign(tokens.begin(), tokens.end());
  event.text = text;
  return event;
}

void merge_events(Event& earlier, const TokenDelta& later) {
  TR_ASSERT(earlier.id == later.id && earlier.index == later.index);
  TR_ASSERT(earlier.kind == EventKind::tokens);
  earlier.tokens.insert(earlier.tokens.end(), later.tokens.begin(), later.tokens.end());
  earlier.text += later.text;
}

void merge_events(Event& earlier, Event&& later) {
  TR_ASSERT(earlier.id == later.id && earlier.index == later.index);
  TR_ASSERT(earlier.kind == EventKind::tokens && later.kind == EventKind::tokens);
  append(earlier.tokens, std::move(later.tokens));
  earlier.text += later.text;
  append(earlier.logprobs, std::move(later.logprobs));
  append(earlier.top_logprobs, std::move(later.top_logprobs));
  append(earlier.prompt_logprobs, std::move(later.prompt_logprobs));
  if (later.finish != FinishReason::none) {
    earlier.finish = later.finish;
    earlier.stop_token = later.stop_token;
    earlier.stop_text = std::move(later.stop_text);
  }
  earlier.usage = later.usage;
  earlier.timings = later.timings;
}

}  // namespace troupe
