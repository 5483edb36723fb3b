// troupe batch: a file of requests in OpenAI's batch format, answered in the order of its lines.

#include <malloc.h>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/sink.hpp"
#include "cli/source.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "openai/answer.hpp"
#include "openai/batch_line.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

// What a line needs is made by one thread and dropped by another, between what others still hold:
// the free pieces of the heaps go back to the system each time so many lines are written, or they
// would grow for hours.
constexpr size_t kTidyLines = 512;

// One line of the input, from reading to writing. Stays where it is: answers refer to calls.
struct Job {
  std::string custom_id, id;
  std::unique_ptr<openai::Call> call;
  std::unique_ptr<openai::Answer> answer;
  std::optional<openai::ApiError> error;
  size_t submitted = 0;  // of the call's requests

  [[nodiscard]] bool finished() const { return error.has_value() || answer->finished(); }
};

struct Batch {
  EngineFlags engine;
  std::string input, output;
  int in_flight_most = 1024;

  std::deque<std::unique_ptr<Job>> jobs;  // read, not yet written; front is the next to write
  struct Place {
    Job* job;
    size_t request;
  };
  std::unordered_map<uint64_t, Place> running;  // by user_data
  uint64_t next_key = 1;
  size_t line_number = 0, read = 0, written = 0, failed = 0;
  int64_t completion_tokens = 0;

  int run(Interrupt& interrupt);
  int work(troupe_engine* handle, Source& in, Sink& sink, Interrupt& interrupt);
  [[nodiscard]] bool has_room() const;  // for another line
  bool accept(troupe_engine* handle, Source& in);  // a line that is there; false: none, or no room
  void accept_line(const std::string& line, troupe_engine* handle);
  bool submit_next(troupe_engine* handle,
                   troupe_queue* queue);  // false: nothing to submit, or not now
  void submit_all(troupe_engine* handle, troupe_queue* queue);  // as many as may be in flight
  void hear(troupe_queue* queue);
  bool write_finished(Sink& sink);
  void show(ProgressBar& bar, bool more, double seconds) const;
};

void Batch::accept_line(const std::string& line, troupe_engine* handle) {
  auto job = std::make_unique<Job>();
  openai::BatchLine parsed = openai::parse_batch_line(line);
  job->id = "batch_req_" + std::to_string(++read);
  job->custom_id = parsed.custom_id;
  if (auto* error = std::get_if<openai::ApiError>(&parsed.call)) {
    error->message = "line " + std::to_string(line_number) + ": " + error->message;
    job->error = std::move(*error);
  } else {
    job->call = std::make_unique<openai::Call>(std::move(std::get<openai::Call>(parsed.call)));
    const std::string model = job->call->model.empty() ? engine.model : job->call->model;
    job->answer =
        std::make_unique<openai::Answer>(*job->call, handle, job->id, model, std::time(nullptr));
  }
  jobs.push_back(std::move(job));
}

bool Batch::submit_next(troupe_engine* handle, troupe_queue* queue) {
  const auto waiting = std::find_if(jobs.begin(), jobs.end(), [](const auto& job) {
    return job->call && !job->error && job->submitted < job->call->requests();
  });
  if (waiting == jobs.end()) return false;
  Job& job = **waiting;
  troupe_request* request_handle = nullptr;
  Error error(troupe_request_new(&request_handle));
  const Request request(request_handle);
  if (!error) error.reset(job.call->fill(job.submitted, request.get()));
  const uint64_t key = next_key++;
  if (!error) error.reset(troupe_submit(handle, request.get(), queue, key, nullptr));
  if (error && troupe_error_code(error.get()) == TROUPE_ERROR_OVERLOADED && !running.empty()) {
    return false;  // the engine is full: wait for what runs
  }
  const size_t index = job.submitted++;
  if (error) {
    job.answer->refuse(index, error.get());
  } else {
    running[key] = {&job, index};
  }
  return true;
}

void Batch::submit_all(troupe_engine* handle, troupe_queue* queue) {
  while (running.size() < static_cast<size_t>(in_flight_most) && submit_next(handle, queue)) {
  }
}

void Batch::hear(troupe_queue* queue) {
  troupe_events* list = nullptr;
  const Error error(troupe_queue_wait(queue, 0, 0, &list));
  const Events events(list);
  for (uint32_t i = 0; i < TROUPE_COUNT(list); ++i) {
    const troupe_event& event = *TROUPE_EVENT(list, i);
    const auto place = running.find(event.user_data);
    if (place == running.end()) continue;
    place->second.job->answer->take(place->second.request, event);
    if (!TROUPE_IS_TERMINAL(event.kind)) continue;
    completion_tokens += event.completion_tokens;
    running.erase(place);
  }
}

