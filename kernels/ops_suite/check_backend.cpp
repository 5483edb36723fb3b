// troupe-check-backend: holds a backend in a library of its own against the plain definition of
// every op, as the tests of this tree do with ours.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "kernels/ops_suite/ops_suite.hpp"
#include "kernels/plugin.hpp"

namespace troupe {
namespace {

constexpr const char* kUsage =
    "troupe-check-backend LIBRARY[:DEVICE] [--only NAME] [--seed N] [--rounds N]\n\n"
    "Runs every case of the ops suite, with weights in f32, f16 and bf16, and names what differs\n"
    "from the plain definition. --only takes the cases whose name contains NAME. Exits with 0 "
    "when\n"
    "all agree, 1 when some do not, 2 on wrong usage, 3 when the backend does not open.\n";

struct Wanted {
  std::string library;
  int32_t device = 0;
  ops_suite::OpsSuiteOptions options;
};

template <class Number>
bool number(std::string_view text, Number& to) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
  return error == std::errc() && end == text.data() + text.size() && to >= 0;
}

bool read_arguments(int argc, char** argv, Wanted& wanted) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with("--")) {
      if (!wanted.library.empty()) return false;
      wanted.library = word;
      continue;
    }
    if (++i == argc) return false;
    if (word == "--only")
      wanted.options.only = argv[i];
    else if (word == "--seed" && number(argv[i], wanted.options.seed))
      continue;
    else if (word == "--rounds" && number(argv[i], wanted.options.rounds))
      continue;
    else
      return false;
  }
  const size_t colon = wanted.library.rfind(':');
  if (colon != std::string::npos) {
    if (!number(std::string_view(wanted.library).substr(colon + 1), wanted.device)) return false;
    wanted.library.resize(colon);
  }
  // Without a slash the system's own folders would be searched.
  if (!wanted.library.empty() && wanted.library.find('/') == std::string::npos)
    wanted.library.insert(0, "./");
  return !wanted.library.empty() && wanted.options.rounds > 0;
}

int check(const Wanted& wanted) {
  const auto backend = open_backend_plugin(wanted.library, wanted.device);
  if (!backend.ok()) {
    std::fprintf(stderr, "troupe-check-backend: %s\n", backend.status().message().c_str());
    return 3;
  }
  const DeviceInfo& info = (*backend)->info();
  std::printf("%s: %s\n", info.name.c_str(), info.description.c_str());
  const ops_suite::OpsSuiteOptions& options = wanted.options;
  int64_t comparisons = 0;
  int cases = 0, failed = 0;
  for (const ops_suite::OpsCase& one : ops_suite::ops_cases()) {
    if (std::strstr(one.name, options.only.c_str()) == nullptr) continue;
    ++cases;
    bool ok = true;
    for (const DType weights : options.weights) {
      for (int32_t round = 0; round < options.rounds; ++round) {
        const auto seed = options.seed + static_cast<uint64_t>(round);
        const auto report = ops_suite::run_ops_case(**backend, one, weights, seed);
        comparisons += report.comparisons;
        if (report.ok()) continue;
        ok = false;
        std::printf("%s\n", ops_suite::describe(report).c_str());
      }
    }
    std::printf("%-8s %s\n", ok ? "ok" : "DIFFERS", one.name);
    std::fflush(stdout);
    if (!ok) ++failed;
  }
  std::printf("%d of %d cases agree, %lld comparisons\n", cases - failed, cases,
              static_cast<long long>(comparisons));
  if (cases == 0) std::fprintf(stderr, "no case's name contains %s\n", options.only.c_str());
  return cases > 0 && failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace troupe

int main(int argc, char** argv) {
  if (argc == 2 && (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0)) {
    std::fputs(troupe::kUsage, stdout);
    return 0;
  }
  troupe::Wanted wanted;
  if (!troupe::read_arguments(argc, argv, wanted)) {
    std::fputs(troupe::kUsage, stderr);
    return 2;
  }
  return troupe::check(wanted);
}
