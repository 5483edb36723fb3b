// One request as the server keeps it: everything that the engine said so far, and how far its
// reader has come.
//
// The log is the buffer: a reader without credit only falls behind in it, so its next delta is
// larger, nothing is held twice, and no push ever waits. The engine's threads call push(); all else
// belongs to the I/O thread.
// INV-WIRE-2: tokens and text of a choice are read in order, each once, from wherever the reader
// was put; its end is read after all of them, once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/request.hpp"
#include "wire/event_codec.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

class Stream;

// Streams with news, on their way to the I/O thread. Outlives the server while an engine still
// holds a stream.
class ReadyList {
 public:
  virtual ~ReadyList() = default;
  void add(std::shared_ptr<Stream> stream);
  // Swaps what is there into `to`, which is emptied first.
  void take(std::vector<std::shared_ptr<Stream>>& to);
  // Nobody will take any more: what is there and what comes is dropped.
  void close();

 protected:
  virtual void wake() {}  // called once per take, from the thread that adds

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<Stream>> streams_;
  bool woken_ = false, closed_ = false;
};

// Where deltas and ends are written: the bodies of the messages to one peer.
struct Bodies {
  std::string accepted, grants, admitted, deltas, done, cancelled, failed;
};

class Stream final : public EventSink, public std::enable_shared_from_this<Stream> {
 public:
  Stream(const Id128& id, std::shared_ptr<ReadyList> ready) : id_(id), ready_(std::move(ready)) {}

  void push(Event&& event) override;

  // ---- the I/O thread ----
  [[nodiscard]] const Id128& id() const { return id_; }
  void grant(uint32_t n);
  // Puts the reader somewhere; a position beyond what there is, or inside a character, is refused.
  Status rewind(std::span<const Position> from, uint32_t credit);
  // Writes what the reader lacks, as far as its credit goes. False: there is more to write at once.
  bool pull(Bodies& to);
  // A piece of the embedding that goes before the end; false: there is none (left).
  bool pull_data(std::string& body, SharedBytes& piece);
  [[nodiscard]] bool end_read() const { return end_read_; }
  // The engine has said its end, read or not.
  [[nodiscard]] bool ended() const;
  // If it ends by being cancelled, then for this reason.
  void explain_cancelling(const Status& why);
  // Bytes of its log.
  [[nodiscard]] size_t bytes() const;

  // What the server knows of it.
  struct Client* client = nullptr;  // null: nobody will read it any more
  RequestId engine_id = 0;  // 0: not submitted yet
  bool accepted = false;  // its client was told so, or will be when it is back
  uint64_t places = 0;  // sequences that it has in the engine
  uint64_t blob_bytes = 0;  // counted against its client while it runs
  bool waits = false;  // it is in a list of those to be read again
  int64_t ended_ns = 0;

 private:
  struct Choice {
    std::vector<int32_t> tokens;
    std::string text, stop_text;
    std::vector<float> logprobs;
    LogprobTable top_logprobs;
    FinishReason finish = FinishReason::none;
    int32_t stop_token = -1;
    // the reader
    size_t tokens_read = 0, text_read = 0;
    bool finish_read = false;
    [[nodiscard]] bool behind() const {
      return tokens_read < tokens.size() || text_read < text.size() ||
             (finish != FinishReason::none && !finish_read);
    }
  };

  void append(Event& event);
  void write_choice(std::string& to, int32_t index, Choice& choice);
  Choice& choice_at(int32_t index);

  const Id128 id_;
  const std::shared_ptr<ReadyList> ready_;

  mutable std::mutex mutex_;  // guards the log
  std::vector<Choice> choices_;
  LogprobTable prompt_logprobs_;
  Usage usage_;
  bool admitted_ = false, ended_ = false;
  std::shared_ptr<Event> end_;
  Status cancelled_because_;
  bool queued_ = false;

  uint32_t credit_ = 0;
  uint64_t seq_ = 0;
  size_t data_read_ = 0;
  bool admitted_read_ = false, prompt_read_ = false, end_read_ = false;
};

}  // namespace troupe::wire
