// The stored (uncompressed) entries of a zip archive, as torch.save writes it: views into the
// mapped file, found through the central directory. Nothing is inflated, so nothing can swell;
// compressed, encrypted or split archives are refused by name.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/status.hpp"

namespace troupe::models {

using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

// `label` names the file in errors.
Result<ZipEntries> read_zip(std::span<const std::byte> file, std::string_view label);

}  // namespace troupe::models
