// A stand-in for libtroupe_engine.so: the engine port over one worker thread, free of CAF, so that
// the C ABI can be tested under ThreadSanitizer. It answers as `echo:` does (docs/echo.md): ids are
// bytes, the answer is the raw prompt or the last message. Used by tests only.
//
// INV-STUB-1: events are pushed and terminals decided by the worker alone, outside of the mutex.
#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "base/build_id.hpp"
#include "base/clock.hpp"
#include "base/limits.hpp"
#include "base/port.hpp"
#include "tests/capi/stub_job.hpp"

namespace troupe::stub {
namespace {

class StubPort final : public EnginePort {
 public:
  StubPort(std::string endpoint, const StubOptions &stub, EngineOptions options)
      : endpoint_(std::move(endpoint)), stub_(stub), options_(std::move(options)) {
    worker_ = std::thread([this] { work(); });
  }
  ~StubPort() override { static_cast<void>(close(0)); }

  Result<EngineInfo> info() override {
    EngineInfo i;
    i.model = "echo";
    i.family = "stub";
    i.endpoint = endpoint_;
    i.device = "cpu";
    i.dtype = "u8";
    i.chat_template_origin = "stub";
    i.context_length = options_.context_length > 0 ? options_.context_length : stub_.context_length;
    i.vocab_size = kVocab;
    i.max_sequences = options_.max_sequences;
    i.images_max = limits::images_per_request;
    i.image_pixels_max = limits::image_pixels;
    i.config_json = "{}";
    i.capabilities =
        can::chat | can::see_images | can::take_image_embeddings | can::score | can::keep_sessions;
    return i;
  }

  Result<EngineStats> stats() override {
    const std::scoped_lock lock(mutex_);
    if (closed_) return closed();
    EngineStats s = stats_;
    for (const auto &job : jobs_) ++(job->running ? s.running : s.waiting);
    s.sessions = static_cast<uint32_t>(sessions_.size());
    return s;
  }

  Result<std::string> metrics() override {
    TR_ASSIGN(const EngineStats s, stats());
    return "troupe_requests_done_total " + std::to_string(s.done) + "\n";
  }

  Status set_option(std::string_view key, std::string_view value) override {
    if (key == "log") {  // so that tests can make the engine speak
      log(LogLevel::warn, value);
      return {};
    }
    return unsupported("unknown option \"" + std::string(key) + "\"; known are: log");
  }

