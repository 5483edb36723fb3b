// The simulator as a program: what `dev/sim` runs.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine/simulator.hpp"

namespace {

int show(uint64_t seed) {
  const auto r = troupe::engine::simulate(seed, true);
  std::fputs(r.trace.c_str(), stdout);
  std::printf("seed %llu: %s (%lld steps, %lld requests, %lld tokens, %lld preemptions, %lld crashes)\n",
              static_cast<unsigned long long>(seed), r.ok ? "ok" : r.failure.c_str(),
              static_cast<long long>(r.steps), static_cast<long long>(r.requests),
              static_cast<long long>(r.tokens), static_cast<long long>(r.preemptions),
              static_cast<long long>(r.restarts));
  return r.ok ? 0 : 1;
}

int search(uint64_t from, uint64_t count) {
  for (uint64_t seed = from; seed < from + count; ++seed) {
    const auto r = troupe::engine::simulate(seed, false);
    if (r.ok) continue;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), r.failure.c_str());
    return 1;
  }
  std::printf("%llu seeds from %llu: ok\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(from));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--seed") == 0) return show(std::strtoull(argv[2], nullptr, 10));
  if (argc == 4 && std::strcmp(argv[1], "--seeds") == 0) {
    return search(std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
  }
  std::fputs("usage: engine_simulator --seed N | --seeds FROM COUNT\n", stderr);
  return 2;
}
