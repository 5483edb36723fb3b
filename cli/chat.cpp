// troupe chat: a conversation. Streams; keeps what was computed between turns (the engine reuses
// the prefix of the conversation); Ctrl-C stops the answer, not the program.

#include <unistd.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/drive.hpp"
#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/files.hpp"
#include "cli/image_figures.hpp"
#include "cli/sampling_flags.hpp"
#include "cli/sink.hpp"
#include "cli/source.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

constexpr const char* kHelp =
    "  /image FILE   attach a picture to your next message (or drop its file here)\n"
    "  /clear        begin anew\n"
    "  /help         this\n"
    "  /exit         leave (or Ctrl-D)\n"
    "  Ctrl-C        stop the answer";

struct Chat {
  EngineFlags engine;
  SamplingFlags sampling;
  std::string system;
  bool timings = false;

  json messages = json::array();
  std::vector<std::string> images;
  json pending_parts = json::array();
  Source input{"-"};
  bool terminated = false;  // by SIGTERM

  int run(Interrupt& interrupt);
  std::optional<std::string> next_line(Interrupt& interrupt);
  bool command(const std::string& line, Interrupt& interrupt);  // false: leave
  void attach(const std::string& path, Interrupt& interrupt);
  void clear();
  bool turn(troupe_engine* handle, const std::string& text, Interrupt& interrupt);
  troupe_error* fill(troupe_request* request);
};

// A path as a terminal writes it when a file is dropped on it: in quotes, or with blanks escaped.
std::string unquoted(std::string text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.back())) text.pop_back();
  while (!text.empty() && blank(text.front())) text.erase(0, 1);
  const bool quoted = text.size() >= 2 && (text.front() == '\'' || text.front() == '"') &&
                      text.back() == text.front();
  if (quoted) return text.substr(1, text.size() - 2);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    out += text[i];
  }
  return out;
}

// Is the line nothing but the path of a picture that is there?
bool names_picture(const std::string& line) {
  const std::filesystem::path path(unquoted(line));
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr const char* kKnown[] = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"};
  std::error_code ignored;
  return std::any_of(std::begin(kKnown), std::end(kKnown),
                     [&](const char* k) { return extension == k; }) &&
         std::filesystem::is_regular_file(path, ignored);
}

void Chat::clear() {
  messages = json::array();
  images.clear();
  pending_parts = json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
}

// A line of stdin; nothing at its end, or at SIGTERM. Ctrl-C at the prompt drops what was typed.
std::optional<std::string> Chat::next_line(Interrupt& interrupt) {
  for (;;) {
    if (auto line = input.next_line()) return line;
    if (input.ended()) return std::nullopt;
    if (const int signal = interrupt.wait(input.fd(), -1); signal == SIGINT) {
      static_cast<void>(input.take_all());
      say("");
      say(dim("(Ctrl-D or /exit leaves)"));
      if (isatty(STDIN_FILENO) == 1) std::fprintf(stderr, "%s ", bold(">").c_str());
    } else if (signal != 0) {
      terminated = true;
      return std::nullopt;
    }
    input.fill();
  }
}

void Chat::attach(const std::string& path, Interrupt& interrupt) {
  Stop stop;
  // Stdin is the conversation.
  auto bytes = read_file(path == "-" ? "./-" : path, interrupt, stop);
  if (!bytes) return say(stop.message);
  pending_parts.push_back({{"type", "image"}, {"index", images.size()}});
  images.push_back(std::move(*bytes));
  say(dim("(attached to your next message)"));
}

bool Chat::command(const std::string& line, Interrupt& interrupt) {
  if (line == "/exit" || line == "/quit") return false;
  if (line == "/clear") {
    clear();
    say(dim("(a new conversation)"));
  } else if (line.starts_with("/image ")) {
    attach(unquoted(line.substr(7)), interrupt);
  } else {
    if (line != "/help") say("no such command: " + line);
    say(kHelp);
  }
  return true;
}

troupe_error* Chat::fill(troupe_request* request) {
  if (troupe_error* e = sampling.apply(request)) return e;
  for (const std::string& bytes : images) {
    troupe_image image;
    troupe_image_init(&image, sizeof image);
    image.data = bytes.data();
    image.size = bytes.size();
    if (troupe_error* e = troupe_request_image(request, &image)) return e;
  }
  const std::string text = messages.dump(-1, ' ', false, json::error_handler_t::replace);
  return troupe_request_messages(request, text.data(), text.size());
}

