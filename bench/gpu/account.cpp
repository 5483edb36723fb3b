// Where the GPU's time goes, kernel by kernel, in any program: a library that the CUDA driver
// loads.
//
//   CUDA_INJECTION64_PATH=libbench_gpu_account.so ACCOUNT_FILE=account.txt troupe bench ...
//
// CUPTI tells when each kernel and copy began and ended, inside replayed graphs too. Kernels that
// follow one another closely are one burst; between bursts the program had nothing to run (it
// waited for requests, or loaded). At exit a table goes to ACCOUNT_FILE: per kind of kernel calls,
// time, and time in which nothing else ran; then how long the GPU was busy and idle within bursts.
// Kernels that overlap (programmatic dependent launch) are counted once in "alone". ACCOUNT_LAST_MS
// counts only the end of the run: the steady state of a bench whose last part is measured.
// ACCOUNT_SPANS names a file that gets every kernel and copy on its own, for bench/gpu/timeline.py.
#include <cupti.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t kBufferBytes = size_t{8} << 20;
constexpr uint64_t kBurstGapNs = 2'000'000;

struct Span {
  uint64_t begin, end;
  uint32_t name, stream;
};
struct Tally {
  uint64_t calls = 0, ns = 0, alone_ns = 0;
};

struct Account {
  std::mutex mutex;
  std::unordered_map<std::string, uint32_t> ids;
  std::vector<std::string> names;
  std::vector<Span> spans;

  uint32_t id_of(std::string name) {
    const auto [at, fresh] = ids.emplace(std::move(name), static_cast<uint32_t>(names.size()));
    if (fresh) names.push_back(at->first);
    return at->second;
  }
};

Account& account() {
  static auto* const all = new Account;  // outlives the threads that CUPTI calls back on
  return *all;
}

// Template arguments tell instances apart, parameters do not.
std::string short_name(const char* mangled) {
  std::string name = mangled == nullptr ? "?" : mangled;
  return name.size() > 150 ? name.substr(0, 150) : name;
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, kBufferBytes));
  *size = kBufferBytes;
  *records = 0;
}

void take_record(Account& a, const CUpti_Activity* record) {
  if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    const auto* k = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    a.spans.push_back({k->start, k->end, a.id_of(short_name(k->name)), k->streamId});
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    const auto* c = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record);
    a.spans.push_back({c->start, c->end, a.id_of("copy, kind " + std::to_string(c->copyKind)), c->streamId});
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    const auto* m = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
    a.spans.push_back({m->start, m->end, a.id_of("memset"), m->streamId});
  }
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  Account& a = account();
  const std::lock_guard lock(a.mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS)
    take_record(a, record);
  std::free(buffer);
}

// One line a name, an empty line, then one line a span: begin and end in ns, stream, name's number.
void write_spans(const Account& a) {
  const char* path = std::getenv("ACCOUNT_SPANS");
  FILE* out = path == nullptr ? nullptr : std::fopen(path, "w");
  if (out == nullptr) return;
  for (const std::string& name : a.names) std::fprintf(out, "%s\n", name.c_str());
  std::fprintf(out, "\n");
  const uint64_t begin = a.spans.front().begin;
  for (const Span& s : a.spans) {
    std::fprintf(out, "%llu %llu %u %u\n", static_cast<unsigned long long>(s.begin - begin),
                 static_cast<unsigned long long>(s.end - begin), s.stream, s.name);
  }
  std::fclose(out);
}

void write_table() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  Account& a = account();
  const std::lock_guard lock(a.mutex);
  const char* path = std::getenv("ACCOUNT_FILE");
  FILE* out = path == nullptr ? stderr : std::fopen(path, "w");
  if (out == nullptr || a.spans.empty()) return;
  std::sort(a.spans.begin(), a.spans.end(),
            [](const Span& x, const Span& y) { return x.begin < y.begin; });
  if (const char* last = std::getenv("ACCOUNT_LAST_MS")) {
    const uint64_t end = a.spans.back().end, ns = std::strtoull(last, nullptr, 10) * 1'000'000;
    std::erase_if(a.spans, [&](const Span& s) { return s.begin + ns < end; });
  }
  write_spans(a);
  std::vector<Tally> tallies(a.names.size());
  uint64_t busy = 0, idle = 0, reached = a.spans.front().begin;
  for (const Span& s : a.spans) {
    Tally& t = tallies[s.name];
    ++t.calls;
    t.ns += s.end - s.begin;
    if (s.begin > reached && s.begin - reached < kBurstGapNs) idle += s.begin - reached;
    const uint64_t from = std::max(s.begin, reached);
    if (s.end > from) {
      t.alone_ns += s.end - from;
      busy += s.end - from;
      reached = s.end;
    }
  }
  std::vector<size_t> order(tallies.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t x, size_t y) { return tallies[x].alone_ns > tallies[y].alone_ns; });
  std::fprintf(out, "busy %.3f ms, idle within bursts %.3f ms (%.2f %%)\n",
               static_cast<double>(busy) / 1e6, static_cast<double>(idle) / 1e6,
               100.0 * static_cast<double>(idle) / static_cast<double>(busy + idle));
  std::fprintf(out, "%10s %12s %12s %10s  kernel\n", "calls", "alone ms", "all ms", "mean us");
  for (const size_t i : order) {
    const Tally& t = tallies[i];
    std::fprintf(out, "%10llu %12.3f %12.3f %10.2f  %s\n", static_cast<unsigned long long>(t.calls),
                 static_cast<double>(t.alone_ns) / 1e6, static_cast<double>(t.ns) / 1e6,
                 static_cast<double>(t.ns) / 1e3 / static_cast<double>(t.calls),
                 a.names[i].c_str());
  }
  if (out != stderr) std::fclose(out);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  cuptiActivityRegisterCallbacks(give_buffer, take_buffer);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
  std::atexit(write_table);
  return 1;
}
