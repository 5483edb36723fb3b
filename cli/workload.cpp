#include "cli/workload.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <random>
#include <utility>

namespace troupe::cli {
namespace {

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

troupe_error* add_page(troupe_request* request, const Page& page) {
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  image.kind = TROUPE_IMAGE_PIXELS;
  image.data = page.pixels.data();
  image.size = page.pixels.size();
  image.width = page.width;
  image.height = page.height;
  return troupe_request_image(request, &image);
}

troupe_error* submit(troupe_engine* engine, const Job& job, const WorkloadOptions& options,
                     std::mt19937_64& random, troupe_queue* queue, uint64_t key) {
  troupe_request* handle = nullptr;
  if (troupe_error* e = troupe_request_new(&handle)) return e;
  const Request request(handle);
  if (job.page != nullptr) {
    if (troupe_error* e = add_page(handle, *job.page)) return e;
  }
  if (job.page != nullptr && job.output == 0) {
    if (troupe_error* e = troupe_request_option(handle, "task", "encode_image")) return e;
    return troupe_submit(engine, handle, queue, key, nullptr);
  }
  // The lowest ids are special tokens in most vocabularies, the highest those of pictures.
  const int32_t vocab = options.vocab;
  std::uniform_int_distribution<int32_t> token(std::min(300, vocab / 2),
                                               job.page != nullptr ? vocab / 2 : vocab - 1);
  std::vector<int32_t> prompt(static_cast<size_t>(job.input));
  for (int32_t& t : prompt) t = token(random);
  if (troupe_error* e = troupe_request_tokens(handle, prompt.data(), prompt.size())) return e;
  troupe_sampling sampling = options.sampling;
  sampling.max_tokens = job.output;
  sampling.ignore_eos = 1;
  if (troupe_error* e = troupe_request_sampling(handle, &sampling)) return e;
  return troupe_submit(engine, handle, queue, key, nullptr);
}

// How much of its device thread's time the engine takes a step, over the time all jobs run.
class HostClock {
 public:
  explicit HostClock(troupe_engine* engine) : engine_(engine) {}
  void begin() { begin_ = look(); }
  void end() { end_ = look(); }
  [[nodiscard]] WorkloadResult::Host us_per_step() const {
    const double steps = end_.steps - begin_.steps;
    if (!(steps > 0.0)) return {};
    const auto us = [steps](double from, double to) { return (to - from) * 1e6 / steps; };
    return {us(begin_.all, end_.all), us(begin_.planning, end_.planning),
            us(begin_.recording, end_.recording), us(begin_.telling, end_.telling)};
  }
  [[nodiscard]] double moves() const { return end_.moves; }

 private:
  struct Look {
    double steps = 0.0, all = 0.0, planning = 0.0, recording = 0.0, telling = 0.0, moves = -1.0;
  };
  [[nodiscard]] Look look() const {
    const std::string metrics = metrics_of(engine_);
    const char* const busy = "actor_busy_seconds_total";
    return {metric_of(metrics, "steps_total"), metric_of(metrics, "executor_host_seconds_total"),
            metric_of(metrics, busy, "scheduler"),
            metric_of(metrics, "executor_recording_seconds_total"),
            metric_of(metrics, busy, "detokenizer"),
            metric_of(metrics, "executor_moves_total")};
  }
  troupe_engine* engine_;
  Look begin_, end_;
};

struct Delivery {
  double at_s;
  int64_t tokens;
};

void note_tokens(JobResult& job, double now, int64_t tokens) {
  if (tokens == 0) return;
  if (job.tokens == 0) {
    job.first_s = now;
  } else {
    job.gaps_s.insert(job.gaps_s.end(), static_cast<size_t>(tokens),
                      (now - job.last_s) / static_cast<double>(tokens));
  }
  job.tokens += tokens;
  job.last_s = now;
}

// How long all jobs were decoding at once, and what came in that time.
void count_together(const std::vector<Delivery>& deliveries, WorkloadResult& result) {
  double all_from = 0.0, all_to = result.wall_s;
  for (const JobResult& job : result.jobs) {
    all_from = std::max(all_from, job.first_s);
    all_to = std::min(all_to, job.last_s);
  }
  for (const Delivery& d : deliveries) {
    if (d.at_s > all_from && d.at_s <= all_to) result.all_running_tokens += d.tokens;
  }
  result.all_running_s = std::max(0.0, all_to - all_from);
}

// One time through all jobs.
class Run {
 public:
  Run(troupe_engine* engine, const std::vector<Job>& jobs, const WorkloadOptions& options,
      Interrupt& interrupt)
      : engine_(engine), jobs_(jobs), options_(options), interrupt_(interrupt) {
    result_.jobs.resize(jobs.size());
    troupe_queue* queue = nullptr;
    error_.reset(troupe_queue_new(&queue));
    queue_.reset(queue);
  }

