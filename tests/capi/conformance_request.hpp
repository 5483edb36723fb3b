// The JSON words of sdk/conformance/README.md, turned into requests and options of troupe.hpp.
// Every key must be known: Keys refuses the rest.
#pragma once

#include <algorithm>
#include <deque>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include <troupe.hpp>

namespace conformance {

using Json = nlohmann::json;

// A case that this runner does not understand, or that did not hold.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void know(const Json& object, std::initializer_list<std::string_view> keys) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      throw Broken("the table has an unknown key \"" + key + "\"");
    }
  }
}

// A string, or {"repeat": ["abc", 3]}; {i} becomes `i` when that is not negative.
inline std::string text_of(const Json& value, int i = -1) {
  std::string text;
  if (value.is_object()) {
    know(value, {"repeat"});
    for (int n = value["repeat"][1]; n > 0; --n) text += value["repeat"][0].get<std::string>();
  } else {
    text = value.get<std::string>();
  }
  const size_t place = text.find("{i}");
  if (i >= 0 && place != std::string::npos) text.replace(place, 3, std::to_string(i));
  return text;
}

inline std::string from_base64(const std::string& text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return bytes;
}

inline int32_t index_of(const std::string& name, std::initializer_list<std::string_view> names) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw Broken("the table has an unknown word \"" + name + "\"");
  return static_cast<int32_t>(found - names.begin());
}

inline void add_image(troupe::Request& request, const Json& json) {
  know(json, {"kind", "base64", "width", "height", "format", "layout", "row_stride", "rows",
              "hidden", "type"});
  const std::string bytes = from_base64(json["base64"]);
  troupe::Image image(bytes.data(), bytes.size());
  image.kind = index_of(json["kind"], {"encoded", "pixels", "embedding"});
  image.width = json.value("width", -1);
  image.height = json.value("height", -1);
  image.format = index_of(json.value("format", "rgb"), {"rgb", "rgba", "bgr", "bgra", "grey"});
  image.layout = index_of(json.value("layout", "hwc"), {"hwc", "chw"});
  image.row_stride = json.value("row_stride", -1);
  image.rows = json.value("rows", -1);
  image.hidden = json.value("hidden", -1);
  image.type = index_of(json.value("type", "f16"), {"f16", "bf16", "f32"});
  request.image(image);
}

inline void add_part(troupe::Request& request, const Json& part) {
  know(part, {"text", "tokens", "image"});
  if (part.contains("text")) request.text(text_of(part["text"]));
  if (part.contains("tokens")) request.tokens(part["tokens"]);
  if (part.contains("image")) add_image(request, part["image"]);
}

inline void add_message(troupe::Request& request, const Json& message) {
  know(message, {"role", "content"});
  request.message(index_of(message["role"], {"system", "user", "assistant", "tool"}));
  if (message["content"].is_array()) {
    for (const Json& part : message["content"]) add_part(request, part);
  } else {
    request.text(text_of(message["content"]));
  }
}

