#include "kernels/batch.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "kernels/tensor.hpp"

namespace troupe {
namespace {

constexpr size_t kAlign = 16;
constexpr size_t aligned(size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

constexpr std::array<size_t, kSectionCount> kElementBytes = {
    sizeof(int32_t), sizeof(int32_t), sizeof(int32_t), sizeof(int32_t), sizeof(uint8_t),
    sizeof(PlanSequence), sizeof(PlanTable), sizeof(int32_t), sizeof(int32_t), sizeof(PlanLogitRow),
    sizeof(PlanSampling), sizeof(PlanBias), sizeof(int32_t), sizeof(PlanInject), sizeof(PlanCopy),
    sizeof(PlanEncode), sizeof(int32_t)};

struct Source {
  const void* data;
  size_t count;
};

using Sources = std::array<Source, kSectionCount>;

Sources sources_of(const StepPlanDraft& d) {
  return {{{d.token_ids.data(), d.token_ids.size()},
           {d.positions.data(), d.positions.size()},
           {d.rope_positions.data(), d.rope_positions.size()},
           {d.adapters.data(), d.adapters.size()},
           {d.modality.data(), d.modality.size()},
           {d.sequences.data(), d.sequences.size()},
           {d.tables.data(), d.tables.size()},
           {d.blocks.data(), d.blocks.size()},
           {d.span_ends.data(), d.span_ends.size()},
           {d.logit_rows.data(), d.logit_rows.size()},
           {d.sampling.data(), d.sampling.size()},
           {d.biases.data(), d.biases.size()},
           {d.token_lists.data(), d.token_lists.size()},
           {d.injects.data(), d.injects.size()},
           {d.copies.data(), d.copies.size()},
           {d.encodes.data(), d.encodes.size()},
           {d.cross_spans.data(), d.cross_spans.size()}}};
}

// `header` but for its sections and size, then the sections.
void lay_out(StepPlanHeader& header, const Sources& sources, std::vector<std::byte>& out) {
  size_t end = aligned(sizeof(StepPlanHeader));
  for (size_t s = 0; s < kSectionCount; ++s) {
    header.sections[s] = {static_cast<uint32_t>(end), static_cast<uint32_t>(sources[s].count)};
    end += aligned(sources[s].count * kElementBytes[s]);
  }
  header.bytes = end;
  out.resize(end);
  std::memcpy(out.data(), &header, sizeof header);
  for (size_t s = 0; s < kSectionCount; ++s) {
    const size_t n = sources[s].count * kElementBytes[s];
    if (n > 0) std::memcpy(out.data() + header.sections[s].offset, sources[s].data, n);
  }
}

Status broken(const char* what) { return invalid(std::string("step plan: ") + what); }

bool in_range(int64_t begin, int64_t count, size_t size) {
  return begin >= 0 && count >= 0 && begin + count <= static_cast<int64_t>(size);
}

Status check_sections(std::span<const std::byte> bytes, const StepPlanHeader& h) {
  for (size_t s = 0; s < kSectionCount; ++s) {
    const auto& r = h.sections[s];
    if (r.offset % kAlign != 0 || r.offset > bytes.size()) return broken("section misplaced");
    if (size_t{r.count} * kElementBytes[s] > bytes.size() - r.offset) {
      return broken("section longer than the plan");
    }
  }
  return ok_status();
}

template <class T>
std::span<T> writable(std::span<std::byte> bytes, Section section) {
  const auto& header = *reinterpret_cast<const StepPlanHeader*>(bytes.data());
  const auto& r = header.sections[static_cast<size_t>(section)];
  return {reinterpret_cast<T*>(bytes.data() + r.offset), r.count};
}

// A repeated step names nothing but sequences with news of their tables.
Status check_repeat(const PlanView& p) {
  const StepPlanHeader& h = p.header();
  for (size_t s = 0; s < kSectionCount; ++s) {
    const auto section = static_cast<Section>(s);
    const bool allowed =
        section == Section::sequences || section == Section::tables || section == Section::blocks;
    if (!allowed && h.sections[s].count != 0) return broken("a repeated step has rows of its own");
  }
  if (h.repeats != h.rows || p.sequences().size() > static_cast<size_t>(h.rows)) {
    return broken("a repeated step disagrees with itself");
  }
  for (const PlanSequence& s : p.sequences()) {
    if (s.slot < 0) return broken("INV-PLAN-4: slot");
  }
  return ok_status();
}

Status check_row_arrays(const PlanView& p) {
  const auto rows = static_cast<size_t>(p.rows());
  const auto absent_or = [](size_t n, size_t want) { return n == 0 || n == want; };
  if (p.token_ids().size() != rows || p.positions().size() != rows) return broken("rows disagree");
  if (!absent_or(p.rope_positions().size(), 3 * rows) || !absent_or(p.adapters().size(), rows) ||
      !absent_or(p.modality().size(), rows) || !absent_or(p.span_ends().size(), rows) ||
      !absent_or(p.cross_spans().size(), 2 * rows)) {
    return broken("an optional row array has another length");
  }
  return ok_status();
}

Status check_sequences(const PlanView& p) {
  int32_t next_row = 0;
  for (const PlanSequence& s : p.sequences()) {
    if (s.row_begin != next_row || s.row_count < 1) return broken("INV-PLAN-1: rows out of order");
    next_row += s.row_count;
    if (s.kv_len < s.row_count || s.slot < 0) return broken("INV-PLAN-2: kv_len below row_count");
  }
  return next_row == p.rows() ? ok_status() : broken("INV-PLAN-1: rows without a sequence");
}

Status check_ranges(const PlanView& p) {
  const auto sequences = p.sequences().size();
  for (size_t s = 0; s < sequences; ++s) {
    for (int32_t g = 0; g < p.header().groups; ++g) {
      const PlanTable& t = p.table(static_cast<int32_t>(s), g);
      if (!in_range(t.begin, t.count, p.blocks().size()) || t.kept < PlanTable::kUnchanged ||
          (p.complete() && t.kept != 0)) {
        return broken("INV-PLAN-4: table");
      }
    }
  }
  for (const PlanLogitRow& l : p.logit_rows()) {
    if (!in_range(l.row, 1, p.token_ids().size()) || !in_range(l.sequence, 1, sequences) ||
        l.sampling >= static_cast<int32_t>(p.sampling().size())) {
      return broken("INV-PLAN-4: logit row");
    }
  }
  for (const PlanSampling& s : p.sampling()) {
    if (!in_range(s.bias_begin, s.bias_count, p.biases().size()) ||
        !in_range(s.history_begin, s.history_count, p.token_lists().size()) ||
        !in_range(s.bad_begin, s.bad_count, p.token_lists().size())) {
      return broken("INV-PLAN-4: sampling");
    }
  }
  for (const PlanInject& i : p.injects()) {
    if (!in_range(i.row, i.count, p.token_ids().size())) return broken("INV-PLAN-4: inject");
  }
  for (const PlanEncode& e : p.encodes()) {
    if (!in_range(e.sequence, 1, sequences) ||
        !in_range(e.row, e.count, static_cast<size_t>(p.sequences()[static_cast<size_t>(e.sequence)].cross_len))) {
      return broken("INV-PLAN-4: encode");
    }
  }
  return ok_status();
}

}  // namespace

const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    case DType::i32: return "i32";
    case DType::i8: return "i8";
    case DType::u8: return "u8";
    case DType::fp8_e4m3: return "fp8_e4m3";
  }
  return "?";
}

