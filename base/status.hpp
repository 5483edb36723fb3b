// Status and Result<T>: how every room reports an expected failure.
//
// A Status carries one of the frozen codes that the C ABI, the SDKs, the wire and HTTP share, and a
// message that says what failed, where (file, field, limit and value) and what to do about it.
// Programmer errors are TR_ASSERT (base/assert.hpp); exceptions never leave the room they rise in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/assert.hpp"

namespace troupe {

// The numbers are published (troupe.h, docs/protocol.md): append only.
enum class Code : int32_t {
  ok = 0,
  invalid = 1,
  limit = 2,
  overloaded = 3,
  deadline = 4,
  cancelled = 5,
  not_found = 6,
  unsupported = 7,
  corrupt_model = 8,
  out_of_memory = 9,
  device_failed = 10,
  connection_lost = 11,
  closed = 12,
  forked = 13,
  unauthorised = 14,
  internal = 15,
};

[[nodiscard]] std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Status(Code code, std::string message, bool retryable)
      : code_(code), retryable_(retryable), message_(std::move(message)) {}

  [[nodiscard]] bool ok() const { return code_ == Code::ok; }
  [[nodiscard]] Code code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  // overloaded and connection_lost always are; device_failed when another device can serve.
  [[nodiscard]] bool retryable() const {
    return retryable_ || code_ == Code::overloaded || code_ == Code::connection_lost;
  }
  // The same failure seen from one level up: "where: message".
  [[nodiscard]] Status at(std::string_view where) const {
    if (ok()) return *this;
    std::string message(where);
    message.append(": ").append(message_);
    return Status(code_, std::move(message), retryable_);
  }

 private:
  Code code_ = Code::ok;
  bool retryable_ = false;
  std::string message_;
};

inline Status ok_status() { return {}; }
inline Status invalid(std::string m) { return {Code::invalid, std::move(m)}; }
inline Status unsupported(std::string m) { return {Code::unsupported, std::move(m)}; }
inline Status corrupt_model(std::string m) { return {Code::corrupt_model, std::move(m)}; }
inline Status limit_exceeded(std::string m) { return {Code::limit, std::move(m)}; }
inline Status internal_error(std::string m) { return {Code::internal, std::move(m)}; }

// Either a value or a Status that is not ok.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : held_(std::in_place_index<1>, std::move(status)) {
    TR_ASSERT(!std::get<1>(held_).ok());
  }

  [[nodiscard]] bool ok() const { return held_.index() == 0; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] Status status() const { return ok() ? Status() : std::get<1>(held_); }

  T& value() & { return get(); }
  const T& value() const& { return const_cast<Result*>(this)->get(); }
  T&& value() && { return std::move(get()); }
  T& operator*() & { return get(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(get()); }
  T* operator->() { return &get(); }
  const T* operator->() const { return &value(); }

 private:
  T& get() {
    TR_ASSERT(ok());
    return std::get<0>(held_);
  }
  std::variant<T, Status> held_;
};

}  // namespace troupe

// Leaves the function with the failure, if `expr` (a Status) is one.
#define TR_TRY(expr)                                      \
  do {                                                    \
    if (::troupe::Status tr_status_ = (expr); !tr_status_.ok()) return tr_status_; \
  } while (false)

#define TR_CONCAT_INNER(a, b) a##b
#define TR_CONCAT(a, b) TR_CONCAT_INNER(a, b)
// TR_ASSIGN(auto x, f()): x = value of the Result, or leaves the function with its failure.
#define TR_ASSIGN(decl, expr) TR_ASSIGN_IMPL(TR_CONCAT(tr_result_, __LINE__), decl, expr)
#define TR_ASSIGN_IMPL(tmp, decl, expr) \
  auto tmp = (expr);                    \
  if (!tmp.ok()) return tmp.status();   \
  decl = std::move(tmp).value()
