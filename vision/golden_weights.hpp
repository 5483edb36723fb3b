// For tests: a golden folder of tests/golden/vision/models as a model folder on disk. Its weights are a
// function of seed and name (tests/golden/vision_weights.py), so only their shapes are stored.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/test_folder.hpp"
#include "vision/processor.hpp"

namespace troupe::vision::testing {

// The same values as vision_weights.draw().
std::vector<float> draw(uint64_t seed, const std::string& name, size_t count, float mean,
                        float deviation);

// A temporary copy of the folder with model.safetensors (f32) written from weights.json.
std::unique_ptr<models::testing::TestFolder> grow(const std::string& folder);

// The layout of one picture of a case in expected.json.
PictureLayout layout_of(const nlohmann::json& picture);

}  // namespace troupe::vision::testing
