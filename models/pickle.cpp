#include "models/pickle.hpp"

#include <algorithm>
#include <array>

#include "base/limits.hpp"
#include "models/mapped_file.hpp"
#include "models/pickle_machine.hpp"
#include "models/zip.hpp"

namespace troupe::models {
namespace {

using pickle::Kind;
using pickle::Program;
using pickle::Value;

struct StorageType {
  std::string_view global;
  size_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array<StorageType, 10> kStorages = {{{"torch FloatStorage", 4, DType::f32},
                                                    {"torch HalfStorage", 2, DType::f16},
                                                    {"torch BFloat16Storage", 2, DType::bf16},
                                                    {"torch DoubleStorage", 8, std::nullopt},
                                                    {"torch LongStorage", 8, std::nullopt},
                                                    {"torch IntStorage", 4, std::nullopt},
                                                    {"torch ShortStorage", 2, std::nullopt},
                                                    {"torch CharStorage", 1, std::nullopt},
                                                    {"torch ByteStorage", 1, std::nullopt},
                                                    {"torch BoolStorage", 1, std::nullopt}}};

class Reader {
 public:
  Reader(const Program& program, const ZipEntries& zip, std::string root,
         const std::shared_ptr<const MappedFile>& file)
      : program_(program), zip_(zip), root_(std::move(root)), file_(file) {}

  Result<HostTensor> tensor(const std::string& name, const Value& value);

 private:
  [[nodiscard]] Status broken(const std::string& name, const std::string& why) const {
    return corrupt_model(file_->label() + ": tensor " + name + ": " + why);
  }
  Result<std::span<const std::byte>> storage(const std::string& name, const Value& value,
                                             const StorageType*& type);
  bool integers(const Value& value, std::vector<int64_t>& out) const;

