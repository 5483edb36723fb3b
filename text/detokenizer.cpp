#include "text/detokenizer.hpp"

#include <algorithm>
#include <span>

#include "base/assert.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

namespace troupe::text {
namespace {

constexpr size_t kRunHeld = 16;     // bytes of a byte-token run that wait for its end
constexpr size_t kWindowMax = 64;   // tokens that a whole-text decoder may hold back

void append_replacements(size_t count, std::string& out) {
  for (size_t i = 0; i < count; ++i) out.append(kReplacement);
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options)
    : tokenizer_(&tokenizer), vocabulary_(&tokenizer.vocabulary()), options_(options) {
  restart();
}

void Detokenizer::restart() {
  held_.clear();
  run_ = Run::none;
  strip_left_ = options_.continues_text ? 0 : vocabulary_->strip_left;
  first_ = true;
  text_bytes_ = 0;
  window_begin_ = window_read_ = 0;
}

void Detokenizer::reserve(size_t tokens) {
  ids_.reserve(tokens);
  marks_.reserve(tokens);
}

void Detokenizer::push(int32_t id, std::string& out) {
  ids_.push_back(id);
  step(id, out);
  marks_.push_back(text_bytes_ * 2 + (clean() ? 1 : 0));
}

void Detokenizer::step(int32_t id, std::string& out) {
  const Vocabulary& vocabulary = *vocabulary_;
  if (!vocabulary.known(id) || (options_.skip_special_tokens && vocabulary.special(id))) return;
  const std::string_view bytes = vocabulary.bytes(id);
  switch (vocabulary.rule) {
    case DecodeRule::bytes:
      held_.append(bytes);
      if (const size_t before = out.size(); true) {
        append_lossy(held_, out);
        text_bytes_ += static_cast<int64_t>(out.size() - before);
      }
      break;
    case DecodeRule::pieces:
      if (vocabulary.byte(id)) {
        push_byte(bytes, out);
      } else {
        end_run(out);
        if (first_ && vocabulary.first_drops_spaces && !options_.continues_text) {
          std::string kept(bytes);
          kept.erase(std::remove(kept.begin(), kept.end(), ' '), kept.end());
          emit(kept, out);
        } else {
          emit(bytes, out);
        }
      }
      break;
    case DecodeRule::whole: step_whole(out); break;
  }
  first_ = false;
}

void Detokenizer::push_byte(std::string_view byte, std::string& out) {
  if (run_ == Run::none) run_ = Run::held;
  if (run_ == Run::broken) return emit(kReplacement, out);
  held_.append(byte);
  if (run_ == Run::held && (options_.whole_runs || held_.size() <= kRunHeld)) {
    const Utf8Span span = scan_utf8(held_);
    if (span.broken == 0) return;
    // One broken byte decides about the whole run.
    const size_t count = held_.size();
    held_.clear();
    run_ = Run::broken;
    for (size_t i = 0; i < count; ++i) emit(kReplacement, out);
    return;
  }
  run_ = Run::flowing;
  while (true) {
    const Utf8Span span = scan_utf8(held_);
    if (span.valid > 0) emit(std::string_view(held_).substr(0, span.valid), out);
    for (size_t i = 0; i < span.broken; ++i) emit(kReplacement, out);
    held_.erase(0, span.valid + span.broken);
    if (span.broken == 0) break;
  }
}

void Detokenizer::end_run(std::string& out) {
  if (run_ == Run::none) return;
  if (!held_.empty()) {
    std::string text;
    if (find_invalid_utf8(held_) == std::string_view::npos) {
      text.swap(held_);
    } else {
      append_replacements(held_.size(), text);
    }
    held_.clear();
    emit(text, out);
  }
  run_ = Run::none;
}

void Detokenizer::emit(std::string_view text, std::string& out) {
  while (strip_left_ > 0 && !text.empty()) {
    if (text[0] != ' ') {
      strip_left_ = 0;
      break;
    }
    text.remove_prefix(1);
    --strip_left_;
  }
  out.append(text);
  text_bytes_ += static_cast<int64_t>(text.size());
}

// The decoder of the file is not one that can be said per token: decode a short window twice, with
// and without the new tokens, and give out the difference once it ends in a whole character.
void Detokenizer::step_whole(std::string& out) {
  const std::span<const int32_t> all(ids_);
  const auto decode = [&](std::span<const int32_t> ids) {
    auto text = tokenizer_->decode_whole(ids, options_.skip_special_tokens);
    return text.ok() ? std::move(text).value() : std::string();
  };
  const std::string before = decode(all.subspan(window_begin_, window_read_ - window_begin_));
  const std::string now = decode(all.subspan(window_begin_));
  const bool whole = now.size() < kReplacement.size() ||
                     now.compare(now.size() - kReplacement.size(), kReplacement.size(), kReplacement) != 0;
  const bool full = ids_.size() - window_read_ >= kWindowMax;
  if (now.size() <= before.size() || (!whole && !full)) {
    held_ = now.size() > before.size() ? now.substr(before.size()) : std::string();
    return;
  }
  held_.clear();
  const size_t size = out.size();
  out.append(now, before.size());
  text_bytes_ += static_cast<int64_t>(out.size() - size);
  window_begin_ = window_read_;
  window_read_ = ids_.size();
}

void Detokenizer::finish(std::string& out) {
  if (vocabulary_->rule == DecodeRule::pieces) return end_run(out);
  if (held_.empty()) return;
  if (vocabulary_->rule == DecodeRule::bytes) held_ = kReplacement;
  out.append(held_);
  text_bytes_ += static_cast<int64_t>(held_.size());
  held_.clear();
  window_read_ = ids_.size();
}

void Detokenizer::rewind(int64_t tokens) {
  TR_ASSERT(tokens >= 0 && tokens <= this->tokens());
  const auto count = static_cast<size_t>(tokens);
  // The nearest token at which nothing was held and the start of the text was behind: from there the
  // state is known, and the few tokens after it are gone through again.
  size_t from = vocabulary_->rule == DecodeRule::whole ? 0 : count;
  while (from > 0 && ((marks_[from - 1] & 1) == 0 || marks_[from - 1] / 2 == 0)) --from;
  const std::vector<int32_t> again(ids_.begin() + static_cast<std::ptrdiff_t>(from),
                                   ids_.begin() + static_cast<std::ptrdiff_t>(count));
  ids_.resize(from);
  marks_.resize(from);
  restart();
  if (from > 0) {
    text_bytes_ = marks_[from - 1] / 2;
    strip_left_ = 0;
    first_ = false;
  }
  std::string known;
  for (const int32_t id : again) push(id, known);
}

}  // namespace troupe::text
