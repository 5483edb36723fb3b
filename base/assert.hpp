// TR_ASSERT states an invariant: a programmer's error when broken, never reachable by user input.
// It stays on in release builds, so it must be cheap; TR_DCHECK is for what is not.
#pragma once

namespace troupe {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line);
}  // namespace troupe

#define TR_ASSERT(expr) \
  ((expr) ? static_cast<void>(0) : ::troupe::assert_failed(#expr, __FILE__, __LINE__))

#ifdef NDEBUG
#define TR_DCHECK(expr) static_cast<void>(sizeof(expr))
#else
#define TR_DCHECK(expr) TR_ASSERT(expr)
#endif
