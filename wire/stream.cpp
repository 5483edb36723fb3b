#include "wire/stream.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace troupe::wire {
namespace {

constexpr size_t kRowsPerDelta = 256;  // of tokens that carry alternatives

template <class T>
void append_to(std::vector<T>& to, std::vector<T>& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

bool inside_character(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80;
}

// Where to cut a text of which at most `most` bytes may go, starting at `from`.
size_t cut(std::string_view text, size_t from, size_t most) {
  if (text.size() - from <= most) return text.size();
  size_t to = from + most;
  while (to > from && inside_character(text, to)) --to;
  return to;
}

}  // namespace

void ReadyList::add(std::shared_ptr<Stream> stream) {
  bool first = false;
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    streams_.push_back(std::move(stream));
    first = !std::exchange(woken_, true);
  }
  if (first) wake();
}

void ReadyList::take(std::vector<std::shared_ptr<Stream>>& to) {
  to.clear();
  const std::scoped_lock lock(mutex_);
  to.swap(streams_);
  woken_ = false;
}

void ReadyList::close() {
  std::vector<std::shared_ptr<Stream>> dropped;
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  dropped.swap(streams_);
}

void Stream::push(Event&& event) {
  {
    const std::scoped_lock lock(mutex_);
    if (ended_) return;
    append(event);
    const bool last = is_terminal(event.kind);
    if (last) {
      ended_ = true;
      if (event.kind == EventKind::cancelled && !cancelled_because_.ok())
        event.status = cancelled_because_;
      end_ = std::make_shared<Event>(std::move(event));
    }
    // Its end is news even if nobody has read what came before: a place is free.
    if (std::exchange(queued_, true) && !last) return;
  }
  ready_->add(shared_from_this());
}

Stream::Choice& Stream::choice_at(int32_t index) {
  TR_ASSERT(index >= 0 && index < limits::choices);
  const auto i = static_cast<size_t>(index);
  if (choices_.size() <= i) choices_.resize(i + 1);
  return choices_[i];
}

void Stream::append(Event& event) {
  admitted_ = admitted_ || event.kind == EventKind::admitted;
  if (!event.prompt_logprobs.empty()) prompt_logprobs_ = std::exchange(event.prompt_logprobs, {});
  usage_ = event.usage;
  const bool tokens = event.kind == EventKind::tokens;
  if (!tokens && event.tokens.empty() && event.text.empty()) return;
  Choice& choice = choice_at(event.index);
  append_to(choice.tokens, event.tokens);
  choice.text += event.text;
  append_to(choice.logprobs, event.logprobs);
  append_to(choice.top_logprobs, event.top_logprobs);
  event.text.clear();
  if (event.finish == FinishReason::none) return;
  choice.finish = event.finish;
  choice.stop_token = event.stop_token;
  choice.stop_text = event.stop_text;
}

bool Stream::ended() const {
  const std::scoped_lock lock(mutex_);
  return ended_;
}

void Stream::explain_cancelling(const Status& why) {
  const std::scoped_lock lock(mutex_);
  cancelled_because_ = why;
}

void Stream::grant(uint32_t n) {
  credit_ = static_cast<uint32_t>(std::min(uint64_t{credit_} + n, kCreditMax));
}

size_t Stream::bytes() const {
  const std::scoped_lock lock(mutex_);
  size_t bytes = sizeof *this + (end_ ? sizeof *end_ + end_->data.size() * sizeof(float) : 0);
  const auto table = [](const LogprobTable& rows) {
    size_t sum = 0;
    for (const auto& row : rows) sum += sizeof row + row.size() * sizeof(TokenLogprob);
    return sum;
  };
  for (const Choice& c : choices_) {
    bytes += sizeof c + c.tokens.size() * 4 + c.text.size() + c.logprobs.size() * 4 +
             table(c.top_logprobs);
  }
  return bytes + table(prompt_logprobs_);
}