void StepPlanDraft::clear() {
  step = 0;
  repeats = 0;
  for (auto* v : {&token_ids, &positions, &rope_positions, &adapters, &blocks, &span_ends,
                  &token_lists, &cross_spans}) {
    v->clear();
  }
  modality.clear();
  sequences.clear();
  tables.clear();
  logit_rows.clear();
  sampling.clear();
  biases.clear();
  injects.clear();
  copies.clear();
  encodes.clear();
}

void StepPlanDraft::seal(std::vector<std::byte>& out) const {
  StepPlanHeader header;
  header.step = step;
  header.groups = groups;
  header.rows = repeats > 0 ? repeats : static_cast<int32_t>(token_ids.size());
  header.repeats = repeats;
  header.complete = repeats > 0 ? 0 : 1;
  for (const PlanSequence& s : sequences) {
    header.max_row_count = std::max(header.max_row_count, s.row_count);
    header.max_kv_len = std::max(header.max_kv_len, s.kv_len);
  }
  for (const PlanTable& t : tables) header.complete &= t.kept == 0 ? 1 : 0;
  lay_out(header, sources_of(*this), out);
}

void seal_with_tables(const PlanView& plan, std::span<const PlanTable> tables,
                      std::span<const int32_t> blocks, std::vector<std::byte>& out) {
  StepPlanHeader header = plan.header();
  TR_ASSERT(tables.size() == plan.sequences().size() * static_cast<size_t>(header.groups));
  Sources sources{};
  for (size_t s = 0; s < kSectionCount; ++s) {
    sources[s] = {plan.bytes().data() + header.sections[s].offset, header.sections[s].count};
  }
  sources[static_cast<size_t>(Section::tables)] = {tables.data(), tables.size()};
  sources[static_cast<size_t>(Section::blocks)] = {blocks.data(), blocks.size()};
  header.complete = 1;
  header.repeats = 0;
  lay_out(header, sources, out);
}

