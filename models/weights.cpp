#include "models/weights.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <set>

#include "models/convert.hpp"
#include "models/dummy.hpp"
#include "models/mapped_file.hpp"

namespace troupe::models {
namespace {

Status cannot_share(const TensorSpec& spec, int64_t units, int32_t ranks) {
  return invalid("tensor parallel over " + std::to_string(ranks) + " ranks: weight " + spec.name +
                 " comes in " + std::to_string(units) + " parts that must stay whole, which " +
                 std::to_string(ranks) + " does not divide; use a number of ranks that does");
}

// Range of the picked rows (or of the columns) that a rank has.
Result<Share::Run> share_axis(const TensorSpec& spec, int64_t size, int32_t rank, int32_t ranks) {
  const int64_t unit = std::max<int64_t>(spec.unit, 1);
  const int64_t units = size / unit;
  if (spec.axis == ShardAxis::vocabulary) {
    const int64_t each = (size + ranks - 1) / ranks;
    const int64_t begin = std::min(size, each * rank);
    return Share::Run{begin, std::min(each, size - begin)};
  }
  if (units % ranks == 0) {
    const int64_t each = units / ranks * unit;
    return Share::Run{each * rank, each};
  }
  if (spec.axis == ShardAxis::kv_heads && units > 0 && ranks % units == 0) {
    return Share::Run{rank * units / ranks * unit, unit};
  }
  return cannot_share(spec, units, ranks);
}

// The stored rows of picked rows [begin, begin + count).
std::vector<Share::Run> stored_runs(const RowPick& pick, Share::Run picked) {
  if (pick.of == 0) return {picked};
  std::vector<Share::Run> runs;
  const int64_t end = picked.begin + picked.count;
  for (int64_t row = picked.begin; row < end;) {
    const int64_t inside = row % pick.count;
    const int64_t count = std::min(pick.count - inside, end - row);
    const int64_t at = row / pick.count * pick.of + pick.begin + inside;
    if (!runs.empty() && runs.back().begin + runs.back().count == at) {
      runs.back().count += count;
    } else {
      runs.push_back({at, count});
    }
    row += count;
  }
  return runs;
}

// A bias as a spec of its own: one column per row of its weight.
TensorSpec bias_spec(const LinearPartSpec& part) {
  TensorSpec spec = part.weight;
  spec.name = part.bias;
  spec.cols = 1;
  spec.fill = Fill::zeros;
  spec.transposed = false;  // only the weight is stored in another order
  spec.groups = 1;
  spec.grouped_from = 0;
  if (spec.axis == ShardAxis::columns) spec.axis = ShardAxis::none;
  return spec;
}

// [rows, cols], or for vectors [n], or any shape whose leading dimensions multiply to rows, or whose
// trailing ones do to cols (the kernel of a convolution).
bool shape_fits(const std::vector<int64_t>& shape, int64_t rows, int64_t cols) {
  std::vector<int64_t> trimmed = shape;
  std::erase(trimmed, 1);
  if (rows == 1 || cols == 1) {
    const int64_t n = rows * cols;
    return n == 1 ? trimmed.empty() : trimmed == std::vector<int64_t>{n};
  }
  if (shape.empty()) return false;
  const auto product = [](std::vector<int64_t> part, int64_t wanted) {
    const auto elements = shape_bytes(part, 1);
    return elements && *elements == static_cast<size_t>(wanted);
  };
  if (shape.back() == cols && product({shape.begin(), shape.end() - 1}, rows)) return true;
  return shape.front() == rows && product({shape.begin() + 1, shape.end()}, cols);
}

std::shared_ptr<std::byte> host_buffer(size_t bytes) {
  auto* data = static_cast<std::byte*>(
      ::operator new (std::max<size_t>(bytes, 1), std::align_val_t{64}, std::nothrow));
  if (data == nullptr) return nullptr;
  return {data, [](std::byte* p) { ::operator delete (p, std::align_val_t{64}); }};
}

struct LayerVisitor {
  const WeightVisitor& visit;

