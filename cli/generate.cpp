// troupe generate: one prompt, one answer, streamed as text or printed as one JSON object.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/drive.hpp"
#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/files.hpp"
#include "cli/image_figures.hpp"
#include "cli/sampling_flags.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "openai/answer.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

struct Generate {
  EngineFlags engine;
  SamplingFlags sampling;
  std::string prompt, prompt_file, system;
  std::vector<std::string> images;
  std::vector<int32_t> token_ids;
  int32_t logprobs = -1, n = 1;
  bool asked = false;  // a prompt was given, be it empty
  bool chat = false, as_json = false, stream = false, no_stream = false, no_special = false;

  int run(Interrupt& interrupt);
  troupe_error* fill(troupe_request* request);
  int stream_text(troupe_engine* handle, troupe_request* request, Interrupt& interrupt);
  int print_json(troupe_engine* handle, troupe_request* request, Interrupt& interrupt);
  std::vector<std::string> image_bytes_;
};

troupe_error* Generate::fill(troupe_request* request) {
  sampling.sampling.raw.logprobs = logprobs;
  sampling.sampling.raw.n = n;
  if (troupe_error* e = sampling.apply(request)) return e;
  if (no_special) {
    if (troupe_error* e = troupe_request_option(request, "add_special_tokens", "0")) return e;
  }
  if (chat) {
    if (!system.empty()) {
      if (troupe_error* e = troupe_request_message(request, TROUPE_ROLE_SYSTEM)) return e;
      if (troupe_error* e = troupe_request_text(request, system.data(), system.size())) return e;
    }
    if (troupe_error* e = troupe_request_message(request, TROUPE_ROLE_USER)) return e;
  }
  for (const std::string& bytes : image_bytes_) {
    troupe_image image;
    troupe_image_init(&image, sizeof image);
    image.data = bytes.data();
    image.size = bytes.size();
    if (troupe_error* e = troupe_request_image(request, &image)) return e;
  }
  if (!token_ids.empty()) return troupe_request_tokens(request, token_ids.data(), token_ids.size());
  return troupe_request_text(request, prompt.data(), prompt.size());
}

int Generate::stream_text(troupe_engine* handle, troupe_request* request, Interrupt& interrupt) {
  std::vector<std::string> choices(static_cast<size_t>(n));
  const bool live = !no_stream && n == 1;
  bool begun = false;
  const Driven driven = drive(handle, request, interrupt, [&](const troupe_event& event) {
    if (event.kind != TROUPE_EVENT_TOKENS) return true;
    begun = true;
    const std::string_view text(event.text, event.text_size);
    if (!live) {
      choices[static_cast<size_t>(event.index)] += text;
      return true;
    }
    out().put(text);
    return out().flush();
  });
  if (driven.ending == Ending::done || begun) {
    for (const std::string& choice : choices) out().put(choice + "\n");  // live: its end alone
  }
  out().flush();
  if (driven.ending == Ending::interrupted) return kInterrupted;
  if (driven.ending == Ending::failed) return complain(kRequestFailed, driven.problem);
  return kOk;
}

