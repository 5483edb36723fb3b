// The suite itself under test: a backend that is right in everything but one op, in one way, must be
// found out, for every op and way. So a case that compares nothing does not go unnoticed.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/ops_suite/ops_suite.hpp"

namespace troupe::ops_suite {
namespace {

enum class Fault : uint8_t {
  none,
  off,    // one element of the output is a little wrong
  spill,  // one element behind the columns of the output is written
  skip,   // the op does nothing
};

// The whole CPU backend, with `fault` in the op named `broken`.
class BrokenBackend final : public Backend {
 public:
  BrokenBackend(std::string broken, Fault fault)
      : inner_(std::move(cpu::open_cpu_backend({})).value()), broken_(std::move(broken)), fault_(fault) {}
  using Arena = std::vector<std::unique_ptr<DeviceBuffer>>;

  const DeviceInfo& info() const override { return inner_->info(); }
  DType activation_dtype(DType t) const override { return inner_->activation_dtype(t); }
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t n, std::string_view what) override {
    return inner_->allocate(n, what);
  }
  Status upload(void* to, const void* from, size_t n) override { return inner_->upload(to, from, n); }
  Status download(void* to, const void* from, size_t n) override {
    return inner_->download(to, from, n);
  }
  Result<LinearWeight> place(const LinearWeight& w, Arena& a) override { return inner_->place(w, a); }
  Result<Matrix> place(const Matrix& m, Arena& a) override { return inner_->place(m, a); }
  Result<std::unique_ptr<KvCache>> create_cache(const KvCacheSpec& s) override {
    return inner_->create_cache(s);
  }
  size_t cache_block_bytes(const KvCacheSpec& s) const override {
    return inner_->cache_block_bytes(s);
  }
  Status reserve_steps(int32_t a, int32_t b, int32_t c, int32_t d) override {
    return inner_->reserve_steps(a, b, c, d);
  }
  Status synchronize() override { return inner_->synchronize(); }

  Result<Batch> begin_step(const PlanView& plan, std::span<KvCache* const> caches) override {
    if (broken_ != "copies" || plan.copies().empty()) return inner_->begin_step(plan, caches);
    // The same plan, with each copy from a block onto itself.
    bytes_.assign(plan.bytes().begin(), plan.bytes().end());
    const auto range = plan.header().sections[static_cast<size_t>(Section::copies)];
    for (uint32_t i = 0; i < range.count; ++i) {
      PlanCopy copy = plan.copies()[i];
      copy.to = copy.from;
      std::memcpy(bytes_.data() + range.offset + i * sizeof copy, &copy, sizeof copy);
    }
    return inner_->begin_step(*PlanView::parse(bytes_), caches);
  }
  void sample(const Batch& b, const SampleArgs& a) override {
    if (broken_ == "sample softcap") return inner_->sample(b, {a.logits, a.scale, 0.0F, a.grammar_mask});
    if (broken_ == "sample mask") return inner_->sample(b, {a.logits, a.scale, a.softcap, {}});
    if (!is("sample")) inner_->sample(b, a);
  }
  Result<StepResult> finish_step(const Batch& b) override {
    auto result = inner_->finish_step(b);
    if (!result.ok() || result->tokens.empty()) return result;
    StepToken& last = result->tokens.back();
    if (broken_ == "sample token") last.token ^= 1;
    if (broken_ == "sample logprob") last.logprob *= 1.01F;
    if (broken_ == "sample rank") ++last.rank;
    if (broken_ == "sample tops" && !result->tops.empty()) result->tops.back().token ^= 1;
    return result;
  }

  void embed(const Batch& b, const EmbedArgs& a) override { run("embed", a, &Backend::embed, b); }
  void inject(const Batch& b, const InjectArgs& a) override { run("inject", a, &Backend::inject, b); }
  void norm(const NormArgs& a) override { run("norm", a, &Backend::norm); }
  void add(const AddArgs& a) override { run("add", a, &Backend::add); }
  void scale_columns(const ScaleColumnsArgs& a) override {
    run("scale_columns", a, &Backend::scale_columns);
  }
  void mix_rows(const MixRowsArgs& a) override { run("mix_rows", a, &Backend::mix_rows); }
  void linear(const Batch& b, const LinearArgs& a) override { run("linear", a, &Backend::linear, b); }
  void head_linear(const HeadLinearArgs& a) override { run("head_linear", a, &Backend::head_linear); }
  void attention(const Batch& b, const AttentionArgs& a) override {
    run("attention", a, &Backend::attention, b);
  }
  void packed_attention(const PackedAttentionArgs& a) override {
    run("packed_attention", a, &Backend::packed_attention);
  }
  void gated_activation(const ActivationArgs& a) override {
    run("gated_activation", a, &Backend::gated_activation);
  }
  void activation(const ActivationArgs& a) override { run("activation", a, &Backend::activation); }
  void experts(const Batch& b, const ExpertsArgs& a) override {
    run("experts", a, &Backend::experts, b);
  }
  void gather(const Batch& b, const GatherArgs& a) override { run("gather", a, &Backend::gather, b); }

