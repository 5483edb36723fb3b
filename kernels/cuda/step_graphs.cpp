// Steps as graphs: recording a pass, drawing along, running it again. And drawing by itself.
//
// What a graph reads beside its plan lies where it lay when it was recorded: whatever moves it
// drops all graphs. A graph ends with the drawing that follows the pass, so that a step is one
// launch; it is launched when that is asked for, or whatever else comes first.
#include <chrono>
#include <cstring>
#include <utility>

#include "kernels/cuda/cuda_backend.hpp"

namespace troupe::cuda {
namespace {

constexpr size_t kGraphsMax = 512;

}  // namespace

void CudaBackend::drop_graphs() {
  for (auto& [key, graph] : graphs_) {
    if (graph.exec != nullptr) cudaGraphExecDestroy(graph.exec);
  }
  graphs_.clear();
  for (InFlight& f : ring_) f.graph = nullptr;
  graph_bytes_ = 0;
}

// What a recorded pass depends on beside its shape: where the plan's arrays lie, and how it draws.
uint64_t CudaBackend::graph_key(const Batch& batch, uint64_t shape_key) const {
  const StepPlan& plan = plan_of(batch);
  const StepCounts& c = plan.counts;
  const uint64_t draws = plan.draws_alike() ? (plan.greedy ? 2 : 1) : 0;
  return shape_key ^ (c.rope_positions ? 1ULL << 63 : 0) ^ (c.modality ? 1ULL << 62 : 0) ^
         (c.spreads ? 1ULL << 55 : 0) ^ draws << 60 ^ static_cast<uint64_t>(c.groups) << 56;
}

bool CudaBackend::replay(const Batch& batch, uint64_t shape_key) {
  const StepCounts& c = plan_of(batch).counts;
  if (c.span_ends || c.prefill_items > 0) return false;  // as in record()
  const auto found = graphs_.find(graph_key(batch, shape_key));
  if (found == graphs_.end() || found->second.exec == nullptr) return false;
  start_waiting();
  ready_ = &found->second;
  ready_step_ = &ring_[batch.ring];
  unplaced_ = nullptr;  // the graph fetches the plan
  return true;
}

// The first time a shape is seen its ops run as they come: kernels load, tables are made.
void CudaBackend::record(const Batch& batch, uint64_t shape_key) {
  start_waiting();
  const StepCounts& c = plan_of(batch).counts;
  if (graphs_.size() >= kGraphsMax || c.span_ends || c.prefill_items > 0) return;
  Graph& graph = graphs_[graph_key(batch, shape_key)];
  if (graph.seen++ != 1) return;
  recording_since_ = std::chrono::steady_clock::now();
  if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return;
  recording_ = &graph;
  ready_step_ = &ring_[batch.ring];
  unplaced_ = nullptr;
}

void CudaBackend::end_record() {
  ready_ = recording_;  // and goes on until the tokens are drawn
}

// Ends the recording. False: there is no graph.
bool CudaBackend::finish_recording() {
  Graph& graph = *std::exchange(recording_, nullptr);
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(stream_, &captured), "recording a step");
  if (captured == nullptr) return false;
  const int64_t before = device_bytes_used();
  check(put_fetch_in_front(captured, ready_step_->plan.at.head, ready_step_->plan.at.blocks),
        "recording how a plan is fetched");
  check(cudaGraphInstantiate(&graph.exec, captured, 0), "recording a step");
  cudaGraphDestroy(captured);
  graph_bytes_ += device_bytes_used() - before;
  const auto took = std::chrono::steady_clock::now() - recording_since_;
  recorded_ns_ += std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  return graph.exec != nullptr;
}

void CudaBackend::start_pass() {
  Graph* const graph = std::exchange(ready_, nullptr);
  if (graph == nullptr) return;
  if (recording_ == graph) {
    start_waiting();  // it is of this pass
    if (!finish_recording()) return;
  }
  ready_step_->tells = graph->draws;
  launch_graph(graph->exec, *ready_step_);
}

