// troupe inspect: what is in a model folder, what it would take, and whether it fits.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {
namespace {

using nlohmann::ordered_json;

std::string shown(const std::string& key, const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer() && key.ends_with("bytes")) {
    return human_bytes(value.get<long long>()) + " (" + value.dump() + ")";
  }
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_null()) return "none";
  return value.dump();
}

// "key  value" lines; what is nested stands indented below its name.
void print_object(const ordered_json& object, int indent) {
  size_t widest = 0;
  for (const auto& [key, value] : object.items()) widest = std::max(widest, key.size());
  for (const auto& [key, value] : object.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    if (value.is_object()) {
      out().print("%*s%s\n", indent, "", name.c_str());
      print_object(value, indent + 2);
    } else if (value.is_array() && !value.empty() && value[0].is_object()) {
      for (const auto& element : value) {
        out().print("%*s%s\n", indent, "", name.c_str());
        print_object(element, indent + 2);
      }
    } else {
      out().print("%*s%-*s  %s\n", indent, "", static_cast<int>(widest), name.c_str(),
                  shown(key, value).c_str());
    }
  }
}

struct Inspect {
  EngineFlags engine;
  bool as_json = false;

  int run(Interrupt&) {
    std::string problem;
    const troupe_engine_options options = engine.options(problem);
    if (!problem.empty()) return complain(kUsage, problem);
    troupe_bytes* handle = nullptr;
    const Error error(troupe_inspect(engine.model.c_str(), &options, &handle));
    if (error) return complain(kNoEngine, text_of(error.get()));
    const Bytes bytes(handle);
    const std::string text(static_cast<const char*>(bytes->data), bytes->size);
    if (as_json) {
      out().print("%s\n", text.c_str());
    } else {
      print_object(ordered_json::parse(text, nullptr, false), 0);
    }
    return kOk;
  }
};

}  // namespace

Run declare_inspect(CLI::App& app) {
  auto verb = std::make_shared<Inspect>();
  verb->engine.declare(app, "Model folder");
  app.add_flag("--json", verb->as_json, "One JSON object");
  return [verb](Interrupt& interrupt) { return verb->run(interrupt); };
}

}  // namespace troupe::cli
