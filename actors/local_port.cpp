#include "actors/local_port.hpp"

#include <atomic>
#include <utility>

#include "actors/cast.hpp"
#include "actors/echo_house.hpp"
#include "actors/live_options.hpp"
#include "actors/loaded_encoder.hpp"
#include "actors/loaded_executor.hpp"
#include "actors/model_house.hpp"
#include "actors/number_house.hpp"
#include "actors/port_text.hpp"
#include "base/limits.hpp"
#include "engine/session_book.hpp"

namespace troupe::actors {
namespace {

// TROUPE_CAN_* of troupe.h, which stands above this room.
constexpr uint64_t kCanChat = 1U << 0;
constexpr uint64_t kCanTools = 1U << 1;
constexpr uint64_t kCanSeeImages = 1U << 2;
constexpr uint64_t kCanTakeImageEmbeddings = 1U << 3;
constexpr uint64_t kCanEncodeImages = 1U << 4;
constexpr uint64_t kCanScore = 1U << 6;
constexpr uint64_t kCanKeepSessions = 1U << 8;

class LocalPort final : public EnginePort {
 public:
  LocalPort(EngineInfo info, const EngineOptions& options, std::shared_ptr<const TextHouse> text,
            std::unique_ptr<Cast> cast)
      : info_(std::move(info)), text_(std::move(text)), cast_(std::move(cast)), options_(options) {}

  Result<EngineInfo> info() override {
    TR_TRY(open());
    EngineInfo info = info_;
    info.config_json = options_.json();
    info.max_waiting = options_.max_waiting();
    return info;
  }
  Result<EngineStats> stats() override {
    TR_TRY(open());
    EngineStats stats = stats_of(cast_->board(), cast_->waiting(), cast_->in_flight());
    stats.uptime_ns = steady_now_ns() - opened_ns_;
    return stats;
  }
  Result<std::string> metrics() override {
    TR_ASSIGN(const EngineStats stats, this->stats());
    return metrics_text(stats,
                        {cast_->handler_clocks(), cast_->executor_host_ns(),
                         cast_->executor_recording_ns(), cast_->executor_moves(),
                         cast_->device_memory()},
                        info_.model);
  }
  Status set_option(std::string_view key, std::string_view value) override {
    TR_TRY(open());
    return options_.set(*cast_, key, value);
  }

  Result<std::vector<int32_t>> tokenize(std::string_view text, bool add_special,
                                        bool parse_special) override {
    TR_TRY(open());
    return text_->encode(text, add_special, parse_special);
  }
  Result<std::string> detokenize(std::span<const int32_t> ids, bool skip_special) override {
    TR_TRY(open());
    return text_->decode(ids, skip_special);
  }
  Result<std::string> render(const Request& request) override {
    TR_TRY(open());
    return text_->render(request);
  }

  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override {
    return cast_->submit(std::move(request), std::move(sink));
  }
  void cancel(RequestId id) override { cast_->cancel(id); }

  Result<uint64_t> session_new(const SessionOptions& options) override {
    return ask<Result<uint64_t>>(
        [options](auto& s, int64_t now) { return s.session_new(options, now); });
  }
  Result<uint64_t> session_fork(uint64_t session) override {
    return ask<Result<uint64_t>>(
        [session](auto& s, int64_t now) { return s.session_fork(session, now); });
  }
  Status session_rewind(uint64_t session, int64_t tokens) override {
    if (cast_->session_expects(session)) return engine::unsettled_session(session);
    return ask<Status>(
        [session, tokens](auto& s, int64_t now) { return s.session_rewind(session, tokens, now); });
  }
  Result<SessionState> session_info(uint64_t session) override {
    return ask<Result<SessionState>>(
        [session](auto& s, int64_t now) { return s.session_info(session, now); });
  }
  void session_free(uint64_t session) override {
    cast_->session_free(session);
  }

  Status close(int64_t drain_ns) override {
    closed_.store(true);
    return cast_->close(drain_ns);
  }

 private:
  [[nodiscard]] Status open() const {
    return closed_.load() ? Status(Code::closed, "the engine is closed") : Status();
  }

  // A question to the scheduler, answered on its actor. The answer may come after this gave up.
  template <class T, class F>
  T ask(F question) {
    auto answer = std::make_shared<std::optional<T>>();
    const Status status = cast_->visit([answer, question](engine::Scheduler& s) {
      answer->emplace(question(s, steady_now_ns()));
    });
    if (!status.ok()) return status;
    return std::move(**answer);
  }

