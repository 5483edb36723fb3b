// Fuzz target: any bytes as a pytorch_model.bin, and as the pickle program in one.
#include "models/fuzz.hpp"
#include "models/mapped_file.hpp"
#include "models/pickle.hpp"
#include "models/pickle_machine.hpp"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto program =
      troupe::models::pickle::run({reinterpret_cast<const std::byte*>(data), size}, "data.pkl");
  if (program.ok()) TR_ASSERT(program->result < program->values.size());
  return check_tensors(data, size, troupe::models::read_pytorch);
}
