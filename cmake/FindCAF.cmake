# CAF 0.17.6 as Debian 12 packages it: headers and shared libraries, no CMake config of its own.
# Gives caf::core, and caf::io when the component `io` is asked for. Another version is refused:
# 0.18 and later changed the API under the same names (docs/cast.md).
find_package(Threads REQUIRED)
find_path(CAF_INCLUDE_DIR caf/config.hpp)
find_library(CAF_core_LIBRARY caf_core)
find_library(CAF_io_LIBRARY caf_io)

if(CAF_INCLUDE_DIR)
  file(STRINGS "${CAF_INCLUDE_DIR}/caf/config.hpp" caf_version_line REGEX "#define CAF_VERSION ")
  string(REGEX MATCH "[0-9]+" CAF_VERSION "${caf_version_line}")
  if(NOT CAF_VERSION EQUAL 1706)
    message(FATAL_ERROR "CAF_VERSION is ${CAF_VERSION} in ${CAF_INCLUDE_DIR}/caf/config.hpp; "
                        "Troupe is written against 1706 (0.17.6). Install libcaf-dev of Debian 12.")
  endif()
endif()

include(FindPackageHandleStandardArgs)
set(caf_needed CAF_INCLUDE_DIR CAF_core_LIBRARY)
if("io" IN_LIST CAF_FIND_COMPONENTS)
  list(APPEND caf_needed CAF_io_LIBRARY)
endif()
find_package_handle_standard_args(CAF REQUIRED_VARS ${caf_needed}
                                  REASON_FAILURE_MESSAGE "install libcaf-dev")

# No INTERFACE_INCLUDE_DIRECTORIES: -isystem /usr/include breaks libstdc++'s #include_next.
foreach(component IN ITEMS core io)
  if(CAF_FOUND AND CAF_${component}_LIBRARY AND NOT TARGET caf::${component})
    add_library(caf::${component} UNKNOWN IMPORTED)
    set_target_properties(caf::${component} PROPERTIES
      IMPORTED_LOCATION "${CAF_${component}_LIBRARY}"
      INTERFACE_LINK_LIBRARIES Threads::Threads)
  endif()
endforeach()
if(TARGET caf::io)
  target_link_libraries(caf::io INTERFACE caf::core)
endif()
