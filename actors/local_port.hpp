// EnginePort over the cast: what libtroupe_engine.so gives to libtroupe.so.
#pragma once

#include <memory>
#include <string>

#include "base/port.hpp"

namespace troupe::actors {

// A model folder, or `echo:` with its options.
Result<std::unique_ptr<EnginePort>> open_local_port(const std::string& endpoint,
                                                    const EngineOptions& options,
                                                    LoadProgress progress);
// What is in a folder, does it fit, what would make it fit: one JSON object.
Result<std::string> inspect_folder(const std::string& folder, const EngineOptions& options);
// Bounds of every field; failures name the field, its value and its bounds.
Status check_options(const EngineOptions& options);

}  // namespace troupe::actors
