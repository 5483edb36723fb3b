// Runs the conformance table (sdk/conformance/README.md) through troupe.hpp, over `echo:`.
// Usage: capi_conformance FOLDER-OF-libtroupe_engine.so FILE.json ...
#include "conformance_request.hpp"

#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>

namespace conformance {
namespace {

[[noreturn]] void differs(const std::string& what, const Json& expected, const Json& got) {
  throw Broken(what + ": expected " + expected.dump().substr(0, 300) + ", got " +
               got.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 300));
}

void same(const std::string& what, const Json& expected, const Json& got) {
  if (expected != got) differs(what, expected, got);
}

void check_error(const Json& expected, const troupe::Error& error) {
  know(expected, {"code", "says", "retryable"});
  same("error code (" + std::string(error.what()) + ")", expected["code"], error.name());
  const std::string message = error.what();
  for (const Json& part : expected.value("says", Json::array())) {
    if (message.find(part.get<std::string>()) == std::string::npos)
      differs("message", part, message);
  }
  if (expected.contains("retryable")) same("retryable", expected["retryable"], error.retryable());
}

// Runs a call that must fail so, or must succeed.
template <class F>
void must(const Json& step, F call) {
  if (!step.contains("error")) {
    call();
    return;
  }
  try {
    call();
  } catch (const troupe::Error& error) {
    check_error(step["error"], error);
    return;
  }
  differs("error", step["error"], "success");
}

// ---- what comes of a request --------------------------------------------------------------------

struct Choice {
  std::string text, stop_text;
  std::vector<int32_t> tokens;
  int32_t finish = TROUPE_FINISH_NONE, stop_token = -1;
};

struct Outcome {
  std::map<int32_t, Choice> choices;
  int32_t end = -1;
  std::optional<troupe::Error> error;
  Json usage = Json::object();
  size_t logprobs = 0, prompt_rows = 0;
  std::vector<size_t> alternatives;
};

bool whole_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t n = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if ((lead & 0xC0) == 0x80 || i + n > text.size()) return false;
    i += n;
  }
  return true;
}

void take_tokens(Outcome& outcome, Choice& choice, const troupe::Event& event) {
  same("from", choice.tokens.size(), event->from);
  if (!whole_utf8(event.text())) differs("text", "whole UTF-8", std::string(event.text()));
  choice.text += event.text();
  if (event->n_tokens > 0) {
    choice.tokens.insert(choice.tokens.end(), event->tokens, event->tokens + event->n_tokens);
  }
  if (event->index != 0) return;
  if (event->logprobs != nullptr) outcome.logprobs += event->n_tokens;
  if (const troupe_logprob_table* table = event->top_logprobs) {
    for (size_t row = 0; row < table->n_rows; ++row) {
      outcome.alternatives.push_back(table->row_starts[row + 1] - table->row_starts[row]);
    }
  }
}

void take(Outcome& outcome, const troupe::Event& event) {
  if (TROUPE_IS_TERMINAL(outcome.end))
    differs("events", "none after the terminal one", event.kind());
  outcome.end = event.kind();
  Choice& choice = outcome.choices[event->index];
  if (event.kind() == TROUPE_EVENT_TOKENS) take_tokens(outcome, choice, event);
  if (event->prompt_logprobs != nullptr) outcome.prompt_rows += event->prompt_logprobs->n_rows;
  if (event->finish_reason != TROUPE_FINISH_NONE) {
    choice.finish = event->finish_reason;
    choice.stop_token = event->stop_token;
    choice.stop_text = event.stop_text();
  }
  if (!event.terminal()) return;
  outcome.usage = {{"prompt_tokens", event->prompt_tokens},
                   {"completion_tokens", event->completion_tokens},
                   {"cached_tokens", event->cached_tokens},
                   {"image_tokens", event->image_tokens}};
  try {
    event.check();
  } catch (const troupe::Error& error) {
    outcome.error = error;
  }
}

std::string finish_name(int32_t finish) {
  constexpr const char* kNames[] = {"none", "stop", "length", "cancelled", "error"};
  return kNames[finish];
}

void check_usage(const Json& expected, const Json& usage) {
  know(expected, {"prompt_tokens", "completion_tokens", "cached_tokens_min", "image_tokens"});
  for (const auto& [key, value] : expected.items()) {
    if (key == "cached_tokens_min") {
      if (usage["cached_tokens"] < value) differs(key, value, usage["cached_tokens"]);
    } else {
      same(key, value, usage[key]);
    }
  }
}

