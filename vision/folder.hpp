// The visual half of a model folder as opened: description, processor, and the files' headers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "models/folder.hpp"
#include "vision/eyes.hpp"
#include "vision/tower.hpp"

namespace troupe::vision {

class OpenedFolder final : public VisionFolder {
 public:
  // Null for a model without eyes.
  static Result<std::shared_ptr<const OpenedFolder>> open_folder(
      const std::string& path, const models::LoadOptions& options);
  // Without a processor: for tests and benches that have patches of their own.
  static Result<std::shared_ptr<const OpenedFolder>> open_tower(const std::string& path,
                                                                const models::LoadOptions& options);

  [[nodiscard]] const Processor& processor() const override { return *processor_; }
  [[nodiscard]] const PromptRules& rules() const override { return description_.rules; }
  [[nodiscard]] int64_t parameters() const override;
  [[nodiscard]] int64_t weight_bytes() const override;
  [[nodiscard]] double cost(const PatchGrid& grid) const override;
  [[nodiscard]] bool joins(const PictureLayout& layout) const override;

  [[nodiscard]] const VisionDescription& description() const { return description_; }
  [[nodiscard]] DType dtype() const { return language_->facts().dtype; }
  [[nodiscard]] const models::Checkpoint* checkpoint() const { return language_->checkpoint(); }
  [[nodiscard]] const std::string& path() const { return language_->path(); }

 private:
  static Result<std::shared_ptr<OpenedFolder>> open_description(
      const std::string& path, const models::LoadOptions& options);
  Status open_processor_of(const std::string& path);

  std::shared_ptr<const models::Folder> language_;  // the other half: its files and its dtype
  VisionDescription description_;
  std::unique_ptr<const Processor> processor_;
};

// Calls `visit` with every weight of the visual half.
void visit_weights(const VisionDescription& description,
                   const std::function<void(const models::TensorSpec&)>& visit);

}  // namespace troupe::vision
