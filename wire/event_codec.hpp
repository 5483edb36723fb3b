// Events as maps. Writing takes what a delta or an end is made of; reading gives base/request.hpp's
// Event back.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/request.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

// What one choice has more than its reader, as views: nothing is copied before it is written.
struct DeltaView {
  int32_t index = 0;
  int64_t from = 0, text_from = 0;
  std::span<const int32_t> tokens;
  std::string_view text;
  std::span<const float> logprobs;
  std::span<const std::vector<TokenLogprob>> top_logprobs;
  const LogprobTable* prompt_logprobs = nullptr;
  FinishReason finish = FinishReason::none;  // with the choice's last delta
  int32_t stop_token = -1;
  std::string_view stop_text;
  Usage usage;
};
void write_delta(std::string& body, const Id128& id, uint64_t seq, const DeltaView& delta);

// DONE, CANCELLED or FAILED, by end.kind; the bytes of end.data travel in DATA messages before it.
void write_end(std::string& body, const Id128& id, uint64_t seq, const Event& end);
// The end of a request that never ran.
Event end_of(const Status& why);
// ACCEPTED and ADMITTED.
void write_id(std::string& body, const Id128& id);
// CREDIT.
void write_credit(std::string& body, const Id128& id, uint32_t n);
// DATA: a piece of the embedding; its bytes are the message's blob.
void write_data(std::string& body, const Id128& id, uint64_t offset);
// BLOB and GRANT: a piece of an upload, and leave to send more.
void write_blob(std::string& body, const Id128& id, uint64_t blob, uint64_t offset);
void write_grant(std::string& body, const Id128& id, uint64_t blob, uint64_t bytes);

// How far a reader has come in one choice.
struct Position {
  uint64_t tokens = 0, text_bytes = 0;
};
void write_resume(std::string& body, const Id128& id, std::span<const Position> from,
                  uint32_t credit);

// Any of the maps above, back.
struct Note {
  Id128 id{};
  uint64_t n = 0;  // credit
  uint64_t blob = 0, offset = 0, bytes = 0;
  std::vector<Position> from;  // RESUME
  uint32_t credit = kDefaultCredit;
};
struct WireEvent {
  Id128 id{};
  uint64_t seq = 0;
  int64_t text_from = 0;
  Event event;
};
// Calls `take` for every map of the body; the failure is that of the first map that cannot be read,
// and those before it have been taken. Of notes, what comes after the first `most` is ignored.
Status read_notes(Kind kind, std::string_view body, const std::function<void(Note&)>& take,
                  size_t most = static_cast<size_t>(-1));
Status read_events(Kind kind, std::string_view body, const std::function<void(WireEvent&)>& take);

}  // namespace troupe::wire
