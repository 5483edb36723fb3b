// The fuzz targets of this room are libFuzzer's with TROUPE_FUZZ (a clang build); otherwise
// fuzz_main.cpp runs the same function over a corpus and seeded mutations of it, as a test.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/assert.hpp"
#include "models/checkpoint.hpp"
#include "models/mapped_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// INV-WEIGHTS-1: what a reader accepts lies inside its file. Every byte of it is read.
template <class Reader>
int check_tensors(const uint8_t* data, size_t size, Reader read) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto file = troupe::models::MappedFile::borrow({bytes, size}, "fuzzed");
  const auto tensors = read(file);
  if (!tensors.ok()) {
    TR_ASSERT(!tensors.status().message().empty());
    return 0;
  }
  unsigned sum = 0;
  for (const auto& [name, tensor] : *tensors) {
    TR_ASSERT(tensor.bytes == 0 ||
              (tensor.data >= bytes && tensor.data + tensor.bytes <= bytes + size));
    for (size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<unsigned>(tensor.data[i]);
  }
  [[maybe_unused]] volatile unsigned seen = sum;
  return 0;
}
