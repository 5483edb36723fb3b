# How every room is built: language level, warnings, sanitizers, ccache, mold; and the two verbs
# troupe_room() and troupe_test() that the rooms' CMakeLists use.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/archive")

# RelWithDebInfo with line tables only: asserts stay on, backtraces have lines, links stay quick.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g1")

find_program(TROUPE_CCACHE ccache)
if(TROUPE_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime" "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" "CCACHE_NOHASHDIR=1" "${TROUPE_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_C_COMPILER_LAUNCHER})
endif()
find_program(TROUPE_MOLD mold)
if(TROUPE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(troupe_build_flags INTERFACE)
target_include_directories(troupe_build_flags INTERFACE "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/generated")
target_compile_options(troupe_build_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Werror>
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wpedantic -Werror>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-string-conversion>)  # TR_ASSERT(!"why") is meant
# How files of SIMD kernels compile themselves, once per instruction set (Highway): the portable baseline,
# SSE4, AVX2 and AVX-512. Sanitizers look at two of them; optimising what they instrument takes minutes a file.
# The baseline converts numbers that no integer holds as its instructions would, which C++ leaves open.
set(TROUPE_SIMD_OPTIONS "-O3;-DHWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_AVX3_DL)")
# How a shared library is linked that must lack nothing. A sanitizer's runtime comes with the program.
set(TROUPE_LINK_COMPLETE "LINKER:--no-undefined")
if(TROUPE_SANITIZE)
  set(TROUPE_LINK_COMPLETE)
  set(TROUPE_SIMD_OPTIONS "-O1;-fno-sanitize=float-cast-overflow;-DHWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4|HWY_AVX3|HWY_AVX3_DL)")
  add_compile_options(-fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${TROUPE_SANITIZE})
  # Programs in C bring the runtime for the libraries in C++ that they load.
  add_link_options("$<$<LINK_LANG_AND_ID:C,Clang>:-fsanitize-link-c++-runtime;-lstdc++>")
endif()

# The headers that are precompiled once for all rooms, and once more for all test programs, whose code
# is position-independent in another way. Named in <>: a path of this clone in the precompiled file would
# make every clone miss the compiler cache.
file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/generated/precompiled.cpp" CONTENT "int main() { return 0; }\n")
add_library(troupe_room_headers STATIC "${CMAKE_BINARY_DIR}/generated/precompiled.cpp")
target_link_libraries(troupe_room_headers PRIVATE troupe_build_flags)
target_precompile_headers(troupe_room_headers PRIVATE <base/standard_headers.hpp>)
if(TROUPE_TESTS)
  find_package(GTest REQUIRED)
  add_executable(troupe_test_headers EXCLUDE_FROM_ALL "${CMAKE_BINARY_DIR}/generated/precompiled.cpp")
  target_link_libraries(troupe_test_headers PRIVATE GTest::gmock troupe_build_flags)
  target_precompile_headers(troupe_test_headers PRIVATE <base/standard_headers.hpp>
    <gmock/gmock.h> <gtest/gtest.h>)
endif()

# troupe_room(name SOURCES ... LIBS ... [HEADERS file]): the static library of one room. HEADERS names
# the room's own file of headers to precompile, in place of base/standard_headers.hpp.
function(troupe_room name)
  cmake_parse_arguments(ROOM "" "HEADERS" "SOURCES;LIBS" ${ARGN})
  add_library(${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(${name} PUBLIC ${ROOM_LIBS} PRIVATE troupe_build_flags)
  if(ROOM_HEADERS)
    target_precompile_headers(${name} PRIVATE <${ROOM_HEADERS}>)
  else()
    target_precompile_headers(${name} REUSE_FROM troupe_room_headers)
  endif()
  target_include_directories(${name} PUBLIC "${CMAKE_SOURCE_DIR}")
endfunction()

# troupe_test(name SOURCES ... LIBS ... LABELS ... [TIMEOUT s]): one GoogleTest program, run from
# the source tree so that tests name their data by repository path.
function(troupe_test name)
  if(NOT TROUPE_TESTS)
    return()
  endif()
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LIBS} GTest::gmock GTest::gtest GTest::gtest_main troupe_build_flags)
  target_precompile_headers(${name} REUSE_FROM troupe_test_headers)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT} LABELS "${TEST_LABELS}")
endfunction()

# Tests that hold resident memory to a bound: the address sanitizer keeps nothing of what they free, and no
# second stacks of threads that have ended.
function(troupe_test_keeps_memory)
  if(NOT TROUPE_TESTS)
    return()
  endif()
  set_tests_properties(${ARGN} PROPERTIES ENVIRONMENT_MODIFICATION
    "ASAN_OPTIONS=string_append::quarantine_size_mb=0:thread_local_quarantine_size_kb=0:detect_stack_use_after_return=0")
endfunction()
