// What ThreadSanitizer must not report of the tests over sockets, each with its reason. libzmq and
// libsodium as packaged are not instrumented: libzmq's queues hand memory from thread to thread
// with atomics that the sanitizer does not see, and libsodium deciphers into it under CURVE. Only
// reports with a frame of these libraries, or of the owner that travels with a blob through the
// same queues, are silent; races between threads of our own are told.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions();

const char* __tsan_default_suppressions() {
  return "race:libzmq.so\n"
         "race:libsodium.so\n"
         "race:troupe::wire::*send_shared\n";
}
