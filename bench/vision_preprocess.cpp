// Pictures per second, from bytes or pixels to the patches of every tile, by worker threads.
//
//   vision_preprocess                       a drawn page of 1275 x 1650 pixels, decode excluded
//   vision_preprocess FILE [FILE ...]       each file, decode excluded and included
//     --setting qwen2-vl|internvl           one of them; both otherwise
//     --threads N                           1, 2, 4 ... N workers (default: the cores)
//     --seconds S                           of each measurement (default 2)
//     --rounds R                            of one worker and N in turn; medians (default 3)
//     --json                                one JSON object per line
//
// CPU seconds are the process's, so that they mean something on a busy machine too.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "models/config.hpp"
#include "vision/decode.hpp"
#include "vision/processors/processors.hpp"
#include "vision/processors/settings.hpp"
#include "vision/test_pictures.hpp"

namespace {

using namespace troupe::vision;
using Clock = std::chrono::steady_clock;

struct Setting {
  const char* name;
  const char* model;
  const char* image;
};
constexpr Setting kSettings[] = {
    {"qwen2-vl", R"({"model_type": "qwen2_vl"})",
     R"({"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14})"},
    {"internvl", R"({"model_type": "internvl", "vision_config": {"patch_size": [14, 14]}})",
     R"({"size": {"height": 448, "width": 448}, "min_patches": 1, "max_patches": 12,
         "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]})"},
};

struct Options {
  std::vector<std::string> files;
  std::string setting;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  double seconds = 2;
  int rounds = 3;
  bool json = false;
};

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "vision_preprocess: %s\n", why.c_str());
  std::exit(2);
}
template <class T>
T or_die(troupe::Result<T> result) {
  if (!result.ok()) die(result.status().message());
  return std::move(result).value();
}

std::unique_ptr<const Processor> open(const Setting& s) {
  using troupe::models::Fields;
  const auto fields = [](const char* text) { return or_die(Fields::parse(text, "setting")); };
  const ProcessorFiles files{fields(s.model), fields(s.image), fields("{}"),
                             fields("{}"),    fields("{}"),    0};
  return or_die(open_processor(files)).processor;
}

void process(const Processor& processor, const Image& image) {
  const PictureLayout layout = or_die(processor.layout(image.width, image.height));
  for (size_t i = 0; i < layout.tiles.size(); ++i) {
    const Tile tile = or_die(processor.prepare(image, layout, static_cast<int32_t>(i)));
    if (tile.patches.empty()) die("an empty tile");
  }
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

struct Figures {
  double per_second = 0, cpu_ms = 0;
};
template <class Work>
Figures measure_workers(int threads, double seconds, Work work) {
  work();  // warm-up
  std::atomic<int64_t> done{0};
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration<double>(seconds);
  const double cpu_begin = cpu_seconds();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      while (Clock::now() < end) {
        work();
        done.fetch_add(1);
      }
    });
  }
  for (auto& worker : workers) worker.join();
  const std::chrono::duration<double> wall = Clock::now() - begin;
  const auto count = static_cast<double>(done.load());
  return {count / wall.count(), (cpu_seconds() - cpu_begin) * 1e3 / count};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One worker and `threads` of them in turn, so that a neighbour's load on the machine meets both.
struct Scaling {
  Figures figures;
  double linear = 1;
};
template <class Work>
Scaling measure_scaling(const Options& options, int threads, Work work) {
  std::vector<double> rates, costs, linear;
  for (int round = 0; round < options.rounds; ++round) {
    const double one = threads == 1 ? 0 : measure_workers(1, options.seconds, work).per_second;
    const Figures all = measure_workers(threads, options.seconds, work);
    rates.push_back(all.per_second);
    costs.push_back(all.cpu_ms);
    linear.push_back(threads == 1 ? 1 : all.per_second / (one * threads));
  }
  return {{median(rates), median(costs)}, median(linear)};
}

template <class Work>
void report(const Options& options, const char* setting, const std::string& what, Work work) {
  for (int threads = 1;; threads = std::min(2 * threads, options.threads)) {
    const auto [f, linear] = measure_scaling(options, threads, work);
    if (options.json) {
      std::printf(
          "{\"setting\": \"%s\", \"input\": \"%s\", \"threads\": %d, "
          "\"images_per_second\": %.2f, \"cpu_ms\": %.3f, \"of_linear\": %.3f}\n",
          setting, what.c_str(), threads, f.per_second, f.cpu_ms, linear);
    } else {
      std::printf("%-9s %-28s %2d workers %9.2f images/s %8.2f CPU ms each %6.2f of linear\n",
                  setting, what.c_str(), threads, f.per_second, f.cpu_ms, linear);
    }
    std::fflush(stdout);
    if (threads == options.threads) return;
  }
}

// What the machine itself gives to more workers: arithmetic that touches no memory, 10 ms of it.
// Cores that share an execution unit or a clock are not 1.0 of linear here, and nothing can be.
void count_steps() {
  uint64_t chains[8] = {1, 2, 3, 4, 5, 6, 7, 8};  // enough at once to keep a core's multiplier busy
  for (int i = 0; i < 2'000'000; ++i) {
    for (uint64_t& state : chains) state = state * 6364136223846793005U + 1442695040888963407U;
  }
  for (const uint64_t state : chains) {
    if (state == 0) die("a generator stands still");
  }
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

void run_setting(const Options& options, const Setting& setting) {
  const auto processor = open(setting);
  if (options.files.empty()) {
    const Image page = drawn_picture(1275, 1650);
    report(options, setting.name, "drawn page", [&] { process(*processor, page); });
  }
  for (const std::string& path : options.files) {
    std::ifstream file(path, std::ios::binary);
    const std::string data{std::istreambuf_iterator<char>(file), {}};
    const auto bytes = std::as_bytes(std::span(data.data(), data.size()));
    const Image image = or_die(decode(bytes, {}));
    report(options, setting.name, base_name(path) + " pixels", [&] { process(*processor, image); });
    report(options, setting.name, base_name(path) + " decoded",
           [&] { process(*processor, or_die(decode(bytes, {}))); });
  }
}

Options read_options(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&] {
      if (++i == argc) die(arg + " needs a value");
      return std::string(argv[i]);
    };
    if (arg == "--setting") {
      out.setting = value();
    } else if (arg == "--threads") {
      out.threads = std::clamp(std::atoi(value().c_str()), 1, 1024);
    } else if (arg == "--seconds") {
      out.seconds = std::atof(value().c_str());
    } else if (arg == "--rounds") {
      out.rounds = std::clamp(std::atoi(value().c_str()), 1, 1000);
    } else if (arg == "--json") {
      out.json = true;
    } else if (arg.starts_with("--")) {
      die("unknown option " + arg);
    } else {
      out.files.push_back(arg);
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = read_options(argc, argv);
  report(options, "machine", "arithmetic alone", count_steps);
  bool found = false;
  for (const Setting& setting : kSettings) {
    if (!options.setting.empty() && options.setting != setting.name) continue;
    found = true;
    run_setting(options, setting);
  }
  if (!found) die("unknown setting " + options.setting);
}
