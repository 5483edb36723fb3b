#include "tests/capi/stub_job.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace troupe::stub {
namespace {

std::string image_text(const ImageInput &image) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (size_t i = 0; i < image.bytes.size; ++i) {
    hash = (hash ^ std::to_integer<uint64_t>(image.bytes.data[i])) * 0x100000001b3U;
  }
  constexpr const char *kFormats[] = {"rgb", "rgba", "bgr", "bgra", "grey"};
  constexpr const char *kTypes[] = {"f16", "bf16", "f32"};
  const bool embedding = image.kind == ImageKind::embedding;
  int32_t width = embedding ? image.rows : image.width;
  int32_t height = embedding ? image.hidden : image.height;
  const char *kind = "png";
  if (image.kind == ImageKind::pixels) kind = kFormats[static_cast<size_t>(image.format)];
  if (embedding) kind = kTypes[static_cast<size_t>(image.type)];
  const auto *b = reinterpret_cast<const unsigned char *>(image.bytes.data);
  if (image.kind == ImageKind::encoded && image.bytes.size > 24 && b[1] == 'P' && b[2] == 'N') {
    width = b[18] << 8 | b[19];
    height = b[22] << 8 | b[23];
  }
  char text[96];
  std::snprintf(text, sizeof text, "[%s %dx%d %s %016llx]", embedding ? "embedding" : "image",
                width, height, kind, static_cast<unsigned long long>(hash));
  return text;
}

size_t whole_characters(const std::string &text) {
  size_t end = text.size(), i = end;
  while (i > 0 && end - i < 4 && (static_cast<unsigned char>(text[i - 1]) & 0xC0) == 0x80) --i;
  if (i == 0) return end;
  const auto lead = static_cast<unsigned char>(text[i - 1]);
  const size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  return end - (i - 1) < need ? i - 1 : end;
}

}  // namespace

Result<StubOptions> parse(const std::string &endpoint) {
  StubOptions options;
  if (!endpoint.starts_with("echo:")) {
    return Status(Code::not_found, "model " + endpoint + ": no such folder (the stub knows echo:)");
  }
  const size_t question = endpoint.find('?');
  std::string rest = question == std::string::npos ? "" : endpoint.substr(question + 1);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string item = rest.substr(0, end);
    rest.erase(0, end + 1);
    const size_t equals = std::min(item.find('='), item.size());
    const std::string key = item.substr(0, equals);
    const double value = equals < item.size() ? std::atof(item.c_str() + equals + 1) : 0.0;
    if (key == "step_ms")
      options.step_ns = static_cast<int64_t>(value * 1e6);
    else if (key == "load_ms")
      options.load_ns = static_cast<int64_t>(value * 1e6);
    else if (key == "fail_step")
      options.fail_step = static_cast<int64_t>(value);
    else if (key == "context")
      options.context_length = static_cast<int32_t>(value);
    else
      return invalid("echo: unknown option \"" + key + "\"");
  }
  return options;
}

std::string parts_text(const Request &request, const std::vector<PromptPart> &parts) {
  std::string text;
  for (const PromptPart &part : parts) {
    text += part.text;
    for (const int32_t id : part.tokens) {
      if (id < 256) text.push_back(static_cast<char>(id));
    }
    if (part.kind == PromptPart::Kind::image) text += image_text(request.images[part.image]);
  }
  return text;
}

void Job::send(Event &&event) {
  event.id = id;
  event.user_data = request.user_data;
  event.usage = usage;
  sink->push(std::move(event));
}

bool Job::speak(size_t index, int64_t context_length) {
  Choice &choice = choices[index];
  const SamplingParams &s = request.sampling;
  const int64_t most = s.max_tokens ? *s.max_tokens : context_length;
  Event event;
  event.index = static_cast<int32_t>(index);
  event.from = static_cast<int64_t>(choice.made);
  if (index == 0 && choice.made == 0 && s.prompt_logprobs) {
    for (size_t i = 0; i < prompt.size(); ++i) {
      event.prompt_logprobs.emplace_back();
      if (i > 0) event.prompt_logprobs.back().push_back({prompt[i], -0.5F, 1});
    }
  }
  if (static_cast<int64_t>(choice.made) >= most) {
    choice.finish = FinishReason::length;
  } else {
    const bool over = choice.made >= answer.size();
    add_token(choice, over ? kEos : answer[choice.made], event);
    if (over) {
      choice.finish = FinishReason::stop;
      event.stop_token = kEos;
    }
  }
  if (choice.finish != FinishReason::none) {
    event.text += std::exchange(choice.pending, {});
    event.finish = choice.finish;
  }
  send(std::move(event));
  return choice.finish == FinishReason::none;
}

void Job::add_token(Choice &choice, int32_t token, Event &event) {
  ++choice.made;
  ++usage.completion_tokens;
  event.tokens.push_back(token);
  if (request.sampling.logprobs) {
    event.logprobs.push_back(-0.25F);
    event.top_logprobs.emplace_back();
    for (int32_t k = 0; k < *request.sampling.logprobs; ++k) {
      event.top_logprobs.back().push_back(
          {(token + k) % kVocab, -0.25F - static_cast<float>(k), k + 1});
    }
  }
  if (token == kEos) return;  // it has no text
  choice.pending.push_back(static_cast<char>(token));
  const size_t whole = whole_characters(choice.pending);
  event.text = choice.pending.substr(0, whole);
  choice.pending.erase(0, whole);
  choice.said += event.text;
  for (const std::string &stop : request.sampling.stop) {
    if (!choice.said.ends_with(stop)) continue;
    choice.finish = FinishReason::stop;
    event.stop_text = stop;
  }
}

}  // namespace troupe::stub
