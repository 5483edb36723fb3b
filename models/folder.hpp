// A model folder as opened: description, facts, defaults, and its weight files' headers.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "models/cache_plan.hpp"
#include "models/checkpoint.hpp"
#include "models/model.hpp"

namespace troupe::models {

class Folder final : public ModelFolder {
 public:
  static Result<std::shared_ptr<const Folder>> open_folder(const std::string& path,
                                                           const LoadOptions& options);
  // A model without a folder, for dummy weights: what tests and benches describe themselves.
  static Result<std::shared_ptr<const Folder>> described(ModelDescription description, DType dtype,
                                                         const LoadOptions& options);
  [[nodiscard]] const ModelFacts& facts() const override { return facts_; }
  [[nodiscard]] const GenerationDefaults& defaults() const override { return defaults_; }
  [[nodiscard]] const ModelDescription& description() const override { return description_; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] const Checkpoint* checkpoint() const {
    return checkpoint_ ? &*checkpoint_ : nullptr;
  }
  [[nodiscard]] const CachePlan& caches() const { return caches_; }

 private:
  Status read(const std::string& path, const LoadOptions& options);
  void untie_or_tie();
  Status read_generation(const std::string& path);
  Status settle_dtype(const LoadOptions& options, const std::string& config_dtype);
  Status settle_facts(const LoadOptions& options);

  std::string path_;
  ModelDescription description_;
  ModelFacts facts_;
  GenerationDefaults defaults_;
  std::optional<Checkpoint> checkpoint_;
  CachePlan caches_;
};

}  // namespace troupe::models
