#include "capi/event_view.hpp"

#include <type_traits>
#include <utility>

namespace troupe::capi {
namespace {

int32_t kind_of(EventKind kind) {
  switch (kind) {
    case EventKind::ready:
      return TROUPE_EVENT_READY;
    case EventKind::admitted:
      return TROUPE_EVENT_ADMITTED;
    case EventKind::tokens:
      return TROUPE_EVENT_TOKENS;
    case EventKind::done:
      return TROUPE_EVENT_DONE;
    case EventKind::cancelled:
      return TROUPE_EVENT_CANCELLED;
    case EventKind::failed:
      return TROUPE_EVENT_FAILED;
    case EventKind::progress:
      return TROUPE_EVENT_PROGRESS;
  }
  return TROUPE_EVENT_FAILED;
}

static_assert(static_cast<int>(FinishReason::none) == TROUPE_FINISH_NONE);
static_assert(static_cast<int>(FinishReason::stop) == TROUPE_FINISH_STOP);
static_assert(static_cast<int>(FinishReason::length) == TROUPE_FINISH_LENGTH);
static_assert(static_cast<int>(FinishReason::cancelled) == TROUPE_FINISH_CANCELLED);
static_assert(static_cast<int>(FinishReason::error) == TROUPE_FINISH_ERROR);
static_assert(std::is_nothrow_move_constructible_v<Event>);

template <class T>
const T* data_or_null(const std::vector<T>& v) {
  return v.empty() ? nullptr : v.data();
}

void fill_plain(troupe_event& view, const Event& event, uint64_t user_data) noexcept {
  view.struct_size = sizeof(troupe_event);
  view.kind = kind_of(event.kind);
  view.id = event.id;
  view.user_data = user_data;
  view.index = event.index;
  view.finish_reason = static_cast<int32_t>(event.finish);
  view.from = event.from;
  view.tokens = data_or_null(event.tokens);
  view.n_tokens = event.tokens.size();
  view.text = event.text.c_str();
  view.text_size = event.text.size();
  view.logprobs = data_or_null(event.logprobs);
  view.stop_token = event.stop_token;
  view.stop_text = event.stop_text.empty() ? nullptr : event.stop_text.c_str();
  view.stop_text_size = event.stop_text.size();
  view.prompt_tokens = event.usage.prompt_tokens;
  view.cached_tokens = event.usage.cached_tokens;
  view.completion_tokens = event.usage.completion_tokens;
  view.image_tokens = event.usage.image_tokens;
  view.queued_ns = event.timings.queued_ns;
  view.first_token_ns = event.timings.first_token_ns;
  view.total_ns = event.timings.total_ns;
  view.progress = event.progress;
  view.data = data_or_null(event.data);
  view.data_rows = event.data.empty() ? 0 : event.data_shape[0];
  view.data_columns = event.data.empty() ? 0 : event.data_shape[1];
}

}  // namespace

void EventBlock::Sizes::add(const Event& event) {
  ++events;
  errors += event.status.ok() ? 0 : 1;
  for (const LogprobTable* rows_of : {&event.top_logprobs, &event.prompt_logprobs}) {
    if (rows_of->empty()) continue;
    ++tables;
    rows += rows_of->size() + 1;
    for (const auto& row : *rows_of) entries += row.size();
  }
}

EventBlock::EventBlock(const Sizes& sizes) {
  events_.reserve(sizes.events);
  views_.reserve(sizes.events);
  tables_.reserve(sizes.tables);
  row_starts_.reserve(sizes.rows);
  entries_.reserve(sizes.entries);
  errors_.reserve(sizes.errors);
  head_.struct_size = sizeof(troupe_events);
  head_.event_size = sizeof(troupe_event);
  head_.events = views_.data();
}

void EventBlock::add(Event&& event, uint64_t user_data) noexcept {
  TR_ASSERT(views_.size() < views_.capacity());  // INV-QUEUE: counted before
  Event& kept = events_.emplace_back(std::move(event));
  troupe_event view{};
  fill_plain(view, kept, user_data);
  view.top_logprobs = table(kept.top_logprobs);
  view.prompt_logprobs = table(kept.prompt_logprobs);
  if (!kept.status.ok()) view.error = &errors_.emplace_back(troupe_error{std::move(kept.status)});
  views_.push_back(view);
  head_.count = static_cast<uint32_t>(views_.size());
}

const troupe_logprob_table* EventBlock::table(const LogprobTable& rows) noexcept {
  if (rows.empty()) return nullptr;
  troupe_logprob_table view{};
  view.struct_size = sizeof(troupe_logprob_table);
  view.entry_size = sizeof(troupe_logprob);
  view.n_rows = rows.size();
  view.row_starts = row_starts_.data() + row_starts_.size();
  view.entries = entries_.data() + entries_.size();
  size_t start = 0;
  row_starts_.push_back(start);
  for (const auto& row : rows) {
    for (const TokenLogprob& entry : row) {
      entries_.push_back({entry.token, entry.logprob, entry.rank});
    }
    start += row.size();
    row_starts_.push_back(start);
  }
  return &tables_.emplace_back(view);
}

EventBlock* EventBlock::of(troupe_events* head) noexcept {
  static_assert(std::is_standard_layout_v<EventBlock>);  // so that the first member has its address
  return reinterpret_cast<EventBlock*>(head);
}

}  // namespace troupe::capi
