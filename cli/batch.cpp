// troupe batch: a file of requests in OpenAI's batch format, answered in the order of its lines.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <deque>
#include <fstream>
#include <iostream>
#include <malloc.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "openai/answer.hpp"
#include "openai/batch_line.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

// What a line needs is made by one thread and dropped by another, between what others still hold: the free
// pieces of the heaps go back to the system each time so many lines are written, or they would grow for hours.
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
  size_t read = 0, written = 0, failed = 0;
  int64_t completion_tokens = 0;

  int run(Interrupt& interrupt);
  int work(troupe_engine* handle, std::istream& in, std::ostream& out, Interrupt& interrupt);
  void accept_line(const std::string& line, troupe_engine* handle);
  bool submit_next(troupe_engine* handle, troupe_queue* queue);  // false: nothing to submit, or not now
  void submit_all(troupe_engine* handle, troupe_queue* queue);   // as many as may be in flight
  void hear(troupe_queue* queue);
  bool write_finished(std::ostream& out);
};

void Batch::accept_line(const std::string& line, troupe_engine* handle) {
  auto job = std::make_unique<Job>();
  openai::BatchLine parsed = openai::parse_batch_line(line);
  job->id = "batch_req_" + std::to_string(++read);
  job->custom_id = parsed.custom_id;
  if (auto* error = std::get_if<openai::ApiError>(&parsed.call)) {
    error->message = "line " + std::to_string(read) + ": " + error->message;
    job->error = std::move(*error);
  } else {
    job->call = std::make_unique<openai::Call>(std::move(std::get<openai::Call>(parsed.call)));
    const std::string model = job->call->model.empty() ? engine.model : job->call->model;
    job->answer = std::make_unique<openai::Answer>(*job->call, handle, job->id, model, std::time(nullptr));
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
bool Batch::write_finished(std::ostream& out) {
  while (!jobs.empty() && jobs.front()->finished()) {
    Job& job = *jobs.front();
    if (!job.error && job.answer->error()) job.error = job.answer->error();
    if (job.error) ++failed;
    const json line = job.error ? openai::error_line(job.custom_id, job.id, *job.error)
                                : openai::answer_line(job.custom_id, job.id, job.answer->body());
    out << line.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
    ++written;
    jobs.pop_front();
    if (written % kTidyLines == 0) malloc_trim(0);
  }
  return static_cast<bool>(out);
}

int Batch::work(troupe_engine* handle, std::istream& in, std::ostream& out, Interrupt& interrupt) {
  troupe_queue* queue_handle = nullptr;
  const Error error(troupe_queue_new(&queue_handle));
  if (error) return complain(kNoEngine, text_of(error.get()));
  const Queue queue(queue_handle);
  const auto begin = std::chrono::steady_clock::now();
  ProgressBar bar;
  std::string line;
  bool more = true;
  // Lines held are bounded too: a slow first request must not pull a whole file into memory.
  const size_t held_most = static_cast<size_t>(in_flight_most) * 4;
  while (more || !jobs.empty()) {
    while (more && jobs.size() < held_most && running.size() < static_cast<size_t>(in_flight_most)) {
      more = static_cast<bool>(std::getline(in, line));
      if (more && line.find_first_not_of(" \t\r") != std::string::npos) accept_line(line, handle);
      submit_all(handle, queue.get());
    }
    submit_all(handle, queue.get());
    if (!write_finished(out)) return complain(kRequestFailed, output + ": cannot be written");
    if (jobs.empty()) continue;
    if (interrupt.wait(troupe_queue_fd(queue.get()), 1000) != 0) {
      bar.clear();
      return complain(kInterrupted, "interrupted: " + std::to_string(written) + " lines are written");
    }
    hear(queue.get());
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    bar.show("batch", read == 0 ? 0.0 : static_cast<double>(written) / static_cast<double>(read),
             std::to_string(written) + "/" + std::to_string(read) + (more ? "+" : "") + " lines, " +
                 std::to_string(static_cast<int64_t>(static_cast<double>(completion_tokens) / seconds)) +
                 " tokens/s");
  }
  bar.clear();
  out.flush();
  say(std::to_string(written) + " lines, " + std::to_string(failed) + " failed");
  return failed == 0 ? kOk : kRequestFailed;
}

int Batch::run(Interrupt& interrupt) {
  std::ifstream in_file;
  std::ofstream out_file;
  if (input != "-") {
    in_file.open(input);
    if (!in_file) return complain(kUsage, input + ": cannot be read");
  }
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  if (output != "-") {
    out_file.open(output, std::ios::trunc);
    if (!out_file) return complain(kUsage, output + ": cannot be written");
  }
  return work(opened.engine.get(), input == "-" ? std::cin : in_file,
              output == "-" ? std::cout : out_file, interrupt);
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
