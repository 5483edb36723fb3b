#include "models/checkpoint.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/limits.hpp"
#include "models/config.hpp"
#include "models/mapped_file.hpp"
#include "models/pickle.hpp"
#include "models/safetensors.hpp"

namespace troupe::models {
namespace {

struct Layout {
  const char* name;  // of a single file
  const char* index;  // of the list of shards
  const char* format;
  Result<TensorMap> (*read)(const std::shared_ptr<const MappedFile>&);
};
constexpr std::array<Layout, 2> kLayouts = {
    {{"model.safetensors", "model.safetensors.index.json", "safetensors", read_safetensors},
     {"pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch", read_pytorch}}};

bool exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

// A shard's name comes from a file that may be hostile: it must be a name in this folder.
bool plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

using ShardMap = std::map<std::string, std::vector<std::string>>;  // file -> tensors it must hold

Result<ShardMap> read_index(const std::string& folder, const char* index) {
  TR_ASSIGN(const Fields fields, Fields::read(folder + "/" + index, index));
  ShardMap shards;
  for (auto& [tensor, file] : fields.text_map("weight_map", limits::tensors)) {
    if (!plain_name(file)) {
      fields.fail("weight_map." + tensor, "must name a file of this folder, is \"" + file + "\"");
      break;
    }
    shards[file].push_back(tensor);
  }
  TR_TRY(fields.status());
  if (shards.empty()) return corrupt_model(std::string(index) + ": weight_map is empty");
  if (shards.size() > limits::shards) {
    return corrupt_model(std::string(index) + ": weight_map names " +
                         std::to_string(shards.size()) + " files, at most " +
                         std::to_string(limits::shards) + " are read");
  }
  return shards;
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::optional<size_t> shape_bytes(const std::vector<int64_t>& shape, size_t each) {
  size_t bytes = each;
  for (const int64_t n : shape) {
    if (n < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(n), &bytes)) return std::nullopt;
  }
  return bytes;
}

bool Checkpoint::present(const std::string& folder) {
  return std::any_of(kLayouts.begin(), kLayouts.end(), [&](const Layout& l) {
    return exists(folder + "/" + l.name) || exists(folder + "/" + l.index);
  });
}

Result<Checkpoint> Checkpoint::open(const std::string& folder) {
  const auto layout = std::find_if(kLayouts.begin(), kLayouts.end(), [&](const Layout& l) {
    return exists(folder + "/" + l.name) || exists(folder + "/" + l.index);
  });
  if (layout == kLayouts.end()) {
    return Status(Code::not_found,
                  folder +
                      ": no weights (model.safetensors, model.safetensors.index.json, "
                      "pytorch_model.bin or its index); download them, or use --load-format "
                      "dummy for random ones");
  }
  Checkpoint out;
  out.format_ = layout->format;
  ShardMap shards;
  const bool single = exists(folder + "/" + layout->name);
  if (single) {
    shards[layout->name] = {};
  } else {
    TR_ASSIGN(shards, read_index(folder, layout->index));
  }
  for (const auto& [name, wanted] : shards) {
    const std::string path = folder + "/" + name;
    if (!exists(path)) {
      return Status(Code::not_found, name + ": this shard is missing (" + layout->index +
                                         " wants " + std::to_string(wanted.size()) +
                                         " tensors of it, the first is " + wanted.front() +
                                         "); download the folder again");
    }
    TR_ASSIGN(auto file, MappedFile::open(path, name));
    TR_ASSIGN(TensorMap tensors, layout->read(file));
    for (const std::string& tensor : wanted) {
      if (!tensors.contains(tensor)) {
        return corrupt_model(name + ": tensor " + tensor + " is missing, which " + layout->index +
                             " says is here");
      }
    }
    out.tensors_.merge(tensors);
    out.files_.push_back(std::move(file));
  }
  return out;
}

const HostTensor* Checkpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

std::optional<DType> Checkpoint::main_dtype() const {
  std::map<DType, size_t> bytes;
  for (const auto& [name, tensor] : tensors_) {
    if (tensor.dtype) bytes[*tensor.dtype] += tensor.bytes;
  }
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  if (most == bytes.end()) return std::nullopt;
  return most->first;
}

size_t Checkpoint::tensor_bytes() const {
  size_t sum = 0;
  std::set<const std::byte*> seen;  // tied tensors of a pickle share their storage
  for (const auto& [name, tensor] : tensors_) {
    if (seen.insert(tensor.data).second) sum += tensor.bytes;
  }
  return sum;
}

}  // namespace troupe::models
