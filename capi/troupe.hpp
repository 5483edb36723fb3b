// troupe.hpp - the C++ face of troupe.h: handles that free themselves, errors that are thrown,
// ranges of events. C++17, header-only, and nothing in it but calls of the C ABI.
//
//     troupe::Engine engine("path/to/model");
//     for (const troupe::Event& event : engine.stream(troupe::Request().user("Why is the sky
//     blue?")))
//       std::cout << event.text() << std::flush;
//
// Rules of troupe.h hold: an Engine, Queue or Session may be used from many threads, a Request from
// one at a time. Handles move and do not copy.
#ifndef TROUPE_HPP
#define TROUPE_HPP

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "troupe.h"

namespace troupe {

// What a failed call throws: troupe_error, by value.
class Error : public std::runtime_error {
 public:
  Error(int32_t code, bool retryable, const char* message)
      : std::runtime_error(message), code_(code), retryable_(retryable) {}
  int32_t code() const noexcept { return code_; }  // TROUPE_ERROR_...
  const char* name() const noexcept { return troupe_error_name(code_); }
  bool retryable() const noexcept { return retryable_; }

 private:
  int32_t code_;
  bool retryable_;
};

// Throws what a C call answered, if it failed.
inline void check(troupe_error* error) {
  if (error == nullptr) return;
  const std::unique_ptr<troupe_error, decltype(&troupe_error_free)> owned(error, troupe_error_free);
  throw Error(troupe_error_code(error), troupe_error_retryable(error) != 0,
              troupe_error_message(error));
}

namespace detail {
template <auto free>
struct Free {
  template <class T>
  void operator()(T* handle) const noexcept {
    free(handle);
  }
};
template <class T, auto free>
using Handle = std::unique_ptr<T, Free<free>>;
}  // namespace detail

// A result of variable size.
class Bytes {
 public:
  explicit Bytes(troupe_bytes* bytes) : bytes_(bytes) {}
  std::string_view text() const noexcept {
    return {static_cast<const char*>(bytes_->data), bytes_->size};
  }
  std::vector<int32_t> tokens() const {
    const auto* first = static_cast<const int32_t*>(bytes_->data);
    return {first, first + bytes_->size / sizeof(int32_t)};
  }

 private:
  detail::Handle<troupe_bytes, troupe_bytes_free> bytes_;
};

// A view of one event, valid while its Events live.
class Event {
 public:
  explicit Event(const troupe_event* event) : event_(event) {}
  const troupe_event* operator->() const noexcept { return event_; }
  int32_t kind() const noexcept { return event_->kind; }
  bool terminal() const noexcept { return TROUPE_IS_TERMINAL(event_->kind); }
  std::string_view text() const noexcept { return {event_->text, event_->text_size}; }
  std::string_view stop_text() const noexcept {
    return {event_->stop_text, event_->stop_text_size};
  }
  // Throws the error of a FAILED event.
  void check() const {
    if (event_->kind != TROUPE_EVENT_FAILED) return;
    throw Error(troupe_error_code(event_->error), troupe_error_retryable(event_->error) != 0,
                troupe_error_message(event_->error));
  }

 private:
  const troupe_event* event_;
};

// What one wait brought: a range of Event.
class Events {
 public:
  explicit Events(troupe_events* events = nullptr) : events_(events) {}

  class iterator {
   public:
    using value_type = Event;
    using difference_type = std::ptrdiff_t;
    iterator(const troupe_events* events, uint32_t at) : events_(events), at_(at) {}
    Event operator*() const { return Event(TROUPE_EVENT(events_, at_)); }
    iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator==(const iterator& other) const noexcept { return at_ == other.at_; }
    bool operator!=(const iterator& other) const noexcept { return at_ != other.at_; }

   private:
    const troupe_events* events_;
    uint32_t at_;
  };

  uint32_t size() const noexcept { return TROUPE_COUNT(events_); }
  bool empty() const noexcept { return size() == 0; }
  Event operator[](uint32_t i) const { return Event(TROUPE_EVENT(events_, i)); }
  iterator begin() const noexcept { return {events_.get(), 0}; }
  iterator end() const noexcept { return {events_.get(), size()}; }

