#include "kernels/cpu/host_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

namespace troupe::cpu {
namespace {

// Anonymous pages: zero, aligned, and only taken when touched.
class MappedBuffer final : public DeviceBuffer {
 public:
  MappedBuffer(void* data, size_t bytes, size_t mapped)
      : data_(data), bytes_(bytes), mapped_(mapped) {}
  ~MappedBuffer() override { munmap(data_, mapped_); }
  MappedBuffer(const MappedBuffer&) = delete;
  MappedBuffer& operator=(const MappedBuffer&) = delete;
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t bytes() const override { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
  size_t mapped_;
};

// "MemTotal:   123 kB" of /proc/meminfo, in bytes.
uint64_t meminfo(const std::string& field) {
  std::ifstream in("/proc/meminfo");
  std::string key;
  std::string rest;
  while (in >> key) {
    if (key == field) {
      uint64_t kib = 0;
      in >> kib;
      return kib * 1024;
    }
    std::getline(in, rest);
  }
  return 0;
}

uint64_t number_in(const char* path, uint64_t otherwise) {
  std::ifstream in(path);
  uint64_t value = 0;
  return (in >> value) ? value : otherwise;
}

}  // namespace

Result<std::unique_ptr<DeviceBuffer>> allocate_host(size_t bytes, std::string_view what) {
  constexpr size_t kPage = 4096;
  if (bytes > std::numeric_limits<size_t>::max() / 2) {
    return Status(Code::out_of_memory, std::string(what) + ": absurd size");
  }
  const size_t mapped = std::max<size_t>((bytes + kPage - 1) / kPage * kPage, kPage);
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return Status(Code::out_of_memory,
                  std::string(what) + ": the system gave no " + std::to_string(bytes >> 20) +
                      " MiB of host memory: " + std::strerror(errno));
  }
  constexpr size_t kHugeFrom = size_t{4} << 20;
  if (mapped >= kHugeFrom) madvise(data, mapped, MADV_HUGEPAGE);
  return std::unique_ptr<DeviceBuffer>(new MappedBuffer(data, bytes, mapped));
}

HostMemory host_memory() {
  HostMemory m{meminfo("MemTotal:"), meminfo("MemAvailable:")};
  constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
  const uint64_t limit = number_in("/sys/fs/cgroup/memory.max", kUnlimited);
  if (limit < m.total) {
    const uint64_t used = number_in("/sys/fs/cgroup/memory.current", 0);
    m.total = limit;
    m.free = std::min(m.free, limit - std::min(limit, used));
  }
  return m;
}

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with("model name")) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "CPU";
}

}  // namespace troupe::cpu