  void rope_write(const Batch& b, const RopeWriteArgs& a) override {
    if (is("rope_write") && a.rope != nullptr) {
      if (fault_ != Fault::skip) inner_->rope_write(b, a);
      return spoil(a.query ? a.query : a.key);
    }
    if (broken_ == "cached key") spoil_for(a.key, [&] { inner_->rope_write(b, a); });
    else if (broken_ == "cached value") spoil_for(a.value, [&] { inner_->rope_write(b, a); });
    else inner_->rope_write(b, a);
  }
  void cross_write(const Batch& b, const CrossWriteArgs& a) override {
    if (broken_ == "cross_write") spoil_for(a.value, [&] { inner_->cross_write(b, a); });
    else inner_->cross_write(b, a);
  }

 private:
  [[nodiscard]] bool is(const char* op) const { return broken_ == op; }

  // The op, and then its fault when it is the broken one.
  template <class Args, class Op, class... B>
  void run(const char* name, const Args& args, Op op, const B&... batch) {
    if (!is(name) || fault_ != Fault::skip) (inner_.get()->*op)(batch..., args);
    if (is(name)) spoil(args.output);
  }
  // Changes an element in the middle of the last row, or the one behind it.
  void spoil(const Matrix& m) const {
    if (fault_ == Fault::skip || !m || m.rows == 0) return;
    float* row = m.row<float>(m.rows - 1);
    if (fault_ == Fault::spill && m.stride > m.cols) row[m.cols] = 0.0F;
    if (fault_ == Fault::off) row[m.cols / 2] = row[m.cols / 2] * 1.01F + 0.05F;
  }
  // Runs `op` while an input is spoilt.
  template <class Op>
  void spoil_for(const Matrix& m, const Op& op) const {
    if (!m || m.rows == 0) return op();
    float& element = m.row<float>(m.rows - 1)[m.cols / 2];
    const float before = element;
    element += 2.0F;
    op();
    element = before;
  }

  std::unique_ptr<Backend> inner_;
  std::string broken_;
  Fault fault_;
  std::vector<std::byte> bytes_;
};

struct Breakage {
  const char* op;
  Fault fault;
  const char* cases;  // those that must notice
};

class BrokenBackends : public testing::TestWithParam<Breakage> {};

TEST_P(BrokenBackends, AreFoundOut) {
  BrokenBackend broken(GetParam().op, GetParam().fault);
  const OpsReport report = run_ops_suite(broken, {.weights = {DType::f32}, .only = GetParam().cases, .rounds = 2});
  EXPECT_GT(report.comparisons, 0) << "no case is named like " << GetParam().cases;
  EXPECT_FALSE(report.failures.empty()) << GetParam().op << " is broken, and no case noticed";
  BrokenBackend sound("nothing", Fault::none);
  const OpsReport fine = run_ops_suite(sound, {.weights = {DType::f32}, .only = GetParam().cases, .rounds = 2});
  EXPECT_TRUE(fine.ok()) << "the wrapper itself is wrong: " << describe(fine);
}

std::vector<Breakage> breakages() {
  std::vector<Breakage> all;
  const std::pair<const char*, const char*> ops[] = {
      {"embed", "embed"}, {"inject", "inject_gather"}, {"gather", "inject_gather"}, {"norm", "norm"},
      {"add", "add"}, {"scale_columns", "scale_columns"}, {"mix_rows", "mix_rows"},
      {"linear", "linear"}, {"head_linear", "head_linear"}, {"rope_write", "rope"},
      {"attention", "attention_"}, {"packed_attention", "packed_attention"},
      {"gated_activation", "gated_activation"}, {"activation", "activation"}, {"experts", "experts"}};
  for (const auto& [op, cases] : ops) {
    for (Fault fault : {Fault::off, Fault::spill, Fault::skip}) all.push_back({op, fault, cases});
  }
  all.push_back({"cached key", Fault::off, "attention_mixed"});
  all.push_back({"cached value", Fault::off, "attention_mixed"});
  all.push_back({"cross_write", Fault::off, "attention_cross"});
  all.push_back({"copies", Fault::off, "block_copies"});
  all.push_back({"sample", Fault::skip, "sample_greedy"});
  for (const char* op : {"sample token", "sample logprob", "sample rank", "sample softcap"}) {
    all.push_back({op, Fault::off, "sample_greedy"});
  }
  all.push_back({"linear", Fault::skip, "sample_head"});
  all.push_back({"sample token", Fault::off, "sample_head"});
  all.push_back({"sample token", Fault::off, "sample_draw"});
  all.push_back({"sample token", Fault::off, "sample_top"});
  all.push_back({"sample token", Fault::off, "sample_feedback"});
  all.push_back({"sample tops", Fault::off, "sample_logprobs"});
  all.push_back({"sample mask", Fault::off, "sample_rules"});
  return all;
}

std::string breakage_name(const testing::TestParamInfo<Breakage>& info) {
  constexpr const char* kFaults[] = {"none", "off", "spill", "skip"};
  std::string name = std::string(info.param.op) + "_" + kFaults[static_cast<size_t>(info.param.fault)] +
                     "_" + info.param.cases;
  for (char& c : name) c = c == ' ' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Suite, BrokenBackends, testing::ValuesIn(breakages()), breakage_name);

}  // namespace
}  // namespace troupe::ops_suite