Status advance_plan(std::span<std::byte> bytes, const StepPlanHeader& repeat) {
  TR_TRY(advance_header(bytes, repeat));
  advance_rows(bytes, 1);
  return ok_status();
}

Status advance_header(std::span<std::byte> bytes, const StepPlanHeader& repeat) {
  auto& header = *reinterpret_cast<StepPlanHeader*>(bytes.data());
  const auto count = [&header](Section s) { return header.sections[static_cast<size_t>(s)].count; };
  const auto rows = static_cast<uint32_t>(repeat.repeats);
  bool plain = static_cast<uint32_t>(header.rows) == rows && count(Section::sequences) == rows &&
               count(Section::sampling) == rows;
  for (const Section s : {Section::rope_positions, Section::adapters, Section::modality, Section::span_ends,
                          Section::biases, Section::token_lists, Section::injects, Section::cross_spans}) {
    plain &= count(s) == 0;
  }
  if (!plain) return broken("it repeats a step of other rows");
  header.step = repeat.step;
  header.repeats = repeat.repeats;
  ++header.max_kv_len;
  header.sections[static_cast<size_t>(Section::copies)].count = 0;
  return ok_status();
}

void advance_rows(std::span<std::byte> bytes, int32_t steps) {
  const auto tokens = writable<int32_t>(bytes, Section::token_ids);
  std::fill(tokens.begin(), tokens.end(), kTokenFromSlot);
  for (int32_t& p : writable<int32_t>(bytes, Section::positions)) p += steps;
  for (PlanSequence& s : writable<PlanSequence>(bytes, Section::sequences)) s.kv_len += steps;
  for (PlanSampling& s : writable<PlanSampling>(bytes, Section::sampling)) {
    s.position += steps;
    s.reset = 0;
  }
}

bool advance_table(std::span<std::byte> bytes, int32_t sequence, int32_t group, const PlanTable& told,
                   std::span<const int32_t> fresh, int32_t block_tokens) {
  const auto& header = *reinterpret_cast<const StepPlanHeader*>(bytes.data());
  const auto tables = writable<PlanTable>(bytes, Section::tables);
  const auto blocks = writable<int32_t>(bytes, Section::blocks);
  const auto index = static_cast<size_t>(sequence * header.groups + group);
  PlanTable& table = tables[index];
  const int32_t slid = (told.first_position - table.first_position) / block_tokens;
  if (told.kept <= 0 || slid < 0 || slid + told.kept != table.count) return false;
  const auto end = static_cast<size_t>(table.begin + slid + told.kept);
  const size_t room = index + 1 < tables.size() ? static_cast<size_t>(tables[index + 1].begin) : blocks.size();
  if (end + fresh.size() > room) return false;
  std::copy(fresh.begin(), fresh.end(), blocks.begin() + static_cast<std::ptrdiff_t>(end));
  table = {table.begin + slid, told.kept + static_cast<int32_t>(fresh.size()), told.first_position, 0};
  return true;
}

PlanView PlanView::at(std::span<const std::byte> copy) const {
  PlanView view;
  view.bytes_ = copy;
  view.header_ = reinterpret_cast<const StepPlanHeader*>(copy.data());
  return view;
}

Result<PlanView> PlanView::parse(std::span<const std::byte> bytes) {
  static_assert(std::is_trivially_copyable_v<StepPlanHeader>);
  if (bytes.size() < sizeof(StepPlanHeader)) return broken("shorter than its header");
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(StepPlanHeader) != 0) {
    return broken("not aligned");
  }
  PlanView view;
  view.bytes_ = bytes;
  view.header_ = reinterpret_cast<const StepPlanHeader*>(bytes.data());
  const StepPlanHeader& h = *view.header_;
  if (h.magic != kStepPlanMagic) return broken("wrong magic");
  if (h.version != kStepPlanVersion) {
    return broken(("version " + std::to_string(h.version) + ", this build speaks " +
                   std::to_string(kStepPlanVersion)).c_str());
  }
  if (h.bytes != bytes.size()) return broken("truncated");
  TR_TRY(check_sections(bytes, h));
  const auto tables = h.sections[static_cast<size_t>(Section::tables)].count;
  if (h.groups < 0 || size_t{tables} != view.sequences().size() * static_cast<size_t>(h.groups)) {
    return broken("tables are not sequences x groups");
  }
  if (view.only_repeats()) {
    TR_TRY(check_repeat(view));
  } else {
    TR_TRY(check_row_arrays(view));
    TR_TRY(check_sequences(view));
  }
  TR_TRY(check_ranges(view));
  return view;
}

}  // namespace troupe
