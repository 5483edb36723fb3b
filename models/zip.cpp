#include "models/zip.hpp"

#include <cstdint>
#include <cstring>
#include <optional>

#include "base/limits.hpp"

namespace troupe::models {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50;
constexpr uint32_t kLocator64 = 0x07064b50;
constexpr size_t kEndBytes = 22, kLocator64Bytes = 20, kEnd64Bytes = 56;
constexpr size_t kCentralBytes = 46, kLocalBytes = 30;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // "look into the zip64 field"

// Reads little-endian numbers; the caller has checked that they are inside.
template <class T>
T get(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

bool inside(uint64_t begin, uint64_t count, size_t size) {
  return begin <= size && count <= size - begin;
}

struct Directory {
  uint64_t offset = 0, bytes = 0, entries = 0;
};

// The end record stands last, before a comment of at most 64 KiB.
std::optional<size_t> find_end(std::span<const std::byte> file) {
  if (file.size() < kEndBytes) return std::nullopt;
  const size_t last = file.size() - kEndBytes;
  const size_t first = last > 65535 ? last - 65535 : 0;
  for (size_t at = last + 1; at-- > first;) {
    if (get<uint32_t>(file, at) == kEnd) return at;
  }
  return std::nullopt;
}

std::optional<Directory> find_directory(std::span<const std::byte> file) {
  const auto end = find_end(file);
  if (!end) return std::nullopt;
  Directory d{get<uint32_t>(file, *end + 16), get<uint32_t>(file, *end + 12),
              get<uint16_t>(file, *end + 10)};
  if (*end >= kLocator64Bytes && get<uint32_t>(file, *end - kLocator64Bytes) == kLocator64) {
    const auto at = get<uint64_t>(file, *end - kLocator64Bytes + 8);
    if (!inside(at, kEnd64Bytes, file.size()) || get<uint32_t>(file, at) != kEnd64) {
      return std::nullopt;
    }
    d = {get<uint64_t>(file, at + 48), get<uint64_t>(file, at + 40), get<uint64_t>(file, at + 32)};
  }
  return inside(d.offset, d.bytes, file.size()) ? std::optional(d) : std::nullopt;
}

struct Entry {
  uint64_t stored = 0, size = 0, offset = 0;
  uint16_t flags = 0, method = 0;
};

// Sizes and offset of large entries stand in the extra field with id 1, in this order.
bool read_zip64(std::span<const std::byte> extra, Entry& e) {
  size_t at = 0;
  while (inside(at, 4, extra.size())) {
    const auto id = get<uint16_t>(extra, at);
    const auto bytes = get<uint16_t>(extra, at + 2);
    at += 4;
    if (!inside(at, bytes, extra.size())) return false;
    if (id == 1) {
      const auto field = extra.subspan(at, bytes);
      size_t next = 0;
      for (uint64_t* value : {&e.size, &e.stored, &e.offset}) {
        if (*value != kIn64) continue;
        if (!inside(next, 8, field.size())) return false;
        *value = get<uint64_t>(field, next);
        next += 8;
      }
      return true;
    }
    at += bytes;
  }
  return e.size != kIn64 && e.stored != kIn64 && e.offset != kIn64;
}

}  // namespace

Result<ZipEntries> read_zip(std::span<const std::byte> file, std::string_view label) {
  const auto broken = [&](const std::string& why) {
    return corrupt_model(std::string(label) + ": " + why);
  };
  const auto directory = find_directory(file);
  if (!directory) return broken("zip directory missing or misplaced: truncated? download it again");
  if (directory->entries > limits::zip_entries) {
    return broken("zip directory of " + std::to_string(directory->entries) + " entries, at most " +
                  std::to_string(limits::zip_entries) + " are read");
  }
  const auto list = file.subspan(directory->offset, directory->bytes);
  ZipEntries out;
  size_t at = 0;
  for (uint64_t i = 0; i < directory->entries; ++i) {
    if (!inside(at, kCentralBytes, list.size()) || get<uint32_t>(list, at) != kCentralHeader) {
      return broken("zip entry " + std::to_string(i) + " of the directory is damaged");
    }
    Entry e{get<uint32_t>(list, at + 20), get<uint32_t>(list, at + 24),
            get<uint32_t>(list, at + 42), get<uint16_t>(list, at + 8),
            get<uint16_t>(list, at + 10)};
    const size_t name_bytes = get<uint16_t>(list, at + 28);
    const size_t extra_bytes = get<uint16_t>(list, at + 30);
    const size_t comment_bytes = get<uint16_t>(list, at + 32);
    at += kCentralBytes;
    if (!inside(at, name_bytes + extra_bytes + comment_bytes, list.size())) {
      return broken("zip entry " + std::to_string(i) + " of the directory is cut off");
    }
    const std::string name(reinterpret_cast<const char*>(list.data()) + at, name_bytes);
    if (!read_zip64(list.subspan(at + name_bytes, extra_bytes), e)) {
      return broken("zip entry " + name + ": damaged zip64 field");
    }
    at += name_bytes + extra_bytes + comment_bytes;
    if ((e.flags & 1U) != 0) return broken("zip entry " + name + ": is encrypted");
    if (e.method != 0 || e.stored != e.size) {
      return broken("zip entry " + name + ": is compressed; torch.save stores entries as they are");
    }
    if (!inside(e.offset, kLocalBytes, file.size()) ||
        get<uint32_t>(file, e.offset) != kLocalHeader) {
      return broken("zip entry " + name + ": its header is not where the directory says");
    }
    const uint64_t begin = e.offset + kLocalBytes + get<uint16_t>(file, e.offset + 26) +
                           get<uint16_t>(file, e.offset + 28);
    if (!inside(begin, e.size, file.size())) {
      return broken("zip entry " + name + ": reaches beyond the end of the file");
    }
    if (!out.emplace(name, file.subspan(begin, e.size)).second) {
      return broken("zip entry " + name + ": is there twice");
    }
  }
  return out;
}

}  // namespace troupe::models
