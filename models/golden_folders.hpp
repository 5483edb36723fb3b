// For tests: the golden folders, of which each is a model and what its reference answered (expected.json).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace troupe::models::testing {

inline constexpr const char* kGoldenModels = "tests/golden/models";
inline constexpr const char* kGoldenEyes = "tests/golden/vision/models";

// The folders of models in `parent`, in order.
inline std::vector<std::string> golden_names(const std::string& parent) {
  std::vector<std::string> names;
  if (!std::filesystem::exists(parent)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(parent)) {
    if (std::filesystem::exists(entry.path() / "expected.json")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline nlohmann::json expected_of(const std::string& folder) {
  std::ifstream file(folder + "/expected.json");
  return nlohmann::json::parse(file);
}

// A folder's name as that of a test.
inline std::string test_name(const ::testing::TestParamInfo<std::string>& folder) {
  std::string name = folder.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace troupe::models::testing
