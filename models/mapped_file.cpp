#include "models/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace troupe::models {
namespace {

struct PageRange {
  uintptr_t begin = 0;
  size_t bytes = 0;
};

// The whole pages inside a range, so that neighbours keep theirs.
PageRange inner_pages(const std::byte* begin, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const auto last = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
  return last > first ? PageRange{first, last - first} : PageRange{};
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path,
                                                           std::string_view label) {
  const auto why = [&](const std::string& text) { return std::string(label) + ": " + text; };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const Code code = errno == ENOENT ? Code::not_found : Code::invalid;
    return Status(code, why(std::string("cannot be opened (") + path + "): " + strerror(errno)));
  }
  struct stat info {};
  const bool plain = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  if (!plain) {
    ::close(fd);
    return corrupt_model(why("is not a plain file (" + path + ")"));
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = size == 0 ? nullptr : mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (data == MAP_FAILED) {
    return Status(Code::out_of_memory, why(std::string("cannot be mapped: ") + strerror(error)));
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(static_cast<const std::byte*>(data), size, true, std::string(label)));
}

std::shared_ptr<const MappedFile> MappedFile::borrow(std::span<const std::byte> bytes,
                                                     std::string_view label) {
  return std::shared_ptr<const MappedFile>(
      new MappedFile(bytes.data(), bytes.size(), false, std::string(label)));
}

MappedFile::~MappedFile() {
  if (mapped_ && data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(const std::byte* begin, size_t bytes) const {
  const PageRange pages = mapped_ ? inner_pages(begin, bytes) : PageRange{};
  if (pages.bytes > 0) madvise(reinterpret_cast<void*>(pages.begin), pages.bytes, MADV_DONTNEED);
}

}  // namespace troupe::models