  Result<std::vector<int32_t>> tokenize(std::string_view text, bool, bool) override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  Result<std::string> detokenize(std::span<const int32_t> ids, bool) override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 256) text.push_back(static_cast<char>(id));
    }
    return text;
  }

  Result<std::string> render(const Request &request) override {
    std::string text;
    for (const PromptMessage &m : request.messages) text += parts_text(request, m.parts) + "\n";
    return request.messages.empty() ? parts_text(request, request.prompt) : text;
  }

  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override {
    if (request.constraint.kind != ConstraintKind::none) {
      return unsupported("output constraints: the stub has none");
    }
    auto job = std::make_unique<Job>();
    TR_TRY(prepare(request, *job));
    const std::scoped_lock lock(mutex_);
    if (closed_) return closed();
    if (request.session != 0 && !sessions_.contains(request.session)) {
      return Status(Code::not_found, "session " + std::to_string(request.session));
    }
    const auto waiting = std::count_if(jobs_.begin(), jobs_.end(),
                                       [](const auto &other) { return !other->running; });
    if (waiting >= options_.max_waiting) {
      ++stats_.refused;
      return Status(Code::overloaded, "waiting requests: " + std::to_string(waiting) + " of " +
                                          std::to_string(options_.max_waiting));
    }
    job->id = ++last_id_;
    job->request = std::move(request);
    job->sink = std::move(sink);
    job->submitted_ns = steady_now_ns();
    ++stats_.submitted;
    jobs_.push_back(std::move(job));
    changed_.notify_all();
    return last_id_;
  }

  void cancel(RequestId id) override {
    const std::scoped_lock lock(mutex_);
    for (const auto &job : jobs_) job->cancelled |= job->id == id;
    changed_.notify_all();
  }

  Result<uint64_t> session_new(const SessionOptions &) override {
    const std::scoped_lock lock(mutex_);
    if (closed_) return closed();
    sessions_[++last_session_];
    return last_session_;
  }

  Result<uint64_t> session_fork(uint64_t session) override {
    const std::scoped_lock lock(mutex_);
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return Status(Code::not_found, "session");
    sessions_[++last_session_] = std::vector<int32_t>(found->second);
    return last_session_;
  }

  Status session_rewind(uint64_t session, int64_t tokens) override {
    const std::scoped_lock lock(mutex_);
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return Status(Code::not_found, "session");
    if (tokens > std::ssize(found->second)) {
      return invalid("tokens is " + std::to_string(tokens) + ": the session has " +
                     std::to_string(found->second.size()));
    }
    found->second.resize(static_cast<size_t>(tokens));
    return {};
  }

  Result<SessionState> session_info(uint64_t session) override {
    const std::scoped_lock lock(mutex_);
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return Status(Code::not_found, "session");
    const int64_t n = std::ssize(found->second);
    return SessionState{n, n, options_.session_lease_ns};
  }

  void session_free(uint64_t session) override {
    const std::scoped_lock lock(mutex_);
    sessions_.erase(session);
  }

  Status close(int64_t drain_ns) override {
    {
      std::unique_lock lock(mutex_);
      closed_ = true;
      const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(drain_ns);
      changed_.wait_until(lock, until, [&] { return jobs_.empty(); });
      for (const auto &job : jobs_) job->cancelled = true;
      quit_ = true;
      changed_.notify_all();
    }
    const std::scoped_lock lock(joining_);
    if (worker_.joinable()) worker_.join();
    return {};
  }

 private:
  Status closed() const { return {Code::closed, "engine " + endpoint_ + " was closed"}; }

  Status prepare(const Request &request, Job &job) const {
    if (!request.messages_json.empty())
      return unsupported("messages as JSON: the stub has no JSON");
    const std::string answer = request.messages.empty()
                                   ? parts_text(request, request.prompt)
                                   : parts_text(request, request.messages.back().parts);
    for (const char c : answer) job.answer.push_back(static_cast<unsigned char>(c));
    job.prompt = job.answer;
    if (std::ssize(job.prompt) > stub_.context_length) {
      return limit_exceeded("prompt tokens: " + std::to_string(job.prompt.size()) + " of at most " +
                            std::to_string(stub_.context_length));
    }
    job.choices.resize(static_cast<size_t>(request.sampling.n));
    job.usage.prompt_tokens = std::ssize(job.prompt);
    return {};
  }

  // ---- the worker ----
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return quit_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      std::vector<std::pair<Job *, bool>> batch = admit();
      lock.unlock();
      if (stub_.step_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(stub_.step_ns));
      std::vector<Job *> finished;
      for (const auto &[job, cancelled] : batch) {
        if (step(*job, cancelled)) finished.push_back(job);
      }
      ++steps_;
      lock.lock();
      retire(finished);
    }
  }

  // The jobs of this step, and whether each has been cancelled.
  std::vector<std::pair<Job *, bool>> admit() {
    std::vector<std::pair<Job *, bool>> batch;
    int32_t running = 0;
    for (const auto &job : jobs_) {
      const bool fresh = !job->running;
      if (running >= options_.max_sequences && fresh && !job->cancelled && !late(*job)) continue;
      ++running;
      job->running = true;
      batch.emplace_back(job.get(), job->cancelled);
    }
    return batch;
  }

  static bool late(const Job &job) {
    return job.request.deadline_ns && steady_now_ns() - job.submitted_ns > *job.request.deadline_ns;
  }

  bool step(Job &job, bool cancelled) {
    if (cancelled) return end(job, EventKind::cancelled, {});
    if (late(job)) {
      return end(job, EventKind::failed, Status(Code::deadline, "the request's deadline passed"));
    }
    if (stub_.fail_step >= 0 && steps_ >= stub_.fail_step) {
      return end(job, EventKind::failed, Status(Code::device_failed, "injected failure"));
    }
    if (job.first_token_ns == 0) {
      job.first_token_ns = steady_now_ns();
      Event admitted;
      admitted.kind = EventKind::admitted;
      job.send(std::move(admitted));
    }
    bool more = false;
    for (size_t i = 0; i < job.choices.size(); ++i) {
      if (job.choices[i].finish == FinishReason::none) more |= job.speak(i, stub_.context_length);
    }
    return more ? false : end(job, EventKind::done, {});
  }

  bool end(Job &job, EventKind kind, Status status) {
    Event event;
    event.kind = kind;
    event.status = std::move(status);
    event.finish = kind == EventKind::cancelled ? FinishReason::cancelled
                   : kind == EventKind::failed  ? FinishReason::error
                                                : FinishReason::none;
    event.timings = {job.first_token_ns > 0 ? job.first_token_ns - job.submitted_ns : 0,
                     job.first_token_ns > 0 ? job.first_token_ns - job.submitted_ns : 0,
                     steady_now_ns() - job.submitted_ns};
    remember(job, kind);
    job.send(std::move(event));
    return true;
  }

  void remember(const Job &job, EventKind kind) {
    const std::scoped_lock lock(mutex_);
    ++(kind == EventKind::done     ? stats_.done
       : kind == EventKind::failed ? stats_.failed
                                   : stats_.cancelled);
    stats_.completion_tokens += static_cast<uint64_t>(job.usage.completion_tokens);
    const auto session = sessions_.find(job.request.session);
    if (session == sessions_.end()) return;
    auto &held = session->second;
    held.insert(held.end(), job.prompt.begin(), job.prompt.end());
    held.insert(held.end(), job.answer.begin(),
                job.answer.begin() +
                    static_cast<std::ptrdiff_t>(std::min(job.choices[0].made, job.answer.size())));
  }

  void retire(const std::vector<Job *> &finished) {
    std::vector<std::unique_ptr<Job>> gone;
    for (auto &job : jobs_) {
      if (std::find(finished.begin(), finished.end(), job.get()) != finished.end()) {
        gone.push_back(std::move(job));
      }
    }
    std::erase_if(jobs_, [](const auto &job) { return job == nullptr; });
    if (jobs_.empty()) changed_.notify_all();
  }

  const std::string endpoint_;
  const StubOptions stub_;
  const EngineOptions options_;
  std::mutex mutex_, joining_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Job>> jobs_;
  std::map<uint64_t, std::vector<int32_t>> sessions_;
  EngineStats stats_;
  RequestId last_id_ = 0;
  uint64_t last_session_ = 0;
  int64_t steps_ = 0;
  bool closed_ = false, quit_ = false;
  std::thread worker_;
};

