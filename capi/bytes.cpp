#include "capi/bytes.hpp"

#include <cstring>
#include <new>

#include "capi/error.hpp"

namespace troupe::capi {

// One allocation: the struct, then its bytes, then the NUL.
troupe_bytes* make_bytes(const void* data, size_t size) {
  void* const memory = ::operator new(sizeof(troupe_bytes) + size + 1);
  auto* const content = static_cast<char*>(memory) + sizeof(troupe_bytes);
  if (size > 0) std::memcpy(content, data, size);
  content[size] = '\0';
  auto* const bytes = new (memory) troupe_bytes{};
  bytes->struct_size = sizeof(troupe_bytes);
  bytes->data = content;
  bytes->size = size;
  return bytes;
}

}  // namespace troupe::capi

extern "C" void troupe_bytes_free(troupe_bytes* bytes) {
  troupe::capi::guard_void([&] { ::operator delete(static_cast<void*>(bytes)); });
}
