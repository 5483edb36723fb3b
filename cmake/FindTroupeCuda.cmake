# Finds nvcc and what it needs, in a toolkit or in NVIDIA's Python wheels, without paths set by hand.
#
# Looked at in this order: TROUPE_CUDA_ROOT (a hint), CUDA_HOME and CUDA_PATH, nvcc on the PATH, the
# usual toolkit folders, then nvidia/cu13 in the site-packages of the source tree's .venv, of what
# dev/setup keeps in its cache, of an active virtual environment and of every python3 on the PATH. The
# wheels are those of dev/cuda-wheels.txt.
#
# Sets TroupeCuda_FOUND, TroupeCuda_NVCC, TroupeCuda_INCLUDE_DIR, TroupeCuda_CUDART and
# TroupeCuda_REASON (why not), and defines troupe_cuda_objects().

set(roots "")
foreach(root IN ITEMS "${TROUPE_CUDA_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}")
  if(root)
    list(APPEND roots "${root}")
  endif()
endforeach()
find_program(TroupeCuda_PATH_NVCC nvcc NO_CACHE)
if(TroupeCuda_PATH_NVCC)
  get_filename_component(bin "${TroupeCuda_PATH_NVCC}" REALPATH)
  get_filename_component(bin "${bin}" DIRECTORY)
  get_filename_component(root "${bin}" DIRECTORY)
  list(APPEND roots "${root}")
endif()
file(GLOB toolkits "/usr/local/cuda" "/usr/local/cuda-1[3-9]*" "/opt/cuda")
list(APPEND roots ${toolkits})
set(prefixes "${CMAKE_SOURCE_DIR}/.venv" "$ENV{TROUPE_CACHE}/cuda" "$ENV{HOME}/.cache/troupe/cuda"
             "$ENV{VIRTUAL_ENV}" "/usr" "/usr/local")
string(REPLACE ":" ";" path_folders "$ENV{PATH}")
foreach(folder IN LISTS path_folders)
  if(EXISTS "${folder}/python3")
    get_filename_component(prefix "${folder}" DIRECTORY)
    list(APPEND prefixes "${prefix}")
  endif()
endforeach()
foreach(prefix IN LISTS prefixes)
  if(prefix)
    file(GLOB wheels "${prefix}/lib/python3*/site-packages/nvidia/cu13"
                     "${prefix}/lib/python3*/dist-packages/nvidia/cu13")
    list(APPEND roots ${wheels})
  endif()
endforeach()
list(REMOVE_DUPLICATES roots)

set(TroupeCuda_FOUND FALSE)
set(TroupeCuda_REASON "no nvcc in a CUDA 13 toolkit or in the nvidia wheels of a Python")
foreach(root IN LISTS roots)
  if(TroupeCuda_FOUND OR NOT EXISTS "${root}/bin/nvcc")
    continue()
  endif()
  find_file(runtime_header cuda_runtime.h PATHS "${root}/include" "${root}/targets/x86_64-linux/include"
            NO_DEFAULT_PATH NO_CACHE)
  find_file(blas_header cublasLt.h PATHS "${root}/include" "${root}/targets/x86_64-linux/include"
            NO_DEFAULT_PATH NO_CACHE)
  find_file(cudart libcudart_static.a PATHS "${root}/lib64" "${root}/lib" "${root}/targets/x86_64-linux/lib"
            NO_DEFAULT_PATH NO_CACHE)
  if(NOT runtime_header OR NOT blas_header OR NOT cudart)
    set(TroupeCuda_REASON "${root} has nvcc but lacks cuda_runtime.h, cublasLt.h or libcudart_static.a")
  else()
    execute_process(COMMAND "${root}/bin/nvcc" --version OUTPUT_VARIABLE version ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+)\\.([0-9]+)" version "${version}")
    if(NOT version OR CMAKE_MATCH_1 LESS 13)
      set(TroupeCuda_REASON "${root} is CUDA ${CMAKE_MATCH_1}.${CMAKE_MATCH_2}; CUDA 13 is needed")
    else()
      set(TroupeCuda_FOUND TRUE)
      set(TroupeCuda_NVCC "${root}/bin/nvcc")
      set(TroupeCuda_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
      set(TroupeCuda_CUDART "${cudart}")
      get_filename_component(TroupeCuda_INCLUDE_DIR "${runtime_header}" DIRECTORY)
    endif()
  endif()
  unset(runtime_header)
  unset(blas_header)
  unset(cudart)
endforeach()

# 90a: machine code tuned for Hopper. A plain number: PTX that drivers turn into code for devices of
# that compute capability and later. "75;80;90a" also runs on Turing.
set(TROUPE_CUDA_CODE "80;90a" CACHE STRING "What nvcc makes code for: 90a, 80, 75 …")
set(TROUPE_CUDA_FLAGS "")
foreach(code IN LISTS TROUPE_CUDA_CODE)
  if(code MATCHES "^[0-9]+a$")
    list(APPEND TROUPE_CUDA_FLAGS "-gencode=arch=compute_${code},code=sm_${code}")
  elseif(code MATCHES "^[0-9]+$" AND NOT code LESS 75)
    list(APPEND TROUPE_CUDA_FLAGS "-gencode=arch=compute_${code},code=compute_${code}")
  else()
    message(FATAL_ERROR "TROUPE_CUDA_CODE: '${code}' is not 75 or more, nor a number with an a")
  endif()
endforeach()

# troupe_cuda_objects(variable file.cu ...): compiles with nvcc; the objects' paths go to `variable`.
function(troupe_cuda_objects variable)
  set(objects "")
  foreach(source IN LISTS ARGN)
    get_filename_component(name "${source}" NAME_WE)
    set(object "${CMAKE_CURRENT_BINARY_DIR}/${name}.cu.o")
    add_custom_command(
      OUTPUT "${object}"
      COMMAND ${TROUPE_CCACHE} "${TroupeCuda_NVCC}" -std=c++17 -O3 ${TROUPE_CUDA_FLAGS} -ccbin "${CMAKE_CXX_COMPILER}"
              -Xcompiler -fPIC,-fvisibility=hidden -diag-suppress=177 "-I${CMAKE_SOURCE_DIR}" -isystem "${TroupeCuda_INCLUDE_DIR}"
              -MD -MF "${object}.d" -c "${CMAKE_CURRENT_SOURCE_DIR}/${source}" -o "${object}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${source}"
      DEPFILE "${object}.d"
      COMMENT "nvcc ${source}"
      VERBATIM COMMAND_EXPAND_LISTS)
    list(APPEND objects "${object}")
  endforeach()
  set(${variable} "${objects}" PARENT_SCOPE)
endfunction()