  const EngineInfo info_;
  const std::shared_ptr<const TextHouse> text_;
  const std::unique_ptr<Cast> cast_;
  LiveOptions options_;
  const int64_t opened_ns_ = steady_now_ns();
  std::atomic<bool> closed_{false};
};

void describe(EngineInfo& info, const EngineOptions& options, const models::ModelFacts& facts,
              const TextHouse& text) {
  info.family = facts.family;
  info.context_length = facts.context_length;
  info.vocab_size = facts.vocab;
  info.max_sequences = options.max_sequences;
  info.chat_template_origin = text.template_origin();
  info.capabilities = kCanScore | kCanKeepSessions | can::serve;
  if (!info.chat_template_origin.empty()) info.capabilities |= kCanChat | kCanTools;
  info.weight_bytes = facts.weight_bytes;
  info.dtype = dtype_name(facts.dtype);
}

// An open port, with the options that were given as settings.
Result<std::unique_ptr<EnginePort>> make_port(EngineInfo info, const EngineOptions& options,
                                              std::shared_ptr<const TextHouse> text,
                                              std::unique_ptr<Cast> cast) {
  auto port =
      std::make_unique<LocalPort>(std::move(info), options, std::move(text), std::move(cast));
  for (const auto& [key, value] : options.extra) TR_TRY(port->set_option(key, value));
  return std::unique_ptr<EnginePort>(std::move(port));
}

void describe_eyes(EngineInfo& info, const Eyes& eyes) {
  info.capabilities |= kCanSeeImages | kCanTakeImageEmbeddings | kCanEncodeImages;
  info.images_max = eyes.images_max;
  info.image_pixels_max = eyes.pixels_max;
  info.weight_bytes += eyes.folder->weight_bytes();
}

Result<std::unique_ptr<EnginePort>> open_echo(const std::string& endpoint, EngineOptions options,
                                              const LoadProgress& progress) {
  options.block_tokens = block_tokens_of({}, options.block_tokens);
  TR_ASSIGN(const engine::EchoOptions echo, engine::EchoOptions::parse(endpoint));
  CastParts parts = echo_parts(echo, options, progress);
  const models::ModelFacts facts = parts.encode.facts;
  const std::shared_ptr<const TextHouse> text = parts.encode.text;
  EngineInfo info;
  info.model = "echo";
  info.endpoint = endpoint;
  info.device = "none";
  describe(info, options, facts, *text);
  info.capabilities |= kCanSeeImages;
  info.images_max = limits::images_per_request;
  info.image_pixels_max = limits::image_pixels;
  info.kv_tokens = kv_tokens(facts.groups);
  TR_ASSIGN(auto cast, Cast::open(std::move(parts)));
  return make_port(std::move(info), options, text, std::move(cast));
}

// Dummy weights need nothing but a config.json: whoever measures one may have no tokenizer for it.
Result<std::shared_ptr<const TextHouse>> open_text(const LoadRequest& request,
                                                   const std::string& folder) {
  const std::string placeholder =
      request.eyes == nullptr ? std::string() : request.eyes->folder->rules().placeholder;
  auto text = open_model_house(folder, request.options.chat_template, placeholder);
  if (text.ok() || text.status().code() != Code::not_found ||
      request.load.format != models::LoadFormat::dummy) {
    return text;
  }
  return make_number_house(request.folder->facts().vocab);
}

Result<std::unique_ptr<EnginePort>> open_model(const std::string& folder, EngineOptions options,
                                               const LoadProgress& progress) {
  auto given_up = std::make_shared<std::atomic<bool>>(false);
  const auto report = [progress, given_up](std::string_view phase, double fraction) {
    if (progress && !progress(phase, fraction)) given_up->store(true);
    return !given_up->load();
  };
  const auto wanted = [given_up]() -> Status {
    if (!given_up->load()) return {};
    return {Code::closed, "opening was given up by the caller"};
  };
  LoadRequest request;
  TR_ASSIGN(request.device, choose_device(options.device));
  options.block_tokens = block_tokens_of(request.device, options.block_tokens);
  request.options = options;
  request.load = load_options(options);
  request.load.progress = report;
  TR_ASSIGN(request.folder, models::ModelFolder::open(folder, request.load));
  TR_TRY(wanted());
  TR_TRY(open_eyes(folder, request));
  report("tokenizer", 0.0);
  TR_ASSIGN(auto text, open_text(request, folder));
  report("tokenizer", 1.0);
  TR_TRY(wanted());

  CastParts parts = common_parts(options, request.device.cpu(), request.vision.encoders);
  parts.encode.text = text;
  parts.encode.eyes = request.eyes;
  parts.encode.facts = request.folder->facts();
  parts.encode.defaults = request.folder->defaults();
  parts.runs_ahead = !request.device.cpu();
  parts.tells_apart = parts.runs_ahead;
  // On fewer, whoever tells needs all that the executor leaves.
  constexpr int32_t kCoresToChooseFrom = 3;
  if (parts.runs_ahead && parts.threads.budget.usable() >= kCoresToChooseFrom)
    parts.cores = std::make_shared<SystemCores>();
  parts.replaceable = request.device.cpu();
  request.threads = parts.threads;
  if (request.eyes != nullptr) parts.vision = loaded_vision(request);
  auto loaded = std::make_shared<std::shared_ptr<LoadedPlan>>();
  parts.scheduler = [loaded] { return (*loaded)->scheduler; };
  parts.open_device = [request, loaded](int32_t generation) {
    LoadRequest mine = request;
    if (generation > 0) mine.load.progress = nullptr;
    return load_executor(mine, *loaded);
  };
  EngineInfo info;
  info.model = last_part(folder);
  info.endpoint = folder;
  describe(info, options, request.folder->facts(), *text);
  if (request.eyes != nullptr) describe_eyes(info, *request.eyes);
  TR_ASSIGN(auto cast, Cast::open(std::move(parts)));
  TR_TRY(wanted());
  const LoadedPlan& plan = **loaded;
  info.device = plan.device.name;
  info.context_length = plan.memory.context_length;
  info.kv_bytes = plan.memory.kv_bytes;
  info.kv_tokens = plan.memory.kv_tokens;
  return make_port(std::move(info), options, std::move(text), std::move(cast));
}

}  // namespace

Result<std::unique_ptr<EnginePort>> open_local_port(const std::string& endpoint,
                                                    const EngineOptions& given,
                                                    LoadProgress progress) {
  TR_ASSIGN(const EngineOptions options, take_opening_settings(given));
  TR_TRY(check_options(options));
  try {
    if (endpoint.starts_with("echo:")) return open_echo(endpoint, options, progress);
    return open_model(endpoint, options, progress);
  } catch (...) {
    return status_of(std::current_exception()).at("opening " + endpoint);
  }
}

}  // namespace troupe::actors
