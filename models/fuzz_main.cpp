// Runs a fuzz target without libFuzzer: every file named on the command line, whole, and mutated
// some thousand times by a fixed seed. A crash prints which mutation of which file it was.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "models/fuzz.hpp"

namespace {

const char* g_file = "";  // for the line that a crash prints
long g_mutation = 0;

void report(int signal) {
  std::fprintf(stderr, "signal %d in %s, mutation %ld\n", signal, g_file, g_mutation);
  std::_Exit(1);
}

using Bytes = std::vector<uint8_t>;

void mutate(Bytes& bytes, std::mt19937_64& random) {
  const auto pick = [&](size_t n) {
    return static_cast<size_t>(random() % std::max<size_t>(n, 1));
  };
  for (size_t n = 1 + pick(4); n > 0 && !bytes.empty(); --n) {
    const size_t at = pick(bytes.size());
    const auto here = bytes.begin() + static_cast<ptrdiff_t>(at);
    const size_t count = std::min(pick(16) + 1, bytes.size() - at);
    switch (pick(6)) {
      case 0:
        *here = static_cast<uint8_t>(random());
        break;
      case 1:
        *here = static_cast<uint8_t>(*here ^ (1U << pick(8)));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(here, here + static_cast<ptrdiff_t>(count));
        break;
      case 4: {
        const Bytes copy(here, here + static_cast<ptrdiff_t>(count));
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(pick(bytes.size())), copy.begin(),
                     copy.end());
        break;
      }
      default: {
        const uint8_t edges[] = {0x00, 0x7f, 0x80, 0xff, '9', '-', '"', '}'};
        for (size_t i = 0; i < count; ++i) bytes[at + i] = edges[pick(sizeof edges)];
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr long kMutations = 3000;
  for (const int s : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS}) std::signal(s, report);
  for (int i = 1; i < argc; ++i) {
    g_file = argv[i];
    std::ifstream file(argv[i], std::ios::binary);
    const Bytes whole{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (whole.empty()) {
      std::fprintf(stderr, "%s: cannot be read, or is empty\n", argv[i]);
      return 1;
    }
    g_mutation = 0;
    LLVMFuzzerTestOneInput(whole.data(), whole.size());
    std::mt19937_64 random(static_cast<uint64_t>(i));
    for (g_mutation = 1; g_mutation <= kMutations; ++g_mutation) {
      Bytes bytes = whole;
      mutate(bytes, random);
      // An exact allocation, so that a sanitizer sees reads beyond the end.
      const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
      LLVMFuzzerTestOneInput(exact.data(), exact.size());
    }
  }
  std::printf("%d files, %ld mutations each\n", argc - 1, kMutations);
  return argc > 1 ? 0 : 1;
}
