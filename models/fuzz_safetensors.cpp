// Fuzz target: any bytes as a safetensors file. Tensors that are accepted must lie inside it.
#include "models/fuzz.hpp"
#include "models/mapped_file.hpp"
#include "models/safetensors.hpp"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return check_tensors(data, size, troupe::models::read_safetensors);
}