 private:
  detail::Handle<troupe_events, troupe_events_free> events_;
};

class Queue {
 public:
  Queue() {
    troupe_queue* queue = nullptr;
    troupe::check(troupe_queue_new(&queue));
    queue_.reset(queue);
  }
  // One that takes turns with the others made so: for a thread for each request.
  Queue in_turn() const {
    troupe_queue* queue = nullptr;
    troupe::check(troupe_queue_new_in_turn(get(), &queue));
    return Queue(queue);
  }
  troupe_queue* get() const noexcept { return queue_.get(); }
  int fd() const noexcept { return troupe_queue_fd(queue_.get()); }
  void wake() noexcept { troupe_queue_wake(queue_.get()); }
  // Waits for ever, or for a time; empty when nothing came.
  Events wait(uint32_t max = 0) { return wait_ns(-1, max); }
  Events wait_for(std::chrono::nanoseconds time, uint32_t max = 0) {
    return wait_ns(time.count() < 0 ? 0 : time.count(), max);
  }

 private:
  explicit Queue(troupe_queue* queue) : queue_(queue) {}
  Events wait_ns(int64_t timeout_ns, uint32_t max) {
    troupe_events* events = nullptr;
    troupe::check(troupe_queue_wait(queue_.get(), timeout_ns, max, &events));
    return Events(events);
  }
  detail::Handle<troupe_queue, troupe_queue_free> queue_;
};

// The structs of troupe.h, initialised.
struct EngineOptions : troupe_engine_options {
  EngineOptions() { troupe_engine_options_init(this, sizeof(troupe_engine_options)); }
};
struct Sampling : troupe_sampling {
  Sampling() { troupe_sampling_init(this, sizeof(troupe_sampling)); }
};
struct Image : troupe_image {
  Image() { troupe_image_init(this, sizeof(troupe_image)); }
  // The bytes of an image file.
  Image(const void* bytes, size_t byte_count) : Image() {
    data = bytes;
    size = byte_count;
  }
};

class Engine;

// A conversation whose work is kept.
class Session {
 public:
  explicit Session(const Engine& engine, int64_t lease_ns = TROUPE_UNSET);
  Session fork() const {
    troupe_session* other = nullptr;
    troupe::check(troupe_session_fork(session_.get(), &other));
    return Session(other);
  }
  void rewind(int64_t tokens) { troupe::check(troupe_session_rewind(session_.get(), tokens)); }
  troupe_session_state info() const {
    troupe_session_state state{};
    state.struct_size = sizeof state;
    troupe::check(troupe_session_info(session_.get(), &state));
    return state;
  }
  troupe_session* get() const noexcept { return session_.get(); }

 private:
  explicit Session(troupe_session* session) : session_(session) {}
  detail::Handle<troupe_session, troupe_session_free> session_;
};

// A builder: each call adds to the request and returns it.
class Request {
 public:
  Request() {
    troupe_request* request = nullptr;
    troupe::check(troupe_request_new(&request));
    request_.reset(request);
  }
  explicit Request(std::string_view prompt) : Request() { text(prompt); }

  Request& clear() { return did(troupe_request_clear(get())); }
  Request& message(int32_t role) { return did(troupe_request_message(get(), role)); }
  Request& system(std::string_view said) { return message(TROUPE_ROLE_SYSTEM).text(said); }
  Request& user(std::string_view said) { return message(TROUPE_ROLE_USER).text(said); }
  Request& assistant(std::string_view said) { return message(TROUPE_ROLE_ASSISTANT).text(said); }
  Request& text(std::string_view part) {
    return did(troupe_request_text(get(), part.data(), part.size()));
  }
  Request& tokens(const std::vector<int32_t>& ids) {
    return did(troupe_request_tokens(get(), ids.data(), ids.size()));
  }
  Request& image(const troupe_image& image) { return did(troupe_request_image(get(), &image)); }
  Request& sampling(const troupe_sampling& s) { return did(troupe_request_sampling(get(), &s)); }
  Request& messages(std::string_view json) {
    return did(troupe_request_messages(get(), json.data(), json.size()));
  }
  Request& tools(std::string_view json) {
    return did(troupe_request_tools(get(), json.data(), json.size()));
  }
  Request& documents(std::string_view json) {
    return did(troupe_request_documents(get(), json.data(), json.size()));
  }
  Request& template_kwargs(std::string_view json) {
    return did(troupe_request_template_kwargs(get(), json.data(), json.size()));
  }
  Request& constraint(int32_t kind, std::string_view grammar) {
    return did(troupe_request_constraint(get(), kind, grammar.data(), grammar.size()));
  }
  Request& session(const Session& session) {
    return did(troupe_request_session(get(), session.get()));
  }
  Request& option(const char* key, const std::string& value) {
    return did(troupe_request_option(get(), key, value.c_str()));
  }
  troupe_request* get() const noexcept { return request_.get(); }