  void operator()(const GroupedQuery& m) const {
    visit_linear(m.qkv, visit);
    visit_linear(m.out, visit);
    visit_norm(m.q_norm, visit);
    visit_norm(m.k_norm, visit);
    if (m.sinks) visit(m.sinks);
  }
  void operator()(const Latent& m) const {
    for (const LinearSpec* l : {&m.q, &m.q_a, &m.kv_a, &m.out}) visit_linear(*l, visit);
    visit_norm(m.q_a_norm, visit);
    visit_norm(m.kv_a_norm, visit);
    visit(m.key_up);
    visit(m.value_up);
  }
  void operator()(const Cross& m) const {
    for (const LinearSpec* l : {&m.q, &m.kv, &m.out}) visit_linear(*l, visit);
    visit_norm(m.q_norm, visit);
    visit_norm(m.k_norm, visit);
  }
  void operator()(const Dense& f) const {
    visit_linear(f.up, visit);
    visit_linear(f.down, visit);
  }
  void operator()(const Experts& f) const {
    visit_linear(f.router, visit);
    if (f.correction) visit(f.correction);
    for (const LinearSpec& l : f.up) visit_linear(l, visit);
    for (const LinearSpec& l : f.down) visit_linear(l, visit);
    if (f.shared) (*this)(*f.shared);
    visit_linear(f.shared_gate, visit);
  }
};

}  // namespace

void visit_linear(const LinearSpec& linear, const WeightVisitor& visit) {
  for (const auto* list : {&linear.parts, &linear.vision}) {
    for (const LinearPartSpec& part : *list) {
      visit(part.weight);
      if (!part.bias.empty()) visit(bias_spec(part));
    }
  }
}

void visit_norm(const NormSpec& norm, const WeightVisitor& visit) {
  for (const TensorSpec* t : {&norm.weight, &norm.bias}) {
    if (*t) visit(*t);
  }
}

void visit_ffn(const Ffn& ffn, const WeightVisitor& visit) {
  std::visit(LayerVisitor{visit}, ffn);
}

const HostTensor* find_weight(const Checkpoint& checkpoint, Renames renames,
                              const std::string& name) {
  const HostTensor* found = checkpoint.find(name);
  for (const auto& [from, to] : renames) {
    if (found != nullptr || !name.starts_with(from)) continue;
    found = checkpoint.find(to + name.substr(from.size()));
  }
  return found;
}

Result<Share> share_of(const TensorSpec& spec, int32_t rank, int32_t ranks) {
  Share out;
  Share::Run rows{0, spec.rows};
  out.column_count = spec.cols;
  if (ranks > 1 && spec.axis == ShardAxis::columns) {
    TR_ASSIGN(const Share::Run columns, share_axis(spec, spec.cols, rank, ranks));
    out.column_begin = columns.begin;
    out.column_count = columns.count;
  } else if (ranks > 1 && spec.axis != ShardAxis::none) {
    TR_ASSIGN(rows, share_axis(spec, spec.rows, rank, ranks));
  }
  out.rows = stored_runs(spec.pick, rows);
  out.row_count = rows.count;
  return out;
}

Result<HostTensor> WeightLoader::fetch(const TensorSpec& spec, std::shared_ptr<const void>& owner) {
  const int64_t rows = spec.stored_rows();
  if (options_.checkpoint == nullptr) {
    const auto elements = static_cast<size_t>(rows * spec.cols);
    auto data = make_dummy(spec.name, elements, options_.dtype, spec.fill, options_.seed);
    if (data == nullptr)
      return Status(Code::out_of_memory, "no memory for dummy weight " + spec.name);
    HostTensor out;
    out.dtype = options_.dtype;
    out.shape = {rows, spec.cols};
    out.data = data.get();
    out.bytes = elements * dtype_bytes(options_.dtype);
    owner = std::move(data);
    return out;
  }
  const HostTensor* found = find_weight(*options_.checkpoint, options_.renames, spec.name);
  if (found == nullptr) {
    return corrupt_model("weights: tensor " + spec.name + " is missing (the files have " +
                         std::to_string(options_.checkpoint->tensors().size()) +
                         " tensors); are all shards there, and does config.json belong to them?");
  }
  const std::string where = found->file->label() + ": tensor " + spec.name;
  if (!found->dtype) {
    return unsupported(where + ": dtype " + found->dtype_text +
                       "; weights are read as F32, F16, BF16");
  }
  const int64_t outer = spec.transposed ? spec.cols : rows;
  const int64_t inner = spec.transposed ? rows : spec.cols;
  if (!shape_fits(found->shape, outer, inner)) {
    const std::vector<int64_t> wanted = spec.cols == 1 || rows == 1
                                            ? std::vector<int64_t>{rows * spec.cols}
                                            : std::vector<int64_t>{outer, inner};
    return corrupt_model(where + ": shape " + shape_text(found->shape) + ", config.json wants " +
                         shape_text(wanted));
  }
  HostTensor out = *found;
  if (spec.transposed || spec.groups > 1) TR_TRY(rearrange(spec, out, owner));
  return out;
}

// Elements of a tensor that is stored in another order than the layer sees it in.
Status WeightLoader::rearrange(const TensorSpec& spec, HostTensor& tensor,
                               std::shared_ptr<const void>& owner) {
  const int64_t rows = spec.stored_rows(), cols = spec.cols;
  const size_t each = dtype_bytes(*tensor.dtype);
  auto buffer = host_buffer(static_cast<size_t>(rows * cols) * each);
  if (buffer == nullptr)
    return Status(Code::out_of_memory, "no memory to rearrange weight " + spec.name);
  const int64_t from = spec.grouped_from, width = (cols - from) / spec.groups;
  std::byte* to = buffer.get();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col, to += each) {
      const int64_t inside = col - from;
      const int64_t stored =
          inside < 0 ? col : from + inside % width * spec.groups + inside / width;
      const int64_t at = spec.transposed ? stored * rows + row : row * cols + stored;
      std::memcpy(to, tensor.data + static_cast<size_t>(at) * each, each);
    }
  }
  tensor.file->release(tensor.data, tensor.bytes);
  tensor.data = buffer.get();
  tensor.file = nullptr;
  owner = std::move(buffer);
  return ok_status();
}

