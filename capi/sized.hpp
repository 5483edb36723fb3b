// Sized structs: how structs of older and newer programs are read and written (troupe.h, rule 2).
//
// Reading: what the program's struct lacks at its end is "not given"; what it has beyond ours must
// be untouched since the _init call, which fills it with 0xFF. Writing: as much as the program
// knows.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "base/status.hpp"

namespace troupe::capi {

inline constexpr uint32_t kSmallestStruct = 8;
inline constexpr uint32_t kLargestStruct = 4096;
inline constexpr unsigned char kUntouched = 0xFF;

[[nodiscard]] inline bool is_struct_size(uint32_t size) {
  return size >= kSmallestStruct && size <= kLargestStruct;
}

[[nodiscard]] inline Status bad_struct_size(uint32_t size, const std::string& name,
                                            const std::string& remedy) {
  return invalid(name + ".struct_size is " + std::to_string(size) + ": " + remedy);
}

// What the _init functions do: `defaults` as far as the program's struct goes, 0xFF beyond.
template <class T>
void init_sized(T* out, uint32_t size, const T& defaults) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (out == nullptr || !is_struct_size(size)) return;
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  std::memcpy(bytes, &defaults, std::min<size_t>(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(bytes + sizeof(T), kUntouched, size - sizeof(T));
  out->struct_size = size;
}

template <class T>
[[nodiscard]] Result<T> read_sized(const T& in, const T& defaults, const char* name) {
  if (!is_struct_size(in.struct_size)) {
    return bad_struct_size(in.struct_size, name, "call " + std::string(name) + "_init first");
  }
  T out = defaults;
  std::memcpy(&out, &in, std::min<size_t>(in.struct_size, sizeof(T)));
  const auto* bytes = reinterpret_cast<const unsigned char*>(&in);
  for (size_t i = sizeof(T); i < in.struct_size; ++i) {
    if (bytes[i] != kUntouched) {
      return unsupported(std::string(name) + " has a field at offset " + std::to_string(i) +
                         " that this library does not know: it was built from an older troupe.h; "
                         "update libtroupe or leave the field alone");
    }
  }
  return out;
}

template <class T>
[[nodiscard]] Status write_sized(T* out, const T& value, const char* name) {
  const uint32_t size = out->struct_size;
  if (!is_struct_size(size)) {  // these have no _init
    return bad_struct_size(size, name,
                           "set it to sizeof(" + std::string(name) + ") before the call");
  }
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  std::memcpy(bytes, &value, std::min<size_t>(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(bytes + sizeof(T), 0, size - sizeof(T));
  out->struct_size = size;
  return {};
}

}  // namespace troupe::capi
