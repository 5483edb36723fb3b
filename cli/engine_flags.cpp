#include "cli/engine_flags.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "cli/exit_codes.hpp"
#include "cli/key_file.hpp"
#include "cli/numbers.hpp"
#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

void log_to_stderr(void*, int32_t level, const char* message, size_t size) {
  static constexpr std::array<const char*, 5> kNames = {"trace", "debug", "info", "warn", "error"};
  const char* name = level >= 0 && level < 5 ? kNames[static_cast<size_t>(level)] : "log";
  std::fprintf(stderr, "[%s] %.*s\n", name, static_cast<int>(size), message);
}

}  // namespace

void log_on_stderr(int32_t level) { troupe_log_set(level, log_to_stderr, nullptr); }

long long bytes_of(const std::string& text) {
  long long number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc{} || number < 0) return -1;
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  int shift = -1;
  if (unit.empty()) shift = 0;
  if (unit == "K" || unit == "KiB") shift = 10;
  if (unit == "M" || unit == "MiB") shift = 20;
  if (unit == "G" || unit == "GiB") shift = 30;
  if (unit == "T" || unit == "TiB") shift = 40;
  if (shift < 0 || number > (1LL << (62 - shift))) return -1;
  return number << shift;
}

std::string human_bytes(long long bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

void EngineFlags::declare(CLI::App& app, const char* models) {
  app.add_option("MODEL", model, models)->required();
  app.add_option("--device", device, "auto, cpu, cpu:N (N virtual devices), cuda, cuda:0,1")
      ->group("Engine");
  app.add_option("--dtype", dtype, "auto, f32, f16, bf16: what weights are computed in")->group("Engine");
  app.add_option("--kv-dtype", kv_dtype, "auto, f32, f16, bf16: what the cache holds")->group("Engine");
  app.add_option("--kv-memory", kv_memory, "Size of the cache: 512M, 20G; default: planned")->group("Engine");
  app.add_option("--load-format", load_format, "auto, or dummy: seeded random weights")->group("Engine");
  app.add_option("--chat-template", chat_template, "Name or file; default: the folder's own")->group("Engine");
  app.add_option("--threads", threads, "Compute threads; default: what the machine gives")->group("Engine");
  app.add_option("--tp", tensor_parallel, "Devices that share one model")->group("Engine");
  app.add_option("--max-sequences", max_sequences, "Sequences that run at once")->group("Engine");
  app.add_option("--max-waiting", max_waiting, "Requests that may wait")->group("Engine");
  app.add_option("--max-step-tokens", max_step_tokens, "Rows of one step (prefill chunk)")->group("Engine");
  app.add_option("--context-length", context_length, "Default: the model's own")->group("Engine");
  app.add_option("--block-tokens", block_tokens, "Tokens per cache block")->group("Engine");
  app.add_option("--weights-seed", seed, "Seed of dummy weights")->group("Engine")->check(whole_number());
  app.add_flag("--no-prefix-reuse", no_prefix_reuse, "Compute every prompt from its start")->group("Engine");
  app.add_flag("--no-overlap", no_overlap, "One step at a time: same tokens, slower")->group("Engine");
  app.add_flag("--deterministic", deterministic, "Bit-stable whatever the batch")->group("Engine");
  app.add_option("--set", settings, "key=value: an experimental setting")->group("Engine");
  app.add_option("--server-key", server_key, "Remote: the server's CURVE key")->group("Remote");
  app.add_option("--client-public-key", client_public_key, "Remote: this client's key")->group("Remote");
  app.add_option("--client-secret-key", client_secret_key, "Remote: its secret half")->group("Remote");
  app.add_option("--client-key-file", client_key_file, "Remote: both halves, as troupe keygen FILE wrote them")
      ->group("Remote");
  app.add_flag("-v,--verbose", verbose, "Log to stderr")->group("Engine");
}

troupe_engine_options EngineFlags::options(std::string& problem) {
  troupe_engine_options o;
  troupe_engine_options_init(&o, sizeof o);
  if (!client_key_file.empty()) {
    KeyPair pair;
    if (read_key_file(client_key_file, pair, problem)) {
      client_public_key = pair.public_key;
      client_secret_key = pair.secret_key;
    }
  }
  o.device = or_null(device);
  o.dtype = or_null(dtype);
  o.kv_dtype = or_null(kv_dtype);
  o.load_format = or_null(load_format);
  o.chat_template = or_null(chat_template);
  o.server_key = or_null(server_key);
  o.client_public_key = or_null(client_public_key);
  o.client_secret_key = or_null(client_secret_key);
  o.threads = threads;
  o.tensor_parallel = tensor_parallel;
  o.max_sequences = max_sequences;
  o.max_waiting = max_waiting;
  o.max_step_tokens = max_step_tokens;
  o.context_length = context_length;
  o.block_tokens = block_tokens;
  if (seed >= 0) o.seed = seed;
  if (no_prefix_reuse) o.prefix_reuse = 0;
  if (no_overlap) o.overlap = 0;
  if (deterministic) o.deterministic = 1;
  if (!kv_memory.empty()) {
    o.kv_bytes = bytes_of(kv_memory);
    if (o.kv_bytes < 0) {
      problem = "--kv-memory takes a size such as 512M or 20G, not '" + kv_memory + "'";
    }
  }
  setting_pointers_.clear();
  for (const std::string& s : settings) setting_pointers_.push_back(s.c_str());
  o.settings = setting_pointers_.data();
  o.n_settings = setting_pointers_.size();
  return o;
}

Opened open_engine(EngineFlags& flags, Interrupt& interrupt) {
  if (flags.verbose) log_on_stderr(TROUPE_LOG_DEBUG);
  std::string problem;
  troupe_engine_options options = flags.options(problem);
  if (!problem.empty()) return {nullptr, complain(kUsage, problem)};

  troupe_queue* queue_handle = nullptr;
  Error error(troupe_queue_new(&queue_handle));
  if (error) return {nullptr, complain(kNoEngine, text_of(error.get()))};
  const Queue queue(queue_handle);
  options.queue = queue.get();

  troupe_engine* handle = nullptr;
  error.reset(troupe_engine_open(flags.model.c_str(), &options, &handle));
  if (error) return {nullptr, complain(kNoEngine, text_of(error.get()))};
  Engine engine(handle);

  ProgressBar bar;
  for (;;) {
    if (interrupt.wait(troupe_queue_fd(queue.get()), -1) != 0) {
      bar.clear();
      // Letting go of an engine that opens takes as long as its opening: a connect timeout, a large
      // read. Nothing was begun that the end of the process would leave half done.
      std::_Exit(kInterrupted);
    }
    troupe_events* list = nullptr;
    error.reset(troupe_queue_wait(queue.get(), 0, 0, &list));
    const Events events(list);
    for (uint32_t i = 0; i < TROUPE_COUNT(list); ++i) {
      const troupe_event* event = TROUPE_EVENT(list, i);
      if (event->kind == TROUPE_EVENT_PROGRESS) {
        bar.show(std::string(event->text, event->text_size), event->progress);
      } else if (event->kind == TROUPE_EVENT_READY) {
        bar.clear();
        return {std::move(engine), kOk};
      } else {
        bar.clear();
        return {nullptr, complain(kNoEngine, event->error != nullptr ? text_of(event->error)
                                                                     : "the engine did not open")};
      }
    }
  }
}

}  // namespace troupe::cli
