#include "actors/shell.hpp"

#include <ctime>
#include <new>

namespace troupe::actors {

int64_t thread_cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

Status status_of(const std::exception_ptr& exception) {
  try {
    if (exception) std::rethrow_exception(exception);
    return internal_error("no exception");
  } catch (const std::bad_alloc&) {
    return {Code::out_of_memory, "out of host memory"};
  } catch (const std::exception& e) {
    return internal_error(e.what());
  } catch (...) {
    return internal_error("an exception that is not a std::exception");
  }
}

}  // namespace troupe::actors