Result<WeightLoader::Slice> WeightLoader::slice(const TensorSpec& spec, DType dtype) {
  Slice out;
  TR_ASSIGN(const HostTensor tensor, fetch(spec, out.owner));
  TR_ASSIGN(const Share share, share_of(spec, rank(), ranks()));
  const size_t each = dtype_bytes(*tensor.dtype);
  const auto row_bytes = static_cast<size_t>(spec.cols) * each;
  const std::byte* first = tensor.data + static_cast<size_t>(share.column_begin) * each;
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % each == 0;
  if (*tensor.dtype == dtype && share.rows.size() <= 1 && aligned) {
    const int64_t begin = share.rows.empty() ? 0 : share.rows.front().begin;
    const std::byte* data = first + static_cast<size_t>(begin) * row_bytes;
    out.view = {const_cast<std::byte*>(data), dtype, share.row_count, share.column_count,
                spec.cols};
    out.file = tensor.file;
    if (out.owner == nullptr) out.owner = tensor.file;
    return out;
  }
  const size_t line = static_cast<size_t>(share.column_count) * dtype_bytes(dtype);
  auto buffer = host_buffer(line * static_cast<size_t>(share.row_count));
  if (buffer == nullptr)
    return Status(Code::out_of_memory, "no memory to copy weight " + spec.name);
  std::byte* to = buffer.get();
  for (const Share::Run& run : share.rows) {
    for (int64_t row = run.begin; row < run.begin + run.count; ++row, to += line) {
      convert(first + static_cast<size_t>(row) * row_bytes, *tensor.dtype, to, dtype,
              static_cast<size_t>(share.column_count));
    }
  }
  if (tensor.file != nullptr) tensor.file->release(tensor.data, tensor.bytes);
  out.view = {buffer.get(), dtype, share.row_count, share.column_count, share.column_count};
  out.owner = std::move(buffer);
  return out;
}

// A device of its own has copied the bytes; one that shares host memory computes from them.
Status WeightLoader::keep(const Slice& slice) {
  if (backend_.info().unified_memory) {
    if (arena_.host.empty() || arena_.host.back() != slice.owner)
      arena_.host.push_back(slice.owner);
  } else if (slice.file != nullptr) {
    slice.file->release(static_cast<const std::byte*>(slice.view.data), slice.view.bytes());
  }
  const auto bytes =
      static_cast<size_t>(slice.view.rows * slice.view.cols) * dtype_bytes(slice.view.dtype);
  if (options_.placed && !options_.placed(bytes)) {
    return Status(Code::closed, "loading was given up on request");
  }
  return ok_status();
}

