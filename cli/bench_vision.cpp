// troupe bench vision: pictures per second through decoding-free preparation and encoding (raw pixels,
// task encode_image), then the same pictures again, which cost what the caches do not save; with
// --out also whole requests at once, each a picture of its own and a prompt.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/image_figures.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "cli/workload.hpp"

namespace troupe::cli {
namespace {

using nlohmann::ordered_json;

struct VisionBench {
  EngineFlags engine;
  int images = 16, at_once = 8;
  int prompt = 64, output = 0;
  std::string size = "1275x1650";
  bool as_json = false;
  int width = 0, height = 0;

  int run(Interrupt& interrupt);
  [[nodiscard]] bool read_size();
};

bool VisionBench::read_size() {
  return std::sscanf(size.c_str(), "%dx%d", &width, &height) == 2 && width > 0 && height > 0 &&
         width <= 65535 && height <= 65535;
}

// A page of its own: nothing of one is found again in another.
std::vector<unsigned char> draw_page(int width, int height, uint64_t seed) {
  std::vector<unsigned char> page(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < page.size(); i += 8) {
    const uint64_t bits = random();
    for (size_t k = i; k < std::min(i + 8, page.size()); ++k) {
      page[k] = static_cast<unsigned char>(bits >> (8 * (k - i)));
    }
  }
  return page;
}

struct Pass {
  double wall_s = 0.0;
  std::vector<double> latency_ms;
  int64_t rows = 0;
  ImageFigures images;
  std::string problem;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Random tokens behind the picture, answered greedily.
troupe_error* ask(troupe_request* request, const VisionBench& bench, int32_t vocab, uint64_t key) {
  std::mt19937_64 random(key);
  std::uniform_int_distribution<int32_t> token(std::min(300, vocab / 2), vocab / 2);
  std::vector<int32_t> prompt(static_cast<size_t>(bench.prompt));
  for (int32_t& t : prompt) t = token(random);
  if (troupe_error* e = troupe_request_tokens(request, prompt.data(), prompt.size())) return e;
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.temperature = 0.0F;
  sampling.max_tokens = bench.output;
  sampling.ignore_eos = 1;
  return troupe_request_sampling(request, &sampling);
}

// `vocab` 0: the picture's rows are the answer.
troupe_error* submit(troupe_engine* engine, const VisionBench& bench, int32_t vocab,
                     const std::vector<unsigned char>& page, troupe_queue* queue, uint64_t key) {
  troupe_request* handle = nullptr;
  if (troupe_error* e = troupe_request_new(&handle)) return e;
  const Request request(handle);
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  image.kind = TROUPE_IMAGE_PIXELS;
  image.data = page.data();
  image.size = page.size();
  image.width = bench.width;
  image.height = bench.height;
  if (troupe_error* e = troupe_request_image(handle, &image)) return e;
  if (troupe_error* e = vocab == 0 ? troupe_request_option(handle, "task", "encode_image")
                                   : ask(handle, bench, vocab, key)) {
    return e;
  }
  return troupe_submit(engine, handle, queue, key, nullptr);
}

Pass run_pass(troupe_engine* engine, const VisionBench& bench, int32_t vocab,
              const std::vector<std::vector<unsigned char>>& pages, Interrupt& interrupt) {
  Pass pass;
  troupe_queue* handle = nullptr;
  Error error(troupe_queue_new(&handle));
  const Queue queue(handle);
  const ImageFigures before = image_figures(engine);
  std::vector<double> begun(pages.size());
  size_t submitted = 0, ended = 0;
  const double begin = seconds();
  while (!error && pass.problem.empty() && ended < pages.size()) {
    while (!error && submitted < pages.size() &&
           (vocab > 0 || submitted - ended < static_cast<size_t>(bench.at_once))) {
      begun[submitted] = seconds();
      error.reset(submit(engine, bench, vocab, pages[submitted], queue.get(), submitted));
      ++submitted;
    }
    if (error) break;
    if (interrupt.wait(troupe_queue_fd(queue.get()), 1000) != 0) pass.problem = "interrupted";
    troupe_events* list = nullptr;
    error.reset(troupe_queue_wait(queue.get(), 0, 0, &list));
    const Events events(list);
    for (uint32_t i = 0; !error && i < TROUPE_COUNT(list); ++i) {
      const troupe_event& event = *TROUPE_EVENT(list, i);
      if (!TROUPE_IS_TERMINAL(event.kind)) continue;
      ++ended;
      pass.latency_ms.push_back((seconds() - begun[event.user_data]) * 1e3);
      pass.rows += event.data_rows;
      if (event.kind != TROUPE_EVENT_DONE && event.error != nullptr) pass.problem = text_of(event.error);
    }
  }
  if (error) pass.problem = text_of(error.get());
  pass.wall_s = seconds() - begin;
  pass.images = image_figures(engine).since(before);
  return pass;
}

ordered_json figures_of(const VisionBench& bench, const Pass& first, const Pass& again,
                        const Pass& asked) {
  const auto n = static_cast<double>(bench.images);
  const auto encoded = static_cast<double>(std::max<int64_t>(first.images.encoded, 1));
  ordered_json figures = {{"images", bench.images},
          {"size", bench.size},
          {"at_once", bench.at_once},
          {"rows_per_image", static_cast<double>(first.rows) / n},
          {"images_per_s", n / first.wall_s},
          {"latency_ms_p50", percentile(first.latency_ms, 0.5)},
          {"prepare_ms_per_image", first.images.prepare_s / encoded * 1e3},
          {"encode_ms_per_image", first.images.encode_s / encoded * 1e3},
          {"encoded", first.images.encoded},
          {"again_latency_ms_p50", percentile(again.latency_ms, 0.5)},
          {"again_encoded", again.images.encoded}};
  if (bench.output > 0) {
    figures["prompt"] = bench.prompt;
    figures["output"] = bench.output;
    figures["requests_per_s"] = n / asked.wall_s;
    figures["request_ms_p50"] = percentile(asked.latency_ms, 0.5);
  }
  return figures;
}

int VisionBench::run(Interrupt& interrupt) {
  if (!read_size()) return complain(kUsage, "--size: \"" + size + "\" is not WIDTHxHEIGHT, like 1275x1650");
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  troupe_info info{};
  info.struct_size = sizeof info;
  const Error error(troupe_engine_info(opened.engine.get(), &info));
  if (error) return complain(kNoEngine, text_of(error.get()));
  if ((info.capabilities & TROUPE_CAN_ENCODE_IMAGES) == 0) {
    return complain(kNoEngine, "UNSUPPORTED: " + engine.model + " does not encode images here (family " +
                                   info.family + ", device " + info.device + ")");
  }
  const auto draw = [&](uint64_t seed, int count) {
    std::vector<std::vector<unsigned char>> pages;
    for (int i = 0; i < count; ++i) pages.push_back(draw_page(width, height, seed + static_cast<uint64_t>(i)));
    return pages;
  };
  constexpr uint64_t kEncoded = 1, kAsked = 1'000'000, kWarm = 2'000'000;
  const std::vector<std::vector<unsigned char>> pages = draw(kEncoded, images);
  std::string problem;
  const auto pass = [&](int32_t vocab, const std::vector<std::vector<unsigned char>>& of) {
    Pass out;
    if (problem.empty()) out = run_pass(opened.engine.get(), *this, vocab, of, interrupt);
    if (problem.empty()) problem = out.problem;
    return out;
  };
  pass(0, draw(kWarm, at_once));
  const Pass first = pass(0, pages);
  const Pass again = pass(0, pages);
  Pass asked;
  if (output > 0) {
    pass(info.vocab_size, draw(kWarm + static_cast<uint64_t>(at_once), images));
    asked = pass(info.vocab_size, draw(kAsked, images));
  }
  if (!problem.empty()) return complain(kRequestFailed, problem);
  const ordered_json figures = figures_of(*this, first, again, asked);
  if (as_json) {
    const ordered_json out = {{"bench", "vision"},      {"model", engine.model},
                              {"family", info.family},  {"dtype", info.dtype},
                              {"device", info.device},  {"version", troupe_version_string()},
                              {"figures", figures}};
    std::printf("%s\n", out.dump().c_str());
    return kOk;
  }
  for (const auto& [key, value] : figures.items()) {
    std::printf("%-22s %s\n", key.c_str(), value.dump().c_str());
  }
  return kOk;
}

}  // namespace

void declare_bench_vision(CLI::App& bench, const std::shared_ptr<Run>& run) {
  auto verb = std::make_shared<VisionBench>();
  CLI::App* sub = bench.add_subcommand("vision", "Pictures per second, and pictures seen again");
  verb->engine.declare(*sub);
  sub->add_option("--images", verb->images, "Pictures, each another")->check(CLI::PositiveNumber);
  sub->add_option("--size", verb->size, "WIDTHxHEIGHT of each");
  sub->add_option("--at-once", verb->at_once, "Requests in flight")->check(CLI::PositiveNumber);
  sub->add_option("--prompt", verb->prompt, "With --out: random tokens behind each picture")->check(CLI::PositiveNumber);
  sub->add_option("--out", verb->output, "Also answer all pictures at once, with so many tokens each");
  sub->add_flag("--json", verb->as_json, "One JSON object");
  sub->callback([run, verb] {
    *run = [verb](Interrupt& interrupt) { return verb->run(interrupt); };
  });
}

}  // namespace troupe::cli
