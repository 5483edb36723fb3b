// The table of model families: which architecture names of config.json each of them answers to.
#pragma once

#include <span>
#include <string_view>

#include "base/status.hpp"

namespace troupe::models {

class Fields;
struct ModelDescription;

struct Family {
  std::string_view name;
  std::string_view model_type;  // of config.json
  std::span<const std::string_view> architectures;
  void (*describe)(const Fields& config, ModelDescription& out);  // problems stick to `config`
};
std::span<const Family> families();

// Finds the family of a config and lets it describe the model. An unknown architecture is refused
// with the known ones and the nearest.
Status describe(const Fields& config, ModelDescription& out);

}  // namespace troupe::models