Result<LinearWeight> WeightLoader::linear_of(std::span<const LinearPartSpec> parts) {
  LinearWeight host;
  std::vector<Slice> slices;
  for (const LinearPartSpec& part : parts) {
    LinearPart out;
    TR_ASSIGN(Slice values, slice(part.weight, options_.dtype));
    out.values = values.view;
    slices.push_back(std::move(values));
    if (!part.bias.empty() && (part.weight.axis != ShardAxis::columns || rank() == 0)) {
      TR_ASSIGN(Slice bias, slice(bias_spec(part), options_.dtype));
      out.bias = {bias.view.data, bias.view.dtype, 1, bias.view.rows, bias.view.rows};
      slices.push_back(std::move(bias));
    }
    host.in = out.values.cols;
    host.out += out.values.rows;
    host.parts.push_back(out);
  }
  if (host.out == 0) return LinearWeight{};
  auto placed = backend_.place(host, arena_.buffers);
  if (!placed.ok()) return placed.status().at("placing " + parts.front().weight.name);
  for (const Slice& s : slices) TR_TRY(keep(s));
  return placed;
}

Result<PlacedLinear> WeightLoader::linear(const LinearSpec& spec) {
  PlacedLinear out;
  TR_ASSIGN(out.text, linear_of(spec.parts));
  TR_ASSIGN(out.vision, linear_of(spec.vision));
  return out;
}

Result<Matrix> WeightLoader::place(const TensorSpec& spec, DType dtype) {
  if (!spec) return Matrix{};
  TR_ASSIGN(const Slice host, slice(spec, dtype));
  auto placed = backend_.place(host.view, arena_.buffers);
  if (!placed.ok()) return placed.status().at("placing " + spec.name);
  TR_TRY(keep(host));
  return placed;
}

Result<Matrix> WeightLoader::matrix(const TensorSpec& spec) {
  return place(spec, options_.dtype);
}
Result<Matrix> WeightLoader::matrix_f32(const TensorSpec& spec) {
  return place(spec, DType::f32);
}

Result<float> WeightLoader::scalar(const TensorSpec& spec, float fallback) {
  if (!spec) return fallback;
  TR_ASSIGN(const Slice host, slice(spec, DType::f32));
  return *host.view.row<float>(0);
}

Result<Matrix> WeightLoader::upload(std::span<const float> values, std::string_view what,
                                    int64_t rows, DType dtype) {
  const auto cols = static_cast<int64_t>(values.size()) / std::max<int64_t>(rows, 1);
  std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
  convert(values.data(), DType::f32, bytes.data(), dtype, values.size());
  TR_ASSIGN(auto buffer, backend_.allocate(std::max<size_t>(bytes.size(), 4), what));
  TR_TRY(backend_.upload(buffer->data(), bytes.data(), bytes.size()));
  const Matrix out{buffer->data(), dtype, rows, cols, cols};
  arena_.buffers.push_back(std::move(buffer));
  return out;
}

void visit_weights(const ModelDescription& model,
                   const std::function<void(const TensorSpec&)>& visit) {
  visit(model.embedding);
  visit_norm(model.embedding_norm, visit);
  for (const Layer& layer : model.layers) {
    std::visit(LayerVisitor{visit}, layer.mixer);
    std::visit(LayerVisitor{visit}, layer.ffn);
    for (const NormSpec* n :
         {&layer.norm, &layer.ffn_norm, &layer.post_norm, &layer.post_ffn_norm}) {
      visit_norm(*n, visit);
    }
    for (const TensorSpec* t : {&layer.mixer_gate, &layer.ffn_gate}) {
      if (*t) visit(*t);
    }
  }
  visit_norm(model.final_norm, visit);
  visit_linear(model.head, visit);
}

Status check_ranks(const ModelDescription& model, int32_t ranks) {
  Status first;
  visit_weights(model, [&](const TensorSpec& spec) {
    if (first.ok()) first = share_of(spec, 0, ranks).status();
  });
  return first;
}

int64_t count_parameters(const ModelDescription& model) {
  std::set<std::string> seen;
  int64_t sum = 0;
  visit_weights(model, [&](const TensorSpec& spec) {
    if (seen.insert(spec.name).second) sum += spec.stored_rows() * spec.cols;
  });
  return sum;
}

}  // namespace troupe::models
