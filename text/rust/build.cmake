# Builds the Rust library and puts it where CMake expects it. A script of its own so that
# CARGO_TARGET_DIR is read when the build runs, not when it was configured.
#   cmake -DCARGO=... -DMANIFEST=... -DFALLBACK_TARGET_DIR=... -DOUTPUT=... -P build.cmake
if(DEFINED ENV{CARGO_TARGET_DIR} AND NOT "$ENV{CARGO_TARGET_DIR}" STREQUAL "")
  set(target_dir "$ENV{CARGO_TARGET_DIR}")
else()
  set(target_dir "${FALLBACK_TARGET_DIR}")
endif()
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