  WorkloadResult result() {
    while (goes_on()) {
      submit_due();
      if (!error_ && comes()) hear();
    }
    if (error_) result_.stop = {kRequestFailed, text_of(error_.get())};
    result_.wall_s = watch_.seconds();
    result_.host_us = host_.us_per_step();
    result_.executor_moves = host_.moves();
    count_together(deliveries_, result_);
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool goes_on() const {
    return !error_ && !result_.stop && (submitted_ < jobs_.size() || open_ > 0);
  }
  [[nodiscard]] bool has_room() const { return submitted_ < jobs_.size() && open_ < options_.at_once; }

  void submit_due() {
    while (has_room() && jobs_[submitted_].arrival_s <= watch_.seconds()) {
      result_.jobs[submitted_].submitted_s = watch_.seconds();
      error_.reset(submit(engine_, jobs_[submitted_], options_, random_, queue_.get(), submitted_));
      if (error_) {
        const bool full = troupe_error_code(error_.get()) == TROUPE_ERROR_OVERLOADED;
        if (full && open_ > 0) error_.reset();
        return;
      }
      ++submitted_;
      ++open_;
    }
  }

  // Waits for events or for the next arrival; false: it was interrupted.
  bool comes() {
    const double next = has_room() ? jobs_[submitted_].arrival_s - watch_.seconds() : 1.0;
    const int wait_ms = static_cast<int>(std::clamp(next * 1000.0, 1.0, 1000.0));
    if (interrupt_.wait(troupe_queue_fd(queue_.get()), wait_ms) == 0) return true;
    result_.stop = {kInterrupted, "interrupted"};
    return false;
  }

  void hear() {
    troupe_events* list = nullptr;
    error_.reset(troupe_queue_wait(queue_.get(), 0, 0, &list));
    const Events events(list);
    const double now = watch_.seconds();
    for (uint32_t i = 0; i < TROUPE_COUNT(list); ++i) {
      const troupe_event& event = *TROUPE_EVENT(list, i);
      if (event.kind == TROUPE_EVENT_TOKENS) {
        note_delta(event, now);
      } else if (TROUPE_IS_TERMINAL(event.kind)) {
        note_end(event, now);
      }
    }
  }

  void note_delta(const troupe_event& event, double now) {
    JobResult& job = result_.jobs[event.user_data];
    const auto tokens = static_cast<int64_t>(event.n_tokens);
    if (job.tokens == 0 && tokens > 0 && ++begun_ == jobs_.size()) host_.begin();
    note_tokens(job, now, tokens);
    deliveries_.push_back({now, tokens});
  }

  void note_end(const troupe_event& event, double now) {
    if (open_ == jobs_.size() && begun_ == jobs_.size()) host_.end();
    --open_;
    JobResult& job = result_.jobs[event.user_data];
    job.ended_s = now;
    job.rows = event.data_rows;
    if (event.kind == TROUPE_EVENT_DONE) return;
    result_.stop = {kRequestFailed,
                    event.error != nullptr ? text_of(event.error) : "a request was cancelled"};
  }

  troupe_engine* const engine_;
  const std::vector<Job>& jobs_;
  const WorkloadOptions& options_;
  Interrupt& interrupt_;
  WorkloadResult result_;
  Error error_;
  Queue queue_;
  std::mt19937_64 random_{options_.seed};
  std::vector<Delivery> deliveries_;
  const Stopwatch watch_;
  size_t submitted_ = 0, open_ = 0, begun_ = 0;
  HostClock host_{engine_};
};

}  // namespace

troupe_sampling greedy() {
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.temperature = 0.0F;
  return sampling;
}

std::string metrics_of(troupe_engine* engine) {
  troupe_bytes* handle = nullptr;
  if (const Error error(troupe_engine_metrics(engine, &handle)); error) return {};
  const Bytes bytes(handle);
  return {static_cast<const char*>(bytes->data), bytes->size};
}

double metric_of(const std::string& metrics, const std::string& name, const std::string& label) {
  const std::string begin = "\ntroupe_" + name + "{";
  for (size_t at = metrics.find(begin); at != std::string::npos; at = metrics.find(begin, at + 1)) {
    const size_t end = metrics.find('\n', at + 1);
    const std::string line = metrics.substr(at + 1, end - at - 1);
    if (!label.empty() && line.find("=\"" + label + "\"}") == std::string::npos) continue;
    return std::strtod(line.c_str() + line.rfind(' '), nullptr);
  }
  return std::nan("");
}

double percentile(std::vector<double> values, double q) {
  if (values.empty()) return std::nan("");
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
}

WorkloadResult run_workload(troupe_engine* engine, const std::vector<Job>& jobs,
                            const WorkloadOptions& options, Interrupt& interrupt) {
  return Run(engine, jobs, options, interrupt).result();
}

}  // namespace troupe::cli
