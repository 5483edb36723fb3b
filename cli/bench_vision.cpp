// troupe bench vision: pictures per second through decoding-free preparation and encoding (raw
// pixels, task encode_image), then the same pictures again, which cost what the caches do not save;
// with
// --out also whole requests at once, each a picture of its own and a prompt. Medians of --repeats
// runs, each with other pictures, after one to warm up.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/image_figures.hpp"
#include "cli/numbers.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "cli/workload.hpp"

namespace troupe::cli {
namespace {

using nlohmann::ordered_json;

// Pictures seen again are asked for by so many: their latency is what counts.
constexpr size_t kAgainAtOnce = 8;

struct VisionBench {
  EngineFlags engine;
  int images = 16, at_once = 48, repeats = 3;
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
Page draw_page(int width, int height, uint64_t seed) {
  Page page{{}, width, height};
  page.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < page.pixels.size(); i += 8) {
    const uint64_t bits = random();
    for (size_t k = i; k < std::min(i + 8, page.pixels.size()); ++k) {
      page.pixels[k] = static_cast<unsigned char>(bits >> (8 * (k - i)));
    }
  }
  return page;
}

struct Pass {
  WorkloadResult work;
  ImageFigures images;  // what the engine counted meanwhile

  [[nodiscard]] double per_s() const { return static_cast<double>(work.jobs.size()) / work.wall_s; }
  [[nodiscard]] double latency_ms() const {
    std::vector<double> ms;
    for (const JobResult& job : work.jobs) ms.push_back((job.ended_s - job.submitted_s) * 1e3);
    return percentile(ms, 0.5);
  }
};

struct Passes {
  std::vector<Pass> first, again, asked;  // one each per repeat
};

double median(const std::vector<Pass>& passes, double (*figure)(const Pass&)) {
  std::vector<double> values;
  for (const Pass& p : passes) values.push_back(figure(p));
  return percentile(values, 0.5);
}

std::vector<double> rates(const std::vector<Pass>& passes) {
  std::vector<double> values;
  for (const Pass& p : passes) values.push_back(p.per_s());
  return values;
}

double each_ms(double seconds, const Pass& pass) {
  return seconds * 1e3 / static_cast<double>(std::max<int64_t>(pass.images.encoded, 1));
}

ordered_json figures_of(const VisionBench& bench, const Passes& passes) {
  const auto latency = [](const Pass& p) { return p.latency_ms(); };
  const auto per_s = [](const Pass& p) { return p.per_s(); };
  int64_t rows = 0;
  for (const JobResult& job : passes.first.back().work.jobs) rows += job.rows;
  ordered_json figures = {
      {"images", bench.images},
      {"size", bench.size},
      {"at_once", bench.at_once},
      {"repeats", bench.repeats},
      {"rows_per_image", static_cast<double>(rows) / bench.images},
      {"images_per_s", median(passes.first, per_s)},
      {"images_per_s_runs", rates(passes.first)},
      {"latency_ms_p50", median(passes.first, latency)},
      {"prepare_ms_per_image",
       median(passes.first, [](const Pass& p) { return each_ms(p.images.prepare_s, p); })},
      {"encode_ms_per_image",
       median(passes.first, [](const Pass& p) { return each_ms(p.images.encode_s, p); })},
      {"encoded", passes.first.back().images.encoded},
      {"again_latency_ms_p50", median(passes.again, latency)},
      {"again_encoded", passes.again.back().images.encoded}};
  if (bench.output == 0) return figures;
  figures["prompt"] = bench.prompt;
  figures["output"] = bench.output;
  figures["requests_per_s"] = median(passes.asked, per_s);
  figures["requests_per_s_runs"] = rates(passes.asked);
  figures["request_ms_p50"] = median(passes.asked, latency);
  return figures;
}

// One after another until something goes wrong, which `stop` then tells.
class Runner {
 public:
  Runner(const VisionBench& bench, troupe_engine* engine, int32_t vocab, Interrupt& interrupt)
      : bench_(bench), engine_(engine), vocab_(vocab), interrupt_(interrupt) {}