void check_first(const Json& expected, Choice& first, int i) {
  const auto wants = [&](const char* key) { return expected.contains(key); };
  if (wants("text")) same("text", text_of(expected["text"], i), first.text);
  if (wants("text_begins")) {
    const std::string whole = text_of(expected["text_begins"], i);
    if (whole.compare(0, first.text.size(), first.text) != 0) differs("text", whole, first.text);
  }
  if (wants("tokens")) same("tokens", expected["tokens"], first.tokens);
  const size_t n = first.tokens.size();
  if (wants("tokens_min") && n < expected["tokens_min"])
    differs("tokens_min", expected["tokens_min"], n);
  if (wants("tokens_max") && n > expected["tokens_max"])
    differs("tokens_max", expected["tokens_max"], n);
  if (wants("finish")) same("finish", expected["finish"], finish_name(first.finish));
  if (wants("stop_text")) same("stop_text", expected["stop_text"], first.stop_text);
  if (wants("stop_token")) same("stop_token", expected["stop_token"], first.stop_token);
}

void check_outcome(const Json& expected, Outcome& outcome, int i = -1) {
  know(expected, {"end", "error", "text", "text_begins", "tokens", "tokens_min", "tokens_max",
                  "finish", "stop_text", "stop_token", "choices", "usage", "logprobs",
                  "top_logprobs", "prompt_logprobs"});
  if (outcome.error && !expected.contains("error")) throw *outcome.error;
  const int32_t end =
      TROUPE_EVENT_DONE + index_of(expected.value("end", "done"), {"done", "cancelled", "failed"});
  same("end", end, outcome.end);
  if (expected.contains("error")) {
    if (!outcome.error) differs("error", expected["error"], nullptr);
    check_error(expected["error"], *outcome.error);
  }
  check_first(expected, outcome.choices[0], i);
  for (size_t k = 0; k < expected.value("choices", Json::array()).size(); ++k) {
    Choice& choice = outcome.choices[static_cast<int32_t>(k)];
    same("choices", expected["choices"][k],
         Json{{"text", choice.text}, {"finish", finish_name(choice.finish)}});
  }
  if (expected.contains("usage")) check_usage(expected["usage"], outcome.usage);
  if (expected.contains("logprobs")) same("logprobs", expected["logprobs"], outcome.logprobs);
  if (expected.contains("prompt_logprobs")) {
    same("prompt_logprobs", expected["prompt_logprobs"], outcome.prompt_rows);
  }
  if (expected.contains("top_logprobs")) {
    for (const size_t n : outcome.alternatives) same("top_logprobs", expected["top_logprobs"], n);
    same("rows of top_logprobs", outcome.choices[0].tokens.size(), outcome.alternatives.size());
  }
}

// ---- steps --------------------------------------------------------------------------------------

uint32_t flags_of(const Json& step) {
  uint32_t flags = 0;
  for (const Json& name : step.value("flags", Json::array())) {
    flags |= 1U << index_of(name, {"add_special", "parse_special", "skip_special"});
  }
  return flags;
}

const Json kNoOptions = Json::object();

class Case {
 public:
  Case(const Json& json, const std::string& library_dir)
      : engine_(json.value("endpoint", "echo:"),
                options_of(json.contains("options") ? json["options"] : kNoOptions, library_dir)) {}

  void run(const Json& step) {
    const std::string verb = step["do"];
    if (verb == "generate")
      generate(step);
    else if (verb == "many" || verb == "flood")
      many(step);
    else if (verb == "tokenize" || verb == "detokenize" || verb == "render")
      text(step, verb);
    else if (verb == "close")
      must(step, [&] { engine_.close(step.value("drain_ms", 0) * 1000000); });
    else if (verb.rfind("session_", 0) == 0)
      session(step, verb);
    else
      throw Broken("the table has an unknown step \"" + verb + "\"");
  }

 private:
  void generate(const Json& step) {
    know(step, {"do", "request", "expect", "error", "cancel_after"});
    must(step, [&] {
      troupe::Queue queue;
      const uint64_t id = engine_.submit(request_of(step["request"], sessions_), queue);
      Outcome outcome;
      const int64_t cancel_after = step.value("cancel_after", -1);
      if (cancel_after == 0) engine_.cancel(id);
      while (!TROUPE_IS_TERMINAL(outcome.end)) {
        for (const troupe::Event& event : queue.wait()) take(outcome, event);
        const auto seen = static_cast<int64_t>(outcome.choices[0].tokens.size());
        if (cancel_after > 0 && seen >= cancel_after) engine_.cancel(id);
      }
      check_outcome(step.value("expect", Json::object()), outcome);
    });
  }

