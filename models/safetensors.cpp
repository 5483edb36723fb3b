#include "models/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/limits.hpp"
#include "models/config.hpp"
#include "models/mapped_file.hpp"

namespace troupe::models {
namespace {

struct Stored {
  std::string_view text;
  size_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array<Stored, 16> kStored = {{{"F32", 4, DType::f32},
                                             {"F16", 2, DType::f16},
                                             {"BF16", 2, DType::bf16},
                                             {"F64", 8, std::nullopt},
                                             {"I64", 8, std::nullopt},
                                             {"I32", 4, std::nullopt},
                                             {"I16", 2, std::nullopt},
                                             {"I8", 1, std::nullopt},
                                             {"U64", 8, std::nullopt},
                                             {"U32", 4, std::nullopt},
                                             {"U16", 2, std::nullopt},
                                             {"U8", 1, std::nullopt},
                                             {"BOOL", 1, std::nullopt},
                                             {"F8_E4M3", 1, std::nullopt},
                                             {"F8_E5M2", 1, std::nullopt},
                                             {"F8_E8M0", 1, std::nullopt}}};

struct Range {
  size_t begin, end;
  const std::string* name;
};

// The header's entry of one tensor, checked against the bytes that follow the header.
Result<HostTensor> read_entry(const Fields& entry, const std::shared_ptr<const MappedFile>& file,
                              std::span<const std::byte> data, Range& range) {
  HostTensor out;
  out.file = file;
  out.dtype_text = entry.text("dtype");
  out.shape = entry.integers("shape", 0, int64_t{1} << 48);
  const auto offsets = entry.integers("data_offsets", 0, int64_t{1} << 60);
  const auto stored = std::find_if(kStored.begin(), kStored.end(),
                                   [&](const Stored& s) { return s.text == out.dtype_text; });
  if (out.shape.size() > limits::tensor_rank) {
    entry.fail("shape", "has " + std::to_string(out.shape.size()) + " dimensions, at most " +
                            std::to_string(limits::tensor_rank) + " are read");
  }
  if (!entry.has("shape")) entry.fail("shape", "is missing");
  if (offsets.size() != 2) entry.fail("data_offsets", "must be two numbers");
  if (stored == kStored.end()) {
    entry.fail("dtype", "is \"" + out.dtype_text + "\", which is not a dtype of safetensors");
  }
  TR_TRY(entry.status());
  range.begin = static_cast<size_t>(offsets[0]);
  range.end = static_cast<size_t>(offsets[1]);
  if (range.begin > range.end) entry.fail("data_offsets", "end before they begin");
  const auto wanted = shape_bytes(out.shape, stored->bytes);
  if (!wanted) {
    entry.fail("shape", shape_text(out.shape) + " overflows");
  } else if (*wanted != range.end - range.begin) {
    entry.fail("data_offsets", "span " + std::to_string(range.end - range.begin) + " bytes, " +
                                   out.dtype_text + " " + shape_text(out.shape) + " takes " +
                                   std::to_string(*wanted));
  }
  if (range.end > data.size()) {
    entry.fail("data_offsets", "end at byte " + std::to_string(range.end) + ", the file has " +
                                   std::to_string(data.size()) +
                                   " bytes of tensors: it is truncated; download it again");
  }
  TR_TRY(entry.status());
  out.dtype = stored->dtype;
  out.data = data.data() + range.begin;
  out.bytes = range.end - range.begin;
  return out;
}

Status check_overlap(std::vector<Range>& ranges, const std::string& label) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin < ranges[i - 1].end) {
      return corrupt_model(label + ": tensors " + *ranges[i - 1].name + " and " + *ranges[i].name +
                           " overlap");
    }
  }
  return ok_status();
}

}  // namespace

Result<TensorMap> read_safetensors(const std::shared_ptr<const MappedFile>& file) {
  const auto bytes = file->bytes();
  const std::string& label = file->label();
  uint64_t header = 0;
  if (bytes.size() < sizeof header) {
    return corrupt_model(label + ": is " + std::to_string(bytes.size()) +
                         " bytes long, too short for safetensors; download it again");
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header > limits::safetensors_header_bytes) {
    return corrupt_model(label + ": header of " + std::to_string(header) + " bytes, at most " +
                         std::to_string(limits::safetensors_header_bytes) +
                         " are read; is this a safetensors file?");
  }
  if (header > bytes.size() - sizeof header) {
    return corrupt_model(label + ": header of " + std::to_string(header) + " bytes in a file of " +
                         std::to_string(bytes.size()) + ": it is truncated; download it again");
  }
  const auto data = bytes.subspan(sizeof header + header);
  TR_ASSIGN(const Fields fields,
            Fields::parse({reinterpret_cast<const char*>(bytes.data()) + sizeof header, header},
                          label, limits::safetensors_header_bytes));
  TensorMap out;
  std::vector<Range> ranges;
  const std::vector<std::string> names = fields.keys();
  if (names.size() > limits::tensors) {
    return corrupt_model(label + ": " + std::to_string(names.size()) + " tensors, at most " +
                         std::to_string(limits::tensors) + " are read");
  }
  ranges.reserve(names.size());
  for (const std::string& name : names) {
    if (name == "__metadata__") continue;
    Range range{0, 0, &name};
    const Fields entry = fields.object(name);
    TR_TRY(fields.status());
    TR_ASSIGN(HostTensor tensor, read_entry(entry, file, data, range));
    out.emplace(name, std::move(tensor));
    if (range.end > range.begin) ranges.push_back(range);
  }
  TR_TRY(check_overlap(ranges, label));
  return out;
}

}  // namespace troupe::models