json logprobs_json(const troupe_event& event) {
  json rows = json::array();
  for (size_t t = 0; t < event.n_tokens; ++t) {
    json row = {{"token", event.tokens[t]}, {"logprob", event.logprobs[t]}};
    if (const auto* table = event.top_logprobs; table != nullptr) {
      row["top"] = json::array();
      for (size_t e = table->row_starts[t]; e < table->row_starts[t + 1]; ++e) {
        const auto& entry = *reinterpret_cast<const troupe_logprob*>(
            reinterpret_cast<const char*>(table->entries) + e * table->entry_size);
        row["top"].push_back(
            {{"token", entry.token}, {"logprob", entry.logprob}, {"rank", entry.rank}});
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

int Generate::print_json(troupe_engine* handle, troupe_request* request, Interrupt& interrupt) {
  std::vector<json> choices(static_cast<size_t>(n));
  for (size_t c = 0; c < choices.size(); ++c) {
    choices[c] = {
        {"index", c}, {"text", ""}, {"tokens", json::array()}, {"finish_reason", nullptr}};
    if (logprobs >= 0) choices[c]["logprobs"] = json::array();
  }
  json usage, timings;
  const ImageFigures seen_before = image_figures(handle);
  const Driven driven = drive(handle, request, interrupt, [&](const troupe_event& event) {
    if (event.kind == TROUPE_EVENT_TOKENS) {
      json& choice = choices[static_cast<size_t>(event.index)];
      choice["text"] = choice["text"].get<std::string>() + std::string(event.text, event.text_size);
      for (size_t t = 0; t < event.n_tokens; ++t) choice["tokens"].push_back(event.tokens[t]);
      if (event.logprobs != nullptr) {
        for (json& row : logprobs_json(event)) choice["logprobs"].push_back(std::move(row));
      }
      if (event.finish_reason != TROUPE_FINISH_NONE) {
        choice["finish_reason"] = openai::finish_name(event.finish_reason);
      }
    }
    if (!TROUPE_IS_TERMINAL(event.kind)) return true;
    if (choices[0]["finish_reason"].is_null()) {
      choices[0]["finish_reason"] = openai::finish_name(event.finish_reason);
    }
    usage = {{"prompt_tokens", event.prompt_tokens},
             {"cached_tokens", event.cached_tokens},
             {"completion_tokens", event.completion_tokens},
             {"image_tokens", event.image_tokens}};
    timings = {{"queued_ms", static_cast<double>(event.queued_ns) * 1e-6},
               {"first_token_ms", static_cast<double>(event.first_token_ns) * 1e-6},
               {"total_ms", static_cast<double>(event.total_ns) * 1e-6}};
    return true;
  });
  json answer = {
      {"model", engine.model}, {"choices", choices}, {"usage", usage}, {"timings", timings}};
  if (!images.empty()) {
    const ImageFigures seen = image_figures(handle).since(seen_before);
    answer["images"] = {{"given", seen.images},
                        {"encoded", seen.encoded},
                        {"reused", seen.reused},
                        {"prepare_ms", seen.prepare_s * 1e3},
                        {"encode_ms", seen.encode_s * 1e3}};
  }
  if (n == 1) {
    answer["text"] = choices[0]["text"];
    answer["tokens"] = choices[0]["tokens"];
    if (logprobs >= 0) answer["logprobs"] = choices[0]["logprobs"];
    answer["finish_reason"] = choices[0]["finish_reason"];
  }
  if (driven.ending != Ending::done) {
    answer["error"] = driven.ending == Ending::interrupted ? "interrupted" : driven.problem;
  }
  out().put(answer.dump() + "\n");
  if (driven.ending == Ending::interrupted) return kInterrupted;
  if (driven.ending == Ending::failed) return complain(kRequestFailed, driven.problem);
  return kOk;
}

int Generate::run(Interrupt& interrupt) {
  if (!asked && images.empty()) {
    return complain(
        kUsage,
        "there is no prompt: give --prompt TEXT, --prompt-file FILE (--prompt-file - reads stdin) "
        "or --token-ids");
  }
  Stop stop;
  if (!prompt_file.empty()) {
    auto text = read_file(prompt_file, interrupt, stop);
    if (!text) return complain(stop);
    prompt = std::move(*text);
  }
  for (const std::string& path : images) {
    auto bytes = read_file(path, interrupt, stop);
    if (!bytes) return complain(stop);
    image_bytes_.push_back(std::move(*bytes));
  }
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  troupe_request* handle = nullptr;
  Error error(troupe_request_new(&handle));
  const Request request(handle);
  if (!error) error.reset(fill(request.get()));
  if (error) return complain(kUsage, text_of(error.get()));
  return as_json ? print_json(opened.engine.get(), request.get(), interrupt)
                 : stream_text(opened.engine.get(), request.get(), interrupt);
}

}  // namespace

Run declare_generate(CLI::App& app) {
  auto verb = std::make_shared<Generate>();
  verb->engine.declare(app);
  auto* text = app.add_option("-p,--prompt", verb->prompt, "The prompt");
  auto* file =
      app.add_option("--prompt-file", verb->prompt_file, "Read it from a file; - is stdin");
  auto* ids =
      app.add_option("--token-ids", verb->token_ids, "The prompt as ids: 1,15,7")->delimiter(',');
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  auto* chat =
      app.add_flag("--chat", verb->chat, "The prompt is a user's message: apply the chat template");
  app.add_option("--system", verb->system, "With --chat: a system message")->needs(chat);
  app.add_option("--image", verb->images, "An image file before the prompt; may be repeated");
  app.add_flag("--json", verb->as_json, "One JSON object: text, tokens, logprobs, timings");
  app.add_flag("--stream", verb->stream, "Print as it comes (the default)");
  app.add_flag("--no-stream", verb->no_stream, "Print once it is whole");
  app.add_flag("--no-special", verb->no_special, "Do not add BOS and its like");
  app.add_option("--logprobs", verb->logprobs, "With --json: so many alternatives per token")
      ->check(CLI::Range(0, 64));
  app.add_option("-n", verb->n, "Choices")->check(CLI::Range(1, 128));
  verb->sampling.declare(app);
  return [verb, text, file, ids](Interrupt& interrupt) {
    verb->asked = text->count() + file->count() + ids->count() > 0;
    return verb->run(interrupt);
  };
}

}  // namespace troupe::cli