  void many(const Json& step) {
    know(step, {"do", "request", "count", "expect", "refused", "accepted_min", "refused_min"});
    troupe::Queue queue;
    std::map<uint64_t, Outcome> outcomes;
    int refused = 0;
    for (int i = 0; i < step["count"]; ++i) {
      try {
        engine_.submit(request_of(step["request"], sessions_, i), queue, static_cast<uint64_t>(i));
        outcomes[static_cast<uint64_t>(i)];
      } catch (const troupe::Error& error) {
        if (!step.contains("refused")) throw;
        check_error(step["refused"], error);
        ++refused;
      }
    }
    for (size_t left = outcomes.size(); left > 0;) {
      for (const troupe::Event& event : queue.wait()) {
        take(outcomes.at(event->user_data), event);
        left -= event.terminal() ? 1 : 0;
      }
    }
    for (auto& [i, outcome] : outcomes) {
      check_outcome(step["expect"], outcome, static_cast<int>(i));
    }
    if (outcomes.size() < step.value("accepted_min", size_t{0}))
      differs("accepted", step, outcomes.size());
    if (refused < step.value("refused_min", 0)) differs("refused", step["refused_min"], refused);
  }

  void text(const Json& step, const std::string& verb) {
    know(step, {"do", "text", "tokens", "flags", "request", "error"});
    must(step, [&] {
      if (verb == "tokenize") {
        const auto tokens = engine_.tokenize(step["text"].get<std::string>(), flags_of(step));
        same("tokens", step["tokens"], tokens);
      } else if (verb == "detokenize") {
        const std::string text = engine_.detokenize(step["tokens"], flags_of(step));
        same("text", step["text"], text);
      } else {
        const std::string text = engine_.render(request_of(step["request"], sessions_));
        same("text", step["text"], text);
      }
    });
  }

  void session(const Json& step, const std::string& verb) {
    know(step, {"do", "session", "as", "tokens", "error"});
    const std::string name = step["session"];
    must(step, [&] {
      if (verb == "session_new")
        sessions_.emplace(name, troupe::Session(engine_));
      else if (verb == "session_fork")
        sessions_.emplace(step["as"], sessions_.at(name).fork());
      else if (verb == "session_rewind")
        sessions_.at(name).rewind(step["tokens"]);
      else if (verb == "session_info")
        same("tokens", step["tokens"], sessions_.at(name).info().tokens);
      else if (verb == "session_free")
        sessions_.erase(name);
      else
        throw Broken("the table has an unknown step \"" + verb + "\"");
    });
  }

  troupe::Engine engine_;
  Sessions sessions_;
};

void run_case(const Json& json, const std::string& library_dir, std::string& where) {
  know(json, {"name", "endpoint", "options", "open_error", "steps", "local"});
  if (json.contains("open_error")) {
    must(Json{{"error", json["open_error"]}}, [&] { Case(json, library_dir); });
    return;
  }
  Case one(json, library_dir);
  int number = 0;
  for (const Json& step : json["steps"]) {
    where = ": step " + std::to_string(++number);
    one.run(step);
  }
}

// How many cases failed.
int run_file(const std::string& path, const std::string& library_dir, int& cases) {
  std::ifstream file(path);
  const Json table = Json::parse(file);
  know(table, {"schema", "about", "cases"});
  same("schema", 1, table["schema"]);
  int failed = 0;
  for (const Json& json : table["cases"]) {
    std::string where;
    ++cases;
    try {
      run_case(json, library_dir, where);
    } catch (const std::exception& e) {
      ++failed;
      std::cerr << path << ": " << json["name"].get<std::string>() << where << ": " << e.what()
                << "\n";
    }
  }
  return failed;
}

}  // namespace
}  // namespace conformance

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: " << argv[0] << " FOLDER-OF-libtroupe_engine.so FILE.json ...\n";
    return 2;
  }
  int failed = 0, cases = 0;
  try {
    for (int i = 2; i < argc; ++i) failed += conformance::run_file(argv[i], argv[1], cases);
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
  std::cout << cases - failed << " of " << cases << " cases hold\n";
  return failed == 0 && cases > 0 ? 0 : 1;
}
