#include "capi/error.hpp"

#include <pthread.h>

#include <atomic>
#include <mutex>

namespace troupe::capi {
namespace {

// Set in the child by fork() itself: asking for the process id would be a system call in each of
// ours.
std::atomic<bool> in_fork{false};
std::once_flag adopted;

}  // namespace

troupe_error* out_of_memory_error() noexcept {
  // The message fits std::string's own buffer (15 bytes), so making it allocates nothing.
  static troupe_error error{Status(Code::out_of_memory, "out of memory")};
  return &error;
}

troupe_error* make_error(Status status) noexcept {
  auto* error = new (std::nothrow) troupe_error{std::move(status)};
  return error != nullptr ? error : out_of_memory_error();
}

void adopt_process() noexcept {
  std::call_once(adopted, [] {
    ::pthread_atfork(nullptr, nullptr, [] { in_fork.store(true, std::memory_order_relaxed); });
  });
}

bool forked() noexcept {
  return in_fork.load(std::memory_order_relaxed);
}

Status forked_status() {
  return {Code::forked,
          "this process was forked from one that uses libtroupe: engines do not survive fork(); "
          "start the child with exec or posix_spawn (Python: the 'spawn' start method)"};
}

Status null_argument(const char* name) {
  return invalid(std::string("argument `") + name + "` is NULL");
}

}  // namespace troupe::capi

using troupe::Code;

extern "C" {

int32_t troupe_error_code(const troupe_error* error) {
  return error == nullptr ? TROUPE_OK : static_cast<int32_t>(error->status.code());
}

const char* troupe_error_message(const troupe_error* error) {
  return error == nullptr ? "" : error->status.message().c_str();
}

int32_t troupe_error_retryable(const troupe_error* error) {
  return error != nullptr && error->status.retryable() ? 1 : 0;
}

void troupe_error_free(troupe_error* error) {
  if (error != troupe::capi::out_of_memory_error()) delete error;
}

const char* troupe_error_name(int32_t code) {
  return troupe::code_name(static_cast<Code>(code)).data();  // literals: they end in NUL
}
}

static_assert(TROUPE_OK == static_cast<int>(Code::ok));
static_assert(TROUPE_ERROR_INVALID == static_cast<int>(Code::invalid));
static_assert(TROUPE_ERROR_LIMIT == static_cast<int>(Code::limit));
static_assert(TROUPE_ERROR_OVERLOADED == static_cast<int>(Code::overloaded));
static_assert(TROUPE_ERROR_DEADLINE == static_cast<int>(Code::deadline));
static_assert(TROUPE_ERROR_CANCELLED == static_cast<int>(Code::cancelled));
static_assert(TROUPE_ERROR_NOT_FOUND == static_cast<int>(Code::not_found));
static_assert(TROUPE_ERROR_UNSUPPORTED == static_cast<int>(Code::unsupported));
static_assert(TROUPE_ERROR_CORRUPT_MODEL == static_cast<int>(Code::corrupt_model));
static_assert(TROUPE_ERROR_OUT_OF_MEMORY == static_cast<int>(Code::out_of_memory));
static_assert(TROUPE_ERROR_DEVICE_FAILED == static_cast<int>(Code::device_failed));
static_assert(TROUPE_ERROR_CONNECTION_LOST == static_cast<int>(Code::connection_lost));
static_assert(TROUPE_ERROR_CLOSED == static_cast<int>(Code::closed));
static_assert(TROUPE_ERROR_FORKED == static_cast<int>(Code::forked));
static_assert(TROUPE_ERROR_UNAUTHORISED == static_cast<int>(Code::unauthorised));
static_assert(TROUPE_ERROR_INTERNAL == static_cast<int>(Code::internal));
