// Errors as objects, and guard(): the wall that no exception passes.
//
// Every entry point of troupe.h that can fail is `return guard([&]() -> Status { ... })`; the
// others are `guard_void`. Both refuse in a process forked from the one in which the library was
// first used.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "base/status.hpp"
#include "capi/troupe.h"

struct troupe_error {
  troupe::Status status;
};

namespace troupe::capi {

// Never throws: without memory it answers the static object below.
[[nodiscard]] troupe_error* make_error(Status status) noexcept;
// Static and immutable; troupe_error_free leaves it alone.
[[nodiscard]] troupe_error* out_of_memory_error() noexcept;

// Remembers the process in which the first handle was made.
void adopt_process() noexcept;
// True in a fork of that process.
[[nodiscard]] bool forked() noexcept;
[[nodiscard]] Status forked_status();
// "argument `name` is NULL".
[[nodiscard]] Status null_argument(const char* name);

template <class F>
troupe_error* guard(F&& body) noexcept {
  try {
    if (forked()) return make_error(forked_status());
    Status status = std::forward<F>(body)();
    return status.ok() ? nullptr : make_error(std::move(status));
  } catch (const std::bad_alloc&) {
    return out_of_memory_error();
  } catch (const std::exception& e) {
    try {
      return make_error(internal_error(std::string("unexpected exception: ") + e.what()));
    } catch (...) {
      return out_of_memory_error();
    }
  } catch (...) {
    return make_error(Status(Code::internal, {}));
  }
}

// As guard, for what hands something out: `*out` is null unless the body fills it.
template <class T, class F>
troupe_error* guard_out(T** out, F&& body) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard([&]() -> Status {
    if (out == nullptr) return null_argument("out");
    return std::forward<F>(body)();
  });
}

template <class F>
void guard_void(F&& body) noexcept {
  try {
    if (!forked()) std::forward<F>(body)();
  } catch (...) {
    // Nobody to tell: these functions only give up work or memory.
  }
}

}  // namespace troupe::capi

// The guarded body's usual first line.
#define TR_NEED(argument) \
  if ((argument) == nullptr) return ::troupe::capi::null_argument(#argument)