// One question and its answer. False: the question could not be asked and was taken back.
bool Chat::turn(troupe_engine* handle, const std::string& text, Interrupt& interrupt) {
  json content = text;
  const size_t images_before = images.size() - pending_parts.size();
  if (!pending_parts.empty()) {
    content = pending_parts;
    content.push_back({{"type", "text"}, {"text", text}});
    pending_parts = json::array();
  }
  messages.push_back({{"role", "user"}, {"content", content}});
  troupe_request* request_handle = nullptr;
  Error error(troupe_request_new(&request_handle));
  const Request request(request_handle);
  if (!error) error.reset(fill(request.get()));
  if (error) {
    say(text_of(error.get()));
    messages.erase(messages.size() - 1);
    images.resize(images_before);
    return false;
  }
  std::string answer, figures;
  const ImageFigures seen_before = image_figures(handle);
  const Driven driven = drive(handle, request.get(), interrupt, [&](const troupe_event& event) {
    if (event.kind == TROUPE_EVENT_TOKENS) {
      answer.append(event.text, event.text_size);
      out().put({event.text, event.text_size});
      out().flush();
    } else if (TROUPE_IS_TERMINAL(event.kind)) {
      figures = std::to_string(event.completion_tokens) + " tokens, " +
                std::to_string(event.cached_tokens) + " of " + std::to_string(event.prompt_tokens) +
                " prompt tokens reused, first after " +
                std::to_string(event.first_token_ns / 1'000'000) + " ms, all after " +
                std::to_string(event.total_ns / 1'000'000) + " ms";
    }
    return !out().failed();
  });
  out().put("\n");
  out().flush();
  terminated = terminated || driven.signal == SIGTERM;
  if (driven.ending == Ending::failed) {
    say("troupe: " + driven.problem);
    messages.erase(messages.size() - 1);
    images.resize(images_before);
    return false;
  }
  if (driven.ending == Ending::interrupted) say(dim("(stopped)"));
  if (timings && !images.empty()) {
    const ImageFigures seen = image_figures(handle).since(seen_before);
    char extra[160];
    std::snprintf(extra, sizeof extra,
                  "; pictures: %lld encoded, %lld reused, %.1f ms to prepare, %.1f ms to encode",
                  static_cast<long long>(seen.encoded), static_cast<long long>(seen.reused),
                  seen.prepare_s * 1e3, seen.encode_s * 1e3);
    figures += extra;
  }
  if (timings) say(dim("(" + figures + ")"));
  messages.push_back({{"role", "assistant"}, {"content", answer}});
  return true;
}

int Chat::run(Interrupt& interrupt) {
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  troupe_info info{};
  info.struct_size = sizeof info;
  Error error(troupe_engine_info(opened.engine.get(), &info));
  if (error) return complain(kNoEngine, text_of(error.get()));
  if ((info.capabilities & TROUPE_CAN_CHAT) == 0) {
    return complain(kNoEngine,
                    "UNSUPPORTED: " + engine.model +
                        " has no chat template; give one with --chat-template NAME|FILE, "
                        "or use 'troupe generate' for plain text");
  }
  const bool person = isatty(STDIN_FILENO) == 1;
  if (person) say(dim(std::string(info.model) + "; /help lists the commands"));
  clear();
  bool all_well = true;
  while (!terminated && !out().failed()) {
    if (person) std::fprintf(stderr, "%s ", bold(">").c_str());
    const auto line = next_line(interrupt);
    if (!line) break;
    if (line->empty()) continue;
    if (names_picture(*line)) {
      attach(unquoted(*line), interrupt);
      continue;
    }
    if ((*line)[0] == '/') {
      if (!command(*line, interrupt)) break;
      continue;
    }
    all_well = turn(opened.engine.get(), *line, interrupt) && all_well;
  }
  if (person) say("");
  if (terminated) return kInterrupted;
  if (!input.problem().empty()) return complain(kUsage, input.problem());
  return all_well ? kOk : kRequestFailed;
}

}  // namespace

Run declare_chat(CLI::App& app) {
  auto verb = std::make_shared<Chat>();
  verb->engine.declare(app);
  app.add_option("--system", verb->system, "A system message");
  app.add_flag("--timings", verb->timings, "After each answer: where its time went");
  verb->sampling.declare(app);
  return [verb](Interrupt& interrupt) { return verb->run(interrupt); };
}

}  // namespace troupe::cli
