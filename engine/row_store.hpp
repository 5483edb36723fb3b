// Memory for the rows of pictures on one device. What is given back is kept for the next picture: a
// device stops everything to take memory back, and whoever drops the last rows must not wait for it.
//
// take() is the encoder's thread's; buffers come back from any thread. Memory that is the host's own
// is not kept: giving it back stops nobody.
#pragma once

#include <memory>
#include <string_view>

#include "base/status.hpp"
#include "kernels/backend.hpp"

namespace troupe::engine {

class RowStore {
 public:
  explicit RowStore(std::shared_ptr<Backend> backend);

  // At least so many bytes. The store and its backend live on until the last buffer is dropped.
  Result<std::shared_ptr<DeviceBuffer>> take(size_t bytes);

 private:
  struct Idle;
  const std::shared_ptr<Backend> backend_;
  const std::shared_ptr<Idle> idle_;
};

}  // namespace troupe::engine