  const Program& program_;
  const ZipEntries& zip_;
  std::string root_;
  const std::shared_ptr<const MappedFile>& file_;
};

bool Reader::integers(const Value& value, std::vector<int64_t>& out) const {
  if (value.kind != Kind::sequence || value.items.size() > limits::tensor_rank) return false;
  for (const pickle::Ref r : value.items) {
    if (program_[r].kind != Kind::integer || program_[r].integer < 0) return false;
    out.push_back(program_[r].integer);
  }
  return true;
}

// ('storage', torch.XStorage, key, device, elements)
Result<std::span<const std::byte>> Reader::storage(const std::string& name, const Value& value,
                                                   const StorageType*& type) {
  if (value.kind != Kind::storage || value.items.size() < 5) return broken(name, "has no storage");
  const Value& global = program_[value.items[1]];
  const Value& key = program_[value.items[2]];
  const Value& elements = program_[value.items[4]];
  const auto found = std::find_if(kStorages.begin(), kStorages.end(), [&](const StorageType& t) {
    return global.kind == Kind::global && t.global == global.text;
  });
  if (found == kStorages.end() || key.kind != Kind::text || elements.kind != Kind::integer) {
    return broken(name, "has a storage of an unknown type");
  }
  type = found;
  const std::string entry = root_ + "data/" + std::string(key.text);
  const auto it = zip_.find(entry);
  if (it == zip_.end()) return broken(name, "its storage " + entry + " is missing");
  const auto wanted = shape_bytes({elements.integer}, type->bytes);
  if (!wanted || *wanted > it->second.size()) {
    return broken(name, "its storage " + entry + " has " + std::to_string(it->second.size()) +
                            " bytes, " + std::to_string(elements.integer) +
                            " elements are more: truncated? download the file again");
  }
  return it->second.first(*wanted);
}

// _rebuild_tensor_v2(storage, offset, size, stride, …)
Result<HostTensor> Reader::tensor(const std::string& name, const Value& value) {
  if (value.items.size() < 4) return broken(name, "is rebuilt from too few arguments");
  const StorageType* type = nullptr;
  TR_ASSIGN(const auto bytes, storage(name, program_[value.items[0]], type));
  const Value& offset = program_[value.items[1]];
  HostTensor out;
  std::vector<int64_t> strides;
  if (offset.kind != Kind::integer || offset.integer < 0 ||
      !integers(program_[value.items[2]], out.shape) ||
      !integers(program_[value.items[3]], strides) || strides.size() != out.shape.size()) {
    return broken(name, "has no proper offset, shape and strides");
  }
  int64_t expected = 1;
  const auto wanted = shape_bytes(out.shape, type->bytes);
  const auto begin = shape_bytes({offset.integer}, type->bytes);
  if (!wanted || !begin || *begin > bytes.size() || *wanted > bytes.size() - *begin) {
    return broken(name, "shape " + shape_text(out.shape) + " from element " +
                            std::to_string(offset.integer) + " on is beyond its storage");
  }
  for (size_t i = *wanted == 0 ? 0 : out.shape.size(); i-- > 0;) {
    if (out.shape[i] > 1 && strides[i] != expected) {
      return broken(name, "is stored transposed or strided (strides " + shape_text(strides) +
                              "); convert the file to safetensors");
    }
    expected *= out.shape[i];
  }
  out.dtype = type->dtype;
  out.dtype_text = type->global;
  out.data = bytes.data() + *begin;
  out.bytes = *wanted;
  out.file = file_;
  return out;
}

// Everything of an archive stands in one folder, whose name is the file's at the time of saving.
const ZipEntries::value_type* find_program(const ZipEntries& zip) {
  for (const auto& entry : zip) {
    const size_t slash = entry.first.find('/');
    if (slash != std::string::npos && entry.first.substr(slash + 1) == "data.pkl") return &entry;
  }
  return nullptr;
}

Status check_format(std::span<const std::byte> bytes, const std::string& label) {
  const auto starts = [&](std::initializer_list<uint8_t> with) {
    return bytes.size() >= with.size() &&
           std::equal(with.begin(), with.end(), bytes.begin(),
                      [](uint8_t a, std::byte b) { return std::byte{a} == b; });
  };
  if (starts({'P', 'K'})) return ok_status();
  if (starts({0x80, 0x02, 0x8a, 0x0a})) {
    return unsupported(label +
                       ": is in the format of torch before 1.6 (not a zip archive); load it "
                       "with torch and save it again, as safetensors if possible");
  }
  return corrupt_model(label + ": is not a file that torch.save wrote (no zip archive)");
}

}  // namespace

Result<TensorMap> read_pytorch(const std::shared_ptr<const MappedFile>& file) {
  const std::string& label = file->label();
  TR_TRY(check_format(file->bytes(), label));
  TR_ASSIGN(const ZipEntries zip, read_zip(file->bytes(), label));
  const auto* entry = find_program(zip);
  if (entry == nullptr) return corrupt_model(label + ": the archive has no data.pkl");
  if (entry->second.size() > limits::pickle_bytes) {
    return corrupt_model(label + ": data.pkl is " + std::to_string(entry->second.size()) +
                         " bytes long, at most " + std::to_string(limits::pickle_bytes) +
                         " are read");
  }
  const std::string root = entry->first.substr(0, entry->first.find('/') + 1);
  const auto order = zip.find(root + "byteorder");
  if (order != zip.end() && (order->second.size() != 6 || order->second[0] != std::byte{'l'})) {
    return unsupported(label + ": was saved on a big-endian machine");
  }
  TR_ASSIGN(const Program program, pickle::run(entry->second, label));
  const Value& result = program[program.result];
  if (result.kind != Kind::dict) {
    return corrupt_model(label + ": holds no dictionary of tensors (a state_dict)");
  }
  Reader reader(program, zip, root, file);
  TensorMap out;
  for (const auto& [key, value] : result.entries) {
    if (program[key].kind != Kind::text) {
      return corrupt_model(label + ": a key of the state_dict is not text");
    }
    if (program[value].kind != Kind::tensor) continue;  // "_metadata" and the like
    const std::string name(program[key].text);
    TR_ASSIGN(HostTensor tensor, reader.tensor(name, program[value]));
    out[name] = std::move(tensor);
  }
  if (out.empty()) return corrupt_model(label + ": holds no tensors (is it a nested checkpoint?)");
  return out;
}

}  // namespace troupe::models
