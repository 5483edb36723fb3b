// The client's side of TRP/1 without sockets, threads or clocks: messages, the fate of the link and
// the time go in; messages go out through Uplink, events into sinks, answers into callbacks. One
// thread drives it: the shell (client.cpp), a simulation or a fuzzer.
//
// INV-WIRE-5: every accepted request gets exactly one terminal event, whatever the link and the
//   server do: it is resumed within the window, or fails with CONNECTION_LOST.
// INV-WIRE-6: what a sink gets of a choice is without gap and without repetition: each delta says
//   where it begins, and one that begins elsewhere costs the link, not the answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/port.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/question_codec.hpp"
#include "wire/request_codec.hpp"

namespace troupe::wire {

// The way to the server, as long as there is one.
class Uplink {
 public:
  virtual ~Uplink() = default;
  virtual void send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) = 0;
  virtual Id128 random_id() = 0;
};

struct ClientConfig {
  std::string endpoint;  // for messages
  std::string name;  // told to the server
  int64_t hello_ns = 5'000'000'000;  // for the WELCOME, before the link is tried anew
  int64_t call_ns = 30'000'000'000;  // for the answer to a question or a SUBMIT
  int64_t patience_ns = 2'000'000'000;  // with a server that says nothing while it owes one
  std::optional<int64_t> resume_ns;  // at most the server's
  uint32_t credit = 64;
};

class ClientCore {
 public:
  enum class State : uint8_t { down, greeting, up };
  using Accepted = std::function<void(const Status&)>;
  using Answered = std::function<void(Result<Answer>)>;

  ClientCore(ClientConfig config, Uplink& uplink);

  // ---- the link, as the shell sees it ----
  void link_up(int64_t now_ns);
  // `nobody_listens`: the other side refused actively, so no server keeps our requests.
  void link_down(const Status& why, bool nobody_listens, int64_t now_ns);
  void receive(std::string_view head, std::string_view body, std::vector<SharedBytes> blobs,
               int64_t now_ns);
  void tick(int64_t now_ns);
  // Sends what was gathered while messages were received.
  void flush();
  // The link is of no use any more: close it, and try again when try_again_ns() has come.
  [[nodiscard]] bool wants_down() const { return wants_down_; }
  [[nodiscard]] int64_t try_again_ns() const { return try_again_ns_; }
  [[nodiscard]] State state() const { return state_; }
  // Set when trying again is of no use (UNAUTHORISED, wrong version).
  [[nodiscard]] const Status& verdict() const { return verdict_; }
  [[nodiscard]] const Status& last_failure() const { return last_failure_; }
  [[nodiscard]] const Welcome& welcome() const { return welcome_; }
  [[nodiscard]] bool welcomed() const { return welcomed_; }
  [[nodiscard]] const Pong& pulse() const { return pulse_; }

  // ---- what the port asks ----
  // `accepted` is called once: with success, and events follow, or with the refusal, and none do.
  void submit(RequestId id, Request request, std::shared_ptr<EventSink> sink, Accepted accepted,
              int64_t now_ns);
  void cancel(RequestId id);
  void cancel_all();
  // Whoever submitted it waits for it no longer: it is cancelled, and its sink hears no more.
  void disown(RequestId id);
  using Write =
      std::function<void(std::string& body, uint64_t call, std::vector<SharedBytes>& blobs)>;
  void ask(Kind kind, const Write& write, Answered answered, int64_t now_ns);
  // Ends everything here and now with this.
  void fail_all(const Status& why);
  void bye();

  // Those whose end somebody waits for.
  [[nodiscard]] size_t in_flight() const;

 private:
  struct Remote {
    RequestId id = 0;
    uint64_t user_data = 0;
    Id128 name{};
    std::shared_ptr<EventSink> sink;
    Accepted accepted;  // empty once it was called
    int64_t asked_ns = 0, due_ns = 0;  // its own time, from the submission
    int64_t submitted_ns = 0;  // all of it sent
    Packed packed;  // until it is accepted
    size_t uploading = 0;
    uint64_t sent = 0, granted = 0;  // of the blob that is being uploaded
    bool admitted = false, cancelled = false, disowned = false;
    std::vector<Position> at;
    uint32_t used = 0;  // deltas since the last credit
    std::vector<float> data;
    uint64_t data_bytes = 0;
  };
  using RemotePtr = std::unique_ptr<Remote>;
  struct Waiting {
    Answered answered;
    int64_t asked_ns = 0;
    uint64_t bytes = 0;
  };

  void welcomed_by(Welcome welcome, int64_t now_ns);
  void refused_by(const Status& why);
  void send_submit(Remote& remote);
  void send_resumes();
  void send_chunks(Remote& remote);
  void take_event(Kind kind, WireEvent& event);
  bool take_delta(Remote& remote, WireEvent& event);
  void take_end(Remote& remote, WireEvent& event);
  void take_data(std::string_view body, const std::vector<SharedBytes>& blobs);
  void take_grant(Note& note);
  void take_answer(std::string_view body, const std::vector<SharedBytes>& blobs);
  void end(Remote& remote, const Status& why);
  void drop_link(const Status& why, int64_t now_ns);
  void fail_questions(const Status& why);
  static int64_t due_ns(const std::optional<int64_t>& deadline_ns, int64_t now_ns);
  static uint64_t bytes_sent(const Remote& remote);
  [[nodiscard]] int64_t silent_ns(int64_t since_ns) const;
  [[nodiscard]] bool gave_no_sign(int64_t since_ns, uint64_t bytes) const;
  [[nodiscard]] Status out_of_patience(const Remote& remote, uint64_t bytes) const;
  void check_submits();
  void check_questions();
  void disown(Remote& remote, const Status& why);
  void check_silence(int64_t now_ns);
  void check_window(int64_t now_ns);
  [[nodiscard]] int64_t interval_ns() const;
  void send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs = {});
  Remote* find(const Id128& name);
  [[nodiscard]] Status lost(const std::string& why) const;

  const ClientConfig config_;
  Uplink& uplink_;
  Id128 client_;
  std::optional<Id128> ticket_;
  std::optional<Id128> server_;

  State state_ = State::down;
  bool wants_down_ = false, welcomed_ = false, nobody_listens_ = false, busy_ = false;
  bool owes_ = false;  // the server: the answer to a SUBMIT or a question
  Status verdict_, last_failure_;
  Welcome welcome_;
  Pong pulse_;
  int64_t state_since_ns_ = 0, heard_ns_ = 0, sent_ns_ = 0, busy_since_ns_ = 0, lost_ns_ = 0;
  int64_t now_ns_ = 0, try_again_ns_ = 0;
  uint32_t failures_ = 0;

  std::unordered_map<Id128, RemotePtr, IdHash> remotes_;
  std::unordered_map<RequestId, Id128> names_;
  std::unordered_map<uint64_t, Waiting> waiting_;
  uint64_t next_call_ = 1;
  std::string credits_, releases_;
};

}  // namespace troupe::wire
