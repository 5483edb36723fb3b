// Owning wrappers around the C face of the Rust library. Included by the .cpp files of text/ only.
#pragma once

#include <string>
#include <string_view>

#include "base/status.hpp"
#include "text/rust/text_ffi.h"

namespace troupe::text::ffi {

inline tt_slice slice(std::string_view text) { return {text.data(), text.size()}; }

class Bytes {
 public:
  Bytes() = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { tt_bytes_free(raw_); }
  tt_bytes* out() { return &raw_; }
  [[nodiscard]] std::string_view view() const {
    return raw_.data == nullptr ? std::string_view() : std::string_view(raw_.data, raw_.size);
  }

 private:
  tt_bytes raw_{nullptr, 0};
};

// `where`: the file or the thing that was worked on; may be empty.
inline Status failure(int32_t rc, const Bytes& error, std::string_view where) {
  Code code = Code::internal;
  if (rc == TT_INVALID) code = Code::invalid;
  if (rc == TT_CORRUPT) code = Code::corrupt_model;
  if (rc == TT_UNSUPPORTED) code = Code::unsupported;
  if (rc == TT_LIMIT) code = Code::limit;
  const Status status(code, std::string(error.view()));
  return where.empty() ? status : status.at(where);
}

}  // namespace troupe::text::ffi
