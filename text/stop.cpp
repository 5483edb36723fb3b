#include "text/stop.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "text/utf8.hpp"

namespace troupe::text {
namespace {

Status check(const StopOptions& options) {
  if (options.stops.size() > static_cast<size_t>(limits::stop_strings)) {
    return limit_exceeded("stop: " + std::to_string(options.stops.size()) +
                          " stop strings; the limit is " + std::to_string(limits::stop_strings));
  }
  for (size_t i = 0; i < options.stops.size(); ++i) {
    const std::string& stop = options.stops[i];
    const std::string where = "stop[" + std::to_string(i) + "]";
    if (stop.empty()) return invalid(where + " is empty; leave it out");
    if (stop.size() > limits::stop_string_bytes) {
      return limit_exceeded(where + " has " + std::to_string(stop.size()) + " bytes; the limit is " +
                            std::to_string(limits::stop_string_bytes));
    }
    if (find_invalid_utf8(stop) != std::string_view::npos) return invalid(where + " is not valid UTF-8");
  }
  return ok_status();
}

// fallback[k]: the longest proper border of the first k + 1 bytes.
std::vector<uint32_t> fallback_of(const std::string& text) {
  std::vector<uint32_t> fallback(text.size(), 0);
  uint32_t border = 0;
  for (size_t k = 1; k < text.size(); ++k) {
    while (border > 0 && text[k] != text[border]) border = fallback[border - 1];
    if (text[k] == text[border]) ++border;
    fallback[k] = border;
  }
  return fallback;
}

}  // namespace

Result<StopMatcher> StopMatcher::create(StopOptions options) {
  TR_TRY(check(options));
  StopMatcher matcher;
  matcher.include_stop_ = options.include_stop;
  matcher.min_tokens_ = options.min_tokens;
  for (std::string& stop : options.stops) {
    Needle needle;
    needle.fallback = fallback_of(stop);
    needle.text = std::move(stop);
    matcher.needles_.push_back(std::move(needle));
  }
  return matcher;
}

// Advances every needle by one byte; the longest one that is complete with it, or null.
const StopMatcher::Needle* StopMatcher::feed(char c) {
  const Needle* complete = nullptr;
  for (Needle& needle : needles_) {
    uint32_t& matched = needle.matched;
    while (matched > 0 && needle.text[matched] != c) matched = needle.fallback[matched - 1];
    if (needle.text[matched] == c) ++matched;
    if (matched < needle.text.size()) continue;
    if (complete == nullptr || needle.text.size() > complete->text.size()) complete = &needle;
    matched = needle.fallback[matched - 1];
  }
  return complete;
}

void StopMatcher::release(size_t bytes, std::string& out) {
  out.append(held_, 0, bytes);
  held_.erase(0, bytes);
  released_ += static_cast<int64_t>(bytes);
}

const StopMatch* StopMatcher::push(std::string_view text, int64_t tokens, std::string& out) {
  if (match_) return &*match_;
  const size_t before = held_.size();
  held_.append(text);
  if (needles_.empty() || tokens <= min_tokens_) {
    release(held_.size(), out);
    return nullptr;
  }
  for (size_t at = before; at < held_.size(); ++at) {
    const Needle* complete = feed(held_[at]);
    if (complete == nullptr) continue;
    const size_t end = at + 1;
    release(include_stop_ ? end : end - complete->text.size(), out);
    held_.clear();
    match_ = StopMatch{static_cast<int32_t>(complete - needles_.data()), tokens, released_};
    return &*match_;
  }
  uint32_t keep = 0;
  for (const Needle& needle : needles_) keep = std::max(keep, needle.matched);
  release(held_.size() - keep, out);
  return nullptr;
}

void StopMatcher::finish(std::string& out) {
  if (!match_) release(held_.size(), out);
}

}  // namespace troupe::text