 private:
  Request& did(troupe_error* error) {
    troupe::check(error);
    return *this;
  }
  detail::Handle<troupe_request, troupe_request_free> request_;
};

// The events of one request, one by one, until its terminal event; a FAILED one throws. Leaving
// early cancels the request. Not to be moved while it is being iterated.
class Stream {
 public:
  Stream(troupe_engine* engine, const Request& request) : engine_(engine) {
    troupe::check(troupe_submit(engine, request.get(), queue_.get(), 0, &id_));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (!over_) troupe_cancel(engine_, id_);
  }
  uint64_t id() const noexcept { return id_; }

  class iterator {
   public:
    explicit iterator(Stream* stream) : stream_(stream) {}
    Event operator*() const { return stream_->events_[stream_->at_]; }
    iterator& operator++() {
      if (!stream_->next()) stream_ = nullptr;
      return *this;
    }
    bool operator!=(const iterator& other) const noexcept { return stream_ != other.stream_; }

   private:
    Stream* stream_;
  };
  iterator begin() { return iterator(next() ? this : nullptr); }
  iterator end() { return iterator(nullptr); }

 private:
  bool next() {
    if (over_) return false;
    if (++at_ >= events_.size()) {
      do events_ = queue_.wait();
      while (events_.empty());
      at_ = 0;
    }
    const Event event = events_[at_];
    over_ = event.terminal();
    event.check();
    return true;
  }

  Queue queue_;
  troupe_engine* engine_;
  uint64_t id_ = 0;
  Events events_;
  uint32_t at_ = 0;
  bool over_ = false;
};

// The whole of an answer (choice 0).
struct Answer {
  std::string text;
  std::vector<int32_t> tokens;
  int32_t finish_reason = TROUPE_FINISH_NONE;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};

class Engine {
 public:
  explicit Engine(const std::string& endpoint,
                  const troupe_engine_options& options = EngineOptions()) {
    troupe_engine* engine = nullptr;
    troupe::check(troupe_engine_open(endpoint.c_str(), &options, &engine));
    engine_.reset(engine);
  }
  troupe_engine* get() const noexcept { return engine_.get(); }
  void close(int64_t drain_ns = 0) { troupe::check(troupe_engine_close(get(), drain_ns)); }

  uint64_t submit(const Request& request, Queue& queue, uint64_t user_data = 0) {
    uint64_t id = 0;
    troupe::check(troupe_submit(get(), request.get(), queue.get(), user_data, &id));
    return id;
  }
  void cancel(uint64_t id) noexcept { troupe_cancel(get(), id); }
  Stream stream(const Request& request) { return Stream(get(), request); }
  Answer generate(const Request& request) {
    Answer answer;
    for (const Event& event : stream(request)) {
      answer.finish_reason = event->finish_reason;
      answer.prompt_tokens = event->prompt_tokens;
      answer.cached_tokens = event->cached_tokens;
      answer.completion_tokens = event->completion_tokens;
      if (event->index != 0) continue;
      answer.text += event.text();
      if (event->n_tokens == 0) continue;
      answer.tokens.insert(answer.tokens.end(), event->tokens, event->tokens + event->n_tokens);
    }
    return answer;
  }

  std::vector<int32_t> tokenize(std::string_view text, uint32_t flags = 0) const {
    troupe_bytes* out = nullptr;
    troupe::check(troupe_tokenize(get(), text.data(), text.size(), flags, &out));
    return Bytes(out).tokens();
  }
  std::string detokenize(const std::vector<int32_t>& tokens, uint32_t flags = 0) const {
    troupe_bytes* out = nullptr;
    troupe::check(troupe_detokenize(get(), tokens.data(), tokens.size(), flags, &out));
    return std::string(Bytes(out).text());
  }
  std::string render(const Request& request) const {
    troupe_bytes* out = nullptr;
    troupe::check(troupe_render(get(), request.get(), &out));
    return std::string(Bytes(out).text());
  }
  std::string metrics() const {
    troupe_bytes* out = nullptr;
    troupe::check(troupe_engine_metrics(get(), &out));
    return std::string(Bytes(out).text());
  }
  troupe_info info() const {
    troupe_info info{};
    info.struct_size = sizeof info;
    troupe::check(troupe_engine_info(get(), &info));
    return info;
  }
  troupe_stats stats() const {
    troupe_stats stats{};
    stats.struct_size = sizeof stats;
    troupe::check(troupe_engine_stats(get(), &stats));
    return stats;
  }

 private:
  detail::Handle<troupe_engine, troupe_engine_free> engine_;
};

inline Session::Session(const Engine& engine, int64_t lease_ns) {
  troupe_session_options options;
  troupe_session_options_init(&options, sizeof options);
  options.lease_ns = lease_ns;
  troupe_session* session = nullptr;
  troupe::check(troupe_session_new(engine.get(), &options, &session));
  session_.reset(session);
}

}  // namespace troupe

#endif