Status Stream::rewind(std::span<const Position> from, uint32_t credit) {
  const std::scoped_lock lock(mutex_);
  bool anything = false;
  for (size_t i = 0; i < from.size(); ++i) {
    const Choice none;
    const Choice& c = i < choices_.size() ? choices_[i] : none;
    const std::string where = "RESUME: choice " + std::to_string(i) + " is at ";
    if (from[i].tokens > c.tokens.size() || from[i].text_bytes > c.text.size()) {
      return invalid(where + std::to_string(from[i].tokens) + " tokens and " +
                     std::to_string(from[i].text_bytes) + " bytes of text: there are " +
                     std::to_string(c.tokens.size()) + " and " + std::to_string(c.text.size()));
    }
    if (inside_character(c.text, static_cast<size_t>(from[i].text_bytes))) {
      return invalid(where + "byte " + std::to_string(from[i].text_bytes) + ", inside a character");
    }
    anything |= from[i].tokens > 0 || from[i].text_bytes > 0;
  }
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Position at = i < from.size() ? from[i] : Position{};
    choices_[i].tokens_read = static_cast<size_t>(at.tokens);
    choices_[i].text_read = static_cast<size_t>(at.text_bytes);
    choices_[i].finish_read = false;
  }
  credit_ = static_cast<uint32_t>(std::min<uint64_t>(credit, kCreditMax));
  seq_ = 0;
  data_read_ = 0;
  admitted_read_ = end_read_ = false;
  prompt_read_ = anything;
  return {};
}

void Stream::write_choice(std::string& to, int32_t index, Choice& c) {
  const size_t most = c.top_logprobs.empty() ? kDeltaTokens : kRowsPerDelta;
  const size_t tokens_end = c.tokens_read + std::min(most, c.tokens.size() - c.tokens_read);
  const size_t text_end = cut(c.text, c.text_read, kDeltaTextBytes);
  DeltaView view;
  view.index = index;
  view.from = static_cast<int64_t>(c.tokens_read);
  view.text_from = static_cast<int64_t>(c.text_read);
  const size_t count = tokens_end - c.tokens_read;
  view.tokens = std::span(c.tokens).subspan(c.tokens_read, count);
  view.text = std::string_view(c.text).substr(c.text_read, text_end - c.text_read);
  if (c.logprobs.size() >= tokens_end)
    view.logprobs = std::span(c.logprobs).subspan(c.tokens_read, count);
  if (c.top_logprobs.size() >= tokens_end) {
    view.top_logprobs = std::span(c.top_logprobs).subspan(c.tokens_read, count);
  }
  if (!std::exchange(prompt_read_, true) && !prompt_logprobs_.empty()) {
    view.prompt_logprobs = &prompt_logprobs_;
  }
  if (tokens_end == c.tokens.size() && text_end == c.text.size() &&
      c.finish != FinishReason::none) {
    view.finish = c.finish;
    view.stop_token = c.stop_token;
    view.stop_text = c.stop_text;
    c.finish_read = true;
  }
  view.usage = usage_;
  write_delta(to, id_, seq_++, view);
  TR_DCHECK(c.tokens_read <= tokens_end && c.text_read <= text_end);  // INV-WIRE-2
  c.tokens_read = tokens_end;
  c.text_read = text_end;
}

bool Stream::pull(Bodies& to) {
  const std::scoped_lock lock(mutex_);
  queued_ = false;
  if (end_read_) return true;  // INV-WIRE-2: once
  if (admitted_ && !std::exchange(admitted_read_, true)) write_id(to.admitted, id_);
  bool behind = false;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!choices_[i].behind()) continue;
    if (credit_ > 0) {
      --credit_;
      write_choice(to.deltas, static_cast<int32_t>(i), choices_[i]);
    }
    behind |= choices_[i].behind();
  }
  if (behind) return credit_ == 0;  // without credit, the next CREDIT brings it here again
  if (!ended_) return true;
  if (data_read_ < end_->data.size() * sizeof(float)) return false;
  end_read_ = true;
  if (!std::exchange(prompt_read_, true)) end_->prompt_logprobs = prompt_logprobs_;
  std::string& body = end_->kind == EventKind::done        ? to.done
                      : end_->kind == EventKind::cancelled ? to.cancelled
                                                           : to.failed;
  write_end(body, id_, seq_++, *end_);
  end_->prompt_logprobs.clear();
  return true;
}

bool Stream::pull_data(std::string& body, SharedBytes& piece) {
  const std::scoped_lock lock(mutex_);
  if (!end_ || end_read_) return false;
  const size_t size = end_->data.size() * sizeof(float);
  if (data_read_ >= size) return false;
  piece.owner = end_;
  piece.data = reinterpret_cast<const std::byte*>(end_->data.data()) + data_read_;
  piece.size = std::min(size - data_read_, kChunkBytes);
  write_data(body, id_, data_read_);
  data_read_ += piece.size;
  return true;
}

}  // namespace troupe::wire
