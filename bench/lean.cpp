// How lean an engine is, measured through the C ABI like any user, one JSON object:
//   lean MODEL memory     peak memory against weight files + planned KV + 250 MB
//   lean MODEL turns      first token of the second turn of a 4,000-token chat against the cold one
//   lean MODEL requests   resident memory after 100,000 short requests against after 10,000
// MODEL is a folder; for `requests` also echo:.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "capi/troupe.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMiB = 1024.0 * 1024.0;

double status_mib(const char* field) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field)) return std::stod(line.substr(std::strlen(field) + 1)) / 1024.0;
  }
  return 0.0;
}

double weight_files_mib(const std::string& folder) {
  double bytes = 0.0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const auto extension = file.path().extension();
    if (extension == ".safetensors" || extension == ".bin") {
      bytes += static_cast<double>(file.file_size());
    }
  }
  return bytes / kMiB;
}

std::vector<int32_t> random_tokens(size_t count, int32_t vocab, std::mt19937& random) {
  std::uniform_int_distribution<int32_t> any(3, vocab - 1);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = any(random);
  return tokens;
}

troupe::Request ask(const std::vector<int32_t>& prompt, int32_t new_tokens) {
  troupe::Sampling sampling;
  sampling.temperature = 0.0F;
  sampling.max_tokens = new_tokens;
  sampling.ignore_eos = 1;
  troupe::Request request;
  request.tokens(prompt).sampling(sampling);
  return request;
}

// A cache that the work fills, so that what was planned is also what was touched.
int memory(const std::string& model) {
  troupe::EngineOptions options;
  options.kv_bytes = int64_t{256} << 20;
  troupe::Engine engine(model, options);
  const troupe_info info = engine.info();
  std::mt19937 random(1);
  troupe::Queue queue;
  size_t left = 32;
  for (size_t i = 0; i < left; ++i) {
    engine.submit(ask(random_tokens(40 * (i + 1), info.vocab_size, random), 16), queue);
  }
  while (left > 0) {
    for (const auto& event : queue.wait()) {
      event.check();
      if (event.terminal()) --left;
    }
  }
  const double peak = status_mib("VmHWM"), weights = weight_files_mib(model);
  const double kv = static_cast<double>(info.kv_bytes) / kMiB;
  std::printf("{\"peak_mib\": %.1f, \"weight_files_mib\": %.1f, \"kv_mib\": %.1f, "
              "\"beyond_mib\": %.1f, \"bar_mib\": 250}\n",
              peak, weights, kv, peak - weights - kv);
  return 0;
}

struct Turn {
  double first_token_ms = 0.0;
  std::vector<int32_t> tokens;
  int64_t cached = 0;
};

Turn take_turn(troupe::Engine& engine, const std::vector<int32_t>& prompt) {
  Turn turn;
  const auto begin = Clock::now();
  for (const auto& event : engine.stream(ask(prompt, 32))) {
    if (event->n_tokens > 0 && turn.tokens.empty()) {
      turn.first_token_ms =
          std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    }
    turn.tokens.insert(turn.tokens.end(), event->tokens, event->tokens + event->n_tokens);
    turn.cached = event->cached_tokens;
  }
  return turn;
}

int turns(const std::string& model) {
  troupe::Engine engine(model);
  std::mt19937 random(2);
  const int32_t vocab = engine.info().vocab_size;
  take_turn(engine, random_tokens(64, vocab, random));  // warm-up
  std::vector<int32_t> chat = random_tokens(4000, vocab, random);
  const Turn first = take_turn(engine, chat);
  chat.insert(chat.end(), first.tokens.begin(), first.tokens.end());
  const auto question = random_tokens(24, vocab, random);
  chat.insert(chat.end(), question.begin(), question.end());
  const Turn second = take_turn(engine, chat);
  std::printf("{\"cold_first_token_ms\": %.1f, \"second_first_token_ms\": %.1f, \"ratio\": %.4f, "
              "\"cached_tokens\": %lld, \"bar\": 0.10}\n",
              first.first_token_ms, second.first_token_ms,
              second.first_token_ms / first.first_token_ms,
              static_cast<long long>(second.cached));
  return 0;
}

int requests(const std::string& model) {
  troupe::Engine engine(model);
  std::mt19937 random(3);
  const int32_t vocab = engine.info().vocab_size;
  troupe::Queue queue;
  constexpr size_t kRunning = 64, kWarm = 10'000, kAll = 100'000;
  size_t submitted = 0, ended = 0;
  double warm_mib = 0.0;
  while (ended < kAll) {
    while (submitted < kAll && submitted - ended < kRunning) {
      const size_t length = 8 + submitted % 40;
      engine.submit(ask(random_tokens(length, vocab, random), 1 + static_cast<int32_t>(submitted % 6)),
                    queue);
      ++submitted;
    }
    for (const auto& event : queue.wait()) {
      event.check();
      if (event.terminal() && ++ended == kWarm) warm_mib = status_mib("VmRSS");
    }
  }
  const double end_mib = status_mib("VmRSS");
  std::printf("{\"after_10000_mib\": %.1f, \"after_100000_mib\": %.1f, \"growth\": %.4f, "
              "\"bar\": 0.02}\n",
              warm_mib, end_mib, end_mib / warm_mib - 1.0);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string what = argc == 3 ? argv[2] : "";
  if (what == "memory") return memory(argv[1]);
  if (what == "turns") return turns(argv[1]);
  if (what == "requests") return requests(argv[1]);
  std::fprintf(stderr, "usage: lean MODEL memory|turns|requests\n");
  return argc == 1 ? 0 : 2;
} catch (const troupe::Error& error) {
  std::fprintf(stderr, "lean: %s\n", error.what());
  return 1;
}