Result<std::unique_ptr<EnginePort>> open_stub(const std::string &endpoint,
                                              const EngineOptions &options, LoadProgress progress) {
  TR_ASSIGN(const StubOptions stub, parse(endpoint));
  constexpr int kPhases = 20;
  for (int i = 0; i < kPhases; ++i) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(stub.load_ns / kPhases));
    if (progress && !progress("weights", static_cast<double>(i + 1) / kPhases)) {
      return Status(Code::closed, "loading was given up");
    }
  }
  return std::unique_ptr<EnginePort>(std::make_unique<StubPort>(endpoint, stub, options));
}

Result<std::string> inspect_stub(const std::string &folder, const EngineOptions &) {
  TR_TRY(parse(folder).status());
  return std::string("{\"family\": \"stub\"}");
}

[[maybe_unused]] constexpr const char *kForeignBuildId = "foreign-build";
#ifndef TROUPE_STUB_BUILD_ID
#define TROUPE_STUB_BUILD_ID build_id()
#endif
const char *own_build_id() {
  return TROUPE_STUB_BUILD_ID;
}

}  // namespace
}  // namespace troupe::stub

extern "C" __attribute__((visibility("default"))) const troupe::EnginePlugin *
troupe_engine_plugin() {
  using namespace troupe;
  static const EnginePlugin plugin{stub::own_build_id(), stub::open_stub, stub::inspect_stub,
                                   set_log_forward, nullptr};
  return &plugin;
}