inline void set_sampling(troupe::Request& request, const Json& json) {
  know(json, {"temperature",
              "top_p",
              "min_p",
              "repetition_penalty",
              "presence_penalty",
              "frequency_penalty",
              "top_k",
              "seed",
              "max_tokens",
              "min_tokens",
              "n",
              "logprobs",
              "prompt_logprobs",
              "ignore_eos",
              "include_stop",
              "skip_special_tokens",
              "stop",
              "stop_tokens",
              "bad_words",
              "bias"});
  troupe::Sampling s;
  const auto take = [&](const char* key, auto& field) {
    if (json.contains(key)) json[key].get_to(field);
  };
  take("temperature", s.temperature);
  take("top_p", s.top_p);
  take("min_p", s.min_p);
  take("repetition_penalty", s.repetition_penalty);
  take("presence_penalty", s.presence_penalty);
  take("frequency_penalty", s.frequency_penalty);
  take("top_k", s.top_k);
  take("seed", s.seed);
  take("max_tokens", s.max_tokens);
  take("min_tokens", s.min_tokens);
  take("n", s.n);
  take("logprobs", s.logprobs);
  take("prompt_logprobs", s.prompt_logprobs);
  take("ignore_eos", s.ignore_eos);
  take("include_stop", s.include_stop);
  take("skip_special_tokens", s.skip_special_tokens);
  std::deque<std::string> kept;
  const auto strings = [&](const char* key) {
    std::vector<const char*> list;
    for (const Json& text : json.value(key, Json::array())) {
      list.push_back(kept.emplace_back(text.get<std::string>()).c_str());
    }
    return list;
  };
  const std::vector<const char*> stop = strings("stop"), bad_words = strings("bad_words");
  const std::vector<int32_t> stop_tokens = json.value("stop_tokens", std::vector<int32_t>{});
  std::vector<int32_t> bias_tokens;
  std::vector<float> bias_values;
  for (const Json& bias : json.value("bias", Json::array())) {
    bias_tokens.push_back(bias[0]);
    bias_values.push_back(bias[1]);
  }
  s.stop = stop.data();
  s.n_stop = stop.size();
  s.bad_words = bad_words.data();
  s.n_bad_words = bad_words.size();
  s.stop_tokens = stop_tokens.data();
  s.n_stop_tokens = stop_tokens.size();
  s.bias_tokens = bias_tokens.data();
  s.bias_values = bias_values.data();
  s.n_bias = bias_tokens.size();
  request.sampling(s);
}

using Sessions = std::map<std::string, troupe::Session>;

inline troupe::Request request_of(const Json& json, const Sessions& sessions, int i = -1) {
  know(json, {"prompt", "tokens", "parts", "messages", "messages_json", "images", "tools",
              "sampling", "options", "constraint", "session"});
  troupe::Request request;
  if (json.contains("prompt")) request.text(text_of(json["prompt"], i));
  if (json.contains("tokens")) request.tokens(json["tokens"]);
  for (const Json& part : json.value("parts", Json::array())) add_part(request, part);
  for (const Json& message : json.value("messages", Json::array())) add_message(request, message);
  if (json.contains("messages_json")) request.messages(json["messages_json"].dump());
  for (const Json& image : json.value("images", Json::array())) add_image(request, image);
  if (json.contains("tools")) request.tools(json["tools"].dump());
  if (json.contains("sampling")) set_sampling(request, json["sampling"]);
  const Json options = json.value("options", Json::object());
  for (const auto& [key, value] : options.items()) {
    request.option(key.c_str(), value.get<std::string>());
  }
  if (json.contains("constraint")) {
    const Json& constraint = json["constraint"];
    know(constraint, {"kind", "text"});
    request.constraint(
        index_of(constraint["kind"], {"none", "json_schema", "regex", "ebnf", "choice"}),
        constraint["text"].get<std::string>());
  }
  if (json.contains("session")) request.session(sessions.at(json["session"]));
  return request;
}

inline troupe::EngineOptions options_of(const Json& json, const std::string& library_dir) {
  know(json, {"threads", "max_sequences", "max_waiting", "max_step_tokens", "context_length",
              "block_tokens", "kv_bytes", "prefix_reuse", "overlap", "server_key",
              "client_public_key", "client_secret_key"});
  troupe::EngineOptions o;
  o.library_dir = library_dir.c_str();
  o.threads = json.value("threads", -1);
  o.max_sequences = json.value("max_sequences", -1);
  o.max_waiting = json.value("max_waiting", -1);
  o.max_step_tokens = json.value("max_step_tokens", -1);
  o.context_length = json.value("context_length", -1);
  o.block_tokens = json.value("block_tokens", -1);
  o.kv_bytes = json.value("kv_bytes", -1);
  o.prefix_reuse = json.value("prefix_reuse", -1);
  o.overlap = json.value("overlap", -1);
  const auto text = [&](const char* key) {  // lives as long as the table
    return json.contains(key) ? json[key].get_ref<const std::string&>().c_str() : nullptr;
  };
  o.server_key = text("server_key");
  o.client_public_key = text("client_public_key");
  o.client_secret_key = text("client_secret_key");
  return o;
}

}  // namespace conformance