void CudaBackend::launch_graph(cudaGraphExec_t graph, InFlight& f) {
  const StepPlan& plan = f.plan;
  f.graph = f.tells ? graph : nullptr;
  // Most often the plan before has said so.
  const void* const staged = plan.staged();
  if (plan_next_ != staged) {
    check(cudaMemcpyAsync(&plan.at.head->next, &staged, sizeof staged, cudaMemcpyHostToDevice,
                          stream_),
          "saying where a plan lies");
  }
  check(cudaGraphLaunch(graph, stream_), "running a recorded step");
  plan_next_ = plan.head().next;
}

// A graph needs of its step what was there for the one before; what a plan changes beside it is in the
// plan. Whatever is not so leads back to begin_step().
bool CudaBackend::repeat_step(const PlanView& given, std::span<KvCache* const> caches,
                              Batch& batch) {
  use();
  flush();
  const uint32_t index = next_;
  InFlight& f = ring_[index];
  const InFlight& last = ring_[(index + kRing - 1) % kRing];
  if (f.open || last.graph == nullptr || !follows(last, given) ||
      !f.plan.repeat(last.plan, given, caches, step_shape(caches)) ||
      !f.plan.lies_as(last.plan, device_plan_) ||
      !f.results.begin(f.plan.counts.logit_rows, last.tops_stride).ok())
    return false;
  open_slot(given);
  f.tops_stride = last.tops_stride;
  f.plan.seal(ring_[next_].plan, f.results.target());
  f.sampled = f.tells = true;
  launch_graph(last.graph, f);
  batch = batch_of(given, index);
  return true;
}

void CudaBackend::draw(InFlight& f, const SampleArgs& a) {
  const StepPlan& plan = f.plan;
  const bool greedy = plan.draws_greedily() && a.scale == 1.0F && a.softcap <= 0.0F;
  const bool from_product = greedy && waits_for(a.logits);
  if (!from_product) start_waiting();
  Sampling s;
  s.logits = a.logits;
  s.scale = a.scale;
  s.softcap = a.softcap;
  s.rules = plan.counts.rules;
  s.rows = plan.at.logit_rows;
  s.draws = plan.at.rules;
  s.biases = plan.at.biases;
  s.lists = plan.at.lists;
  s.list_count = plan.counts.lists;
  s.slots = {last_tokens_.as<int32_t>(), tails_.as<int32_t>(), tail_counts_.as<int32_t>(),
             plan.penalties ? counts_.as<int32_t>() : nullptr, vocab_};
  s.changed = plan.changes ? changed_.as<float>() : nullptr;
  s.target = &plan.at.head->target;
  s.tops_stride = f.tops_stride;
  if (plan.changes && !a.grammar_mask.empty()) {
    const size_t bytes = a.grammar_mask.size_bytes();
    const Status room = f.masks.grow(bytes, "grammar masks");
    auto moved = device_masks_.grow(bytes, "grammar masks");
    if (!room.ok() || !moved.ok()) return fail(room.ok() ? moved.status() : room);
    std::memcpy(f.masks.data(), a.grammar_mask.data(), bytes);
    check(
        cudaMemcpyAsync(device_masks_.as(), f.masks.data(), bytes, cudaMemcpyHostToDevice, stream_),
        "uploading grammar masks");
    s.masks = device_masks_.as<uint32_t>();
    s.mask_rows = static_cast<int32_t>(a.grammar_mask.size() /
                                       ((static_cast<size_t>(a.logits.cols) + 31) / 32));
  }
  s.greedy = greedy_rows_.as<GreedyRow>();
  if (plan.fresh) check(take_histories(s, stream_), "sampling: histories");
  if (from_product) return check(draw_from_product(s), "linear with the likeliest tokens");
  check(greedy ? sample_greedy(s, multiprocessors_, stream_) : cuda::sample(s, stream_),
        "sampling");
}

void CudaBackend::sample(const Batch& batch, const SampleArgs& a) {
  InFlight& f = ring_[batch.ring];
  if (ready_ != nullptr && ready_ == recording_ && f.plan.draws_alike()) {
    draw(f, a);
    recording_->draws = true;
  }
  start_pass_or_upload();
  f.sampled = true;
  if (f.tells) return;
  draw(f, a);
  check(cudaEventRecord(f.done, stream_), "ending a step");
}

}  // namespace troupe::cuda