  std::vector<Page> draw() {
    std::vector<Page> pages;
    for (int i = 0; i < bench_.images; ++i)
      pages.push_back(draw_page(bench_.width, bench_.height, ++drawn_));
    return pages;
  }
  Pass run(const std::vector<Page>& pages, int output, size_t at_once) {
    Pass pass;
    if (stop) return pass;
    std::vector<Job> jobs(pages.size());
    for (size_t i = 0; i < jobs.size(); ++i) jobs[i] = {bench_.prompt, output, 0.0, &pages[i]};
    const ImageFigures before = image_figures(engine_);
    pass.work = run_workload(engine_, jobs, {.vocab = vocab_, .seed = ++drawn_, .at_once = at_once}, interrupt_);
    pass.images = image_figures(engine_).since(before);
    stop = pass.work.stop;
    return pass;
  }
  Passes run_all() {
    Passes passes;
    const auto many = static_cast<size_t>(bench_.at_once);
    for (int r = -1; r < bench_.repeats; ++r) {
      const std::vector<Page> pages = draw();
      Pass first = run(pages, 0, many), again = run(pages, 0, std::min(many, kAgainAtOnce)), asked;
      if (bench_.output > 0) asked = run(draw(), bench_.output, static_cast<size_t>(bench_.images));
      if (r < 0) continue;
      passes.first.push_back(std::move(first));
      passes.again.push_back(std::move(again));
      passes.asked.push_back(std::move(asked));
    }
    return passes;
  }
  Stop stop;

 private:
  const VisionBench& bench_;
  troupe_engine* const engine_;
  const int32_t vocab_;
  Interrupt& interrupt_;
  uint64_t drawn_ = 0;
};

int VisionBench::run(Interrupt& interrupt) {
  if (!read_size())
    return complain(kUsage, "--size: \"" + size + "\" is not WIDTHxHEIGHT, like 1275x1650");
  Opened opened = open_engine(engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  troupe_info info{};
  info.struct_size = sizeof info;
  const Error error(troupe_engine_info(opened.engine.get(), &info));
  if (error) return complain(kNoEngine, text_of(error.get()));
  if ((info.capabilities & TROUPE_CAN_ENCODE_IMAGES) == 0) {
    return complain(kNoEngine, "UNSUPPORTED: " + engine.model +
                                   " does not encode images here (family " + info.family +
                                   ", device " + info.device + ")");
  }
  Runner runner(*this, opened.engine.get(), info.vocab_size, interrupt);
  const Passes passes = runner.run_all();
  if (runner.stop) return complain(runner.stop);
  const ordered_json figures = figures_of(*this, passes);
  if (as_json) {
    const ordered_json object = {{"bench", "vision"},     {"model", engine.model},
                              {"family", info.family}, {"dtype", info.dtype},
                              {"device", info.device}, {"version", troupe_version_string()},
                              {"figures", figures}};
    out().put(object.dump() + "\n");
    return kOk;
  }
  for (const auto& [key, value] : figures.items()) {
    out().print("%-22s %s\n", key.c_str(), value.dump().c_str());
  }
  return kOk;
}

}  // namespace

void declare_bench_vision(CLI::App& bench, const std::shared_ptr<Run>& run) {
  auto verb = std::make_shared<VisionBench>();
  CLI::App* sub = bench.add_subcommand("vision", "Pictures per second, and pictures seen again");
  verb->engine.declare(*sub);
  sub->add_option("--images", verb->images, "Pictures, each another")->check(from_one());
  sub->add_option("--size", verb->size, "WIDTHxHEIGHT of each");
  sub->add_option("--at-once", verb->at_once, "Pictures in flight")->check(from_one());
  sub->add_option("--repeats", verb->repeats, "Measured runs, after one to warm up")
      ->check(from_one());
  sub->add_option("--prompt", verb->prompt, "With --out: random tokens behind each picture")
      ->check(from_one());
  sub->add_option("--out", verb->output,
                  "Also answer all pictures at once, with so many tokens each");
  sub->add_flag("--json", verb->as_json, "One JSON object");
  sub->callback(
      [run, verb] { *run = [verb](Interrupt& interrupt) { return verb->run(interrupt); }; });
}

}  // namespace troupe::cli
