// What nearly every unit includes, precompiled once for all rooms: parsing it was a third of a build.
// A unit still includes what it uses; `-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON` builds without this
// file and shows what was forgotten (the preset asan does).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>
