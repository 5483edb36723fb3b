// Questions about an engine or its sessions, and their replies.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/port.hpp"
#include "wire/control.hpp"
#include "wire/protocol.hpp"
#include "wire/request_codec.hpp"

namespace troupe::wire {

struct Question {
  Kind kind = Kind::stats;
  uint64_t call = 0;
  std::string text;
  uint64_t flags = 0;
  std::optional<uint64_t> tokens_blob;  // of DETOKENIZE
  RequestDraft draft;  // of RENDER; its blobs are the message's
  uint64_t session = 0;
  std::optional<int64_t> lease_ns;
  int64_t n_tokens = 0;  // of SESSION_REWIND
};
Result<Question> read_question(Kind kind, std::string_view body, const Limits& limits);
// The number of the question alone: for a reply when the rest cannot be read.
std::optional<uint64_t> call_of(std::string_view body);

struct Answer {
  uint64_t call = 0;
  Status status;
  std::string text;  // METRICS, DETOKENIZE, RENDER
  std::optional<std::vector<int32_t>> tokens;  // TOKENIZE: travels as blob 0
  std::optional<EngineStats> stats;
  std::optional<uint64_t> session;
  std::optional<SessionState> state;
};
void write_answer(std::string& body, const Answer& answer);  // tokens: without the blob itself
// With the message's blobs behind it.
Result<Answer> read_answer(std::string_view body, std::span<const SharedBytes> blobs);

// The questions, as a client writes them.
void write_plain(std::string& body, uint64_t call);
void write_tokenize(std::string& body, uint64_t call, std::string_view text, uint64_t flags);
void write_detokenize(std::string& body, uint64_t call, uint64_t flags);
void write_render(std::string& body, uint64_t call, const Request& request,
                  std::vector<SharedBytes>& blobs);
void write_session_new(std::string& body, uint64_t call, const SessionOptions& options);
void write_session(std::string& body, uint64_t call, uint64_t session,
                   std::optional<int64_t> tokens = {});

}  // namespace troupe::wire