// A call is finished when each of its requests is; a failed one still has to hear of the others.
// What is finished is in its place before anything else is waited for: a reader sees it, and no
// crash takes it back.
bool Batch::write_finished(Sink& sink) {
  while (!jobs.empty() && jobs.front()->finished()) {
    Job& job = *jobs.front();
    if (!job.error && job.answer->error()) job.error = job.answer->error();
    if (job.error) ++failed;
    const json line = job.error ? openai::error_line(job.custom_id, job.id, *job.error)
                                : openai::answer_line(job.custom_id, job.id, job.answer->body());
    sink.put(line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
    ++written;
    jobs.pop_front();
    if (written % kTidyLines == 0) malloc_trim(0);
  }
  return sink.flush();
}

// Lines held are bounded too: a slow first request must not pull a whole file into memory.
bool Batch::has_room() const {
  const auto most = static_cast<size_t>(in_flight_most);
  return jobs.size() < most * 4 && running.size() < most;
}

bool Batch::accept(troupe_engine* handle, Source& in) {
  if (!has_room()) return false;
  auto line = in.next_line();
  while (!line && in.fill()) line = in.next_line();
  if (!line) line = in.next_line();  // the last one: the end was met
  if (!line) return false;
  ++line_number;
  if (line->find_first_not_of(" \t\r") != std::string::npos) accept_line(*line, handle);
  return true;
}

void Batch::show(ProgressBar& bar, bool more, double seconds) const {
  const auto rate = static_cast<int64_t>(static_cast<double>(completion_tokens) / seconds);
  bar.show("batch", read == 0 ? 0.0 : static_cast<double>(written) / static_cast<double>(read),
           std::to_string(written) + "/" + std::to_string(read) + (more ? "+" : "") + " lines, " +
               std::to_string(rate) + " tokens/s");
}

int Batch::work(troupe_engine* handle, Source& in, Sink& sink, Interrupt& interrupt) {
  troupe_queue* queue_handle = nullptr;
  const Error error(troupe_queue_new(&queue_handle));
  if (error) return complain(kNoEngine, text_of(error.get()));
  const Queue queue(queue_handle);
  const auto begin = std::chrono::steady_clock::now();
  ProgressBar bar;
  while (write_finished(sink)) {
    const size_t lines_before = line_number;
    while (accept(handle, in)) submit_all(handle, queue.get());
    submit_all(handle, queue.get());
    if (in.ended() && in.empty() && jobs.empty()) break;
    const bool waits = line_number == lines_before && (jobs.empty() || !jobs.front()->finished());
    const std::array<int, 2> news = {troupe_queue_fd(queue.get()), has_room() ? in.fd() : -1};
    if (interrupt.wait(news, waits ? 1000 : 0) != 0) {
      bar.clear();
      return complain(kInterrupted,
                      "interrupted: " + std::to_string(written) + " lines are written");
    }
    hear(queue.get());
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    show(bar, !in.ended(), passed.count());
  }
  bar.clear();
  if (sink.failed()) return kRequestFailed;  // whoever closes it says why
  say(std::to_string(written) + " lines, " + std::to_string(failed) + " failed");
  if (!in.problem().empty()) return complain(kUsage, in.problem());
  return failed == 0 ? kOk : kRequestFailed;
}

int Batch::run(Interrupt& interrupt) {
  Source in(input);
  if (!in.problem().empty()) return complain(kUsage, in.problem());
  if (in.is_file(output)) {
    return complain(kUsage, "the input " + in.name() + " and the output " +
                                (output == "-" ? "stdout" : output) +
                                " are one file: the answers would overwrite the requests");
  }
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  if (output == "-") return work(opened.engine.get(), in, out(), interrupt);
  Sink file;
  if (!file.open(output)) return complain(kUsage, file.problem());
  const int exit_code = work(opened.engine.get(), in, file, interrupt);
  return file.close() ? exit_code : complain(kRequestFailed, file.problem());
}

}  // namespace

Run declare_batch(CLI::App& app) {
  auto verb = std::make_shared<Batch>();
  verb->engine.declare(app);
  app.add_option("INPUT", verb->input, "JSONL: custom_id, url, body; - is stdin")->required();
  app.add_option("OUTPUT", verb->output, "JSONL; - is stdout")->required();
  app.add_option("--in-flight", verb->in_flight_most, "Requests submitted at once")
      ->check(CLI::Range(1, 65536));
  return [verb](Interrupt& interrupt) { return verb->run(interrupt); };
}

}  // namespace troupe::cli
