// A file of a model folder, mapped read-only. Weights stay where the page cache has them: tensors
// are views into the mapping, and a device that shares host memory computes straight from it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.hpp"

namespace troupe::models {

class MappedFile {
 public:
  // `label` names the file in errors. Follows symbolic links; refuses what is not a plain file.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path,
                                                        std::string_view label);
  // Bytes that are in memory already and outlive the object (fuzz targets).
  static std::shared_ptr<const MappedFile> borrow(std::span<const std::byte> bytes,
                                                  std::string_view label);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::string& label() const { return label_; }
  // Gives back the pages of a range that has been copied elsewhere. They can still be read again.
  void release(const std::byte* begin, size_t bytes) const;

 private:
  MappedFile(const std::byte* data, size_t size, bool mapped, std::string label)
      : data_(data), size_(size), mapped_(mapped), label_(std::move(label)) {}
  const std::byte* data_;
  size_t size_;
  bool mapped_;
  std::string label_;
};

}  // namespace troupe::models
