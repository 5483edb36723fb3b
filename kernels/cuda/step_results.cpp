#include "kernels/cuda/step_results.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace troupe::cuda {

Status StepResults::prepare(int32_t rows_max) {
  rows_max_ = std::max(rows_max, 1);
  rows_ = come_ = 0;
  TR_TRY(area_.grow(static_cast<size_t>(rows_max_) * sizeof(Drawn), "results"));
  std::memset(area_.data(), 0, area_.bytes());
  return ok_status();
}

Status StepResults::begin(int32_t rows, int32_t tops_stride) {
  TR_ASSERT(rows <= rows_max_);
  const size_t tops = static_cast<size_t>(rows) * static_cast<size_t>(tops_stride);
  const size_t bytes = static_cast<size_t>(rows_max_) * sizeof(Drawn) + tops * sizeof(TopToken);
  if (bytes > area_.bytes()) {
    TR_TRY(area_.grow(bytes, "results"));
    std::memset(area_.data(), 0, area_.bytes());
  }
  if (++step_ == 0) ++step_;  // that of memory in which nothing was written
  rows_ = rows;
  tops_stride_ = tops_stride;
  come_ = 0;
  return ok_status();
}

bool StepResults::complete() {
  for (Drawn* row = drawn() + come_; come_ < rows_; ++come_, ++row) {
    if (std::atomic_ref(row->step).load(std::memory_order_acquire) != step_) return false;
  }
  return true;
}

void StepResults::read(std::span<const LogitRow> wanted, int32_t vocab, StepResult& result) const {
  result.tokens.reserve(wanted.size());
  const Drawn* drawn = this->drawn();
  const TopToken* tops = this->tops();
  for (const LogitRow& row : wanted) {
    StepToken token{row.sequence, drawn->token, drawn->logprob, drawn->rank, 0, 0};
    if (row.top_n >= 0 && drawn->logprob == drawn->logprob) {
      token.top_begin = static_cast<int32_t>(result.tops.size());
      token.top_count = std::min(row.top_n, vocab);
      for (const TopToken& top : std::span(tops, static_cast<size_t>(token.top_count))) {
        result.tops.push_back({top.token, top.logprob});
      }
    }
    result.tokens.push_back(token);
    ++drawn;
    tops += tops_stride_;
  }
}

}  // namespace troupe::cuda
