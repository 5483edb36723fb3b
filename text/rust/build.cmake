# Builds the Rust library and puts it where CMake expects it. A script of its own so that
# CARGO_TARGET_DIR is read when the build runs, not when it was configured.
#   cmake -DCARGO=... -DMANIFEST=... -DFALLBACK_TARGET_DIR=... -DOUTPUT=... -P build.cmake
if(DEFINED ENV{CARGO_TARGET_DIR} AND NOT "$ENV{CARGO_TARGET_DIR}" STREQUAL "")
  set(target_dir "$ENV{CARGO_TARGET_DIR}")
else()
  set(target_dir "${FALLBACK_TARGET_DIR}")
endif()
# Clones that share a target folder share the name of what comes out of it, and cargo would take another
# clone's library for ours when ours has not changed since. So this one crate is always built anew (its
# dependencies are not), and from there to the copy nobody else may build it.
file(MAKE_DIRECTORY "${target_dir}")
file(LOCK "${target_dir}/troupe_text.lock" GUARD PROCESS TIMEOUT 3600)
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${target_dir}"
          "${CARGO}" clean --release --quiet --package troupe_text --manifest-path "${MANIFEST}"
  OUTPUT_QUIET ERROR_QUIET)
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${target_dir}"
          "${CARGO}" build --release --locked --quiet --manifest-path "${MANIFEST}"
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "cargo build of ${MANIFEST} failed (${result}); its crates come from crates.io "
                      "or from cargo's cache, at the versions of Cargo.lock")
endif()
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E copy "${target_dir}/release/libtroupe_text.a" "${OUTPUT}"
  COMMAND_ERROR_IS_FATAL ANY)
