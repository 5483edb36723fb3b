// For tests: runs sequences through a model step by step, with caches and block tables of its own,
// the way the engine does it, and gives back the logprobs of given tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/model.hpp"

namespace troupe::models::testing {

// The next tokens of one sequence. Each has its logprob of `targets` (one per token, or none).
struct Piece {
  int32_t sequence = 0;
  int32_t prompt_len = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;  // -1: no logits wanted for that row
  std::vector<uint8_t> modality;  // empty, or one per token
  int32_t cross_len = 0;
  std::vector<int32_t> rope{};  // three per token, or empty: as the positions
  std::vector<int32_t> span_ends{};  // one per token, or empty
  // Rows of pictures that take the place of tokens of this piece.
  struct Inject {
    Matrix source;
    int32_t token = 0;  // the first, within the piece
    int32_t count = 0;
    int32_t source_row = 0;
  };
  std::vector<Inject> injects{};
  Matrix encoder_rows{};  // written before this step: what cross-attention sees from then on
  std::vector<int32_t> cross_spans{};  // two per token, or empty: all of cross_len
};

struct Scored {
  int32_t sequence = 0;
  int32_t best = -1;  // the likeliest token
  float logprob = 0.0F;  // of the target
  std::vector<StepTop> top;
};

class Runner {
 public:
  static constexpr int32_t kSequences = 64;
  static constexpr int32_t kTokens = 256;  // per sequence, at most
  static constexpr int32_t kRows = 1024;

  static Result<std::unique_ptr<Runner>> open(std::shared_ptr<const ModelFolder> folder,
                                              Backend& backend, Communicator* communicator,
                                              const LoadOptions& options);
  // Encoder rows that the next step gives to a sequence's cross-attention layers.
  void encode_next(int32_t sequence, Matrix states) { encoded_ = {{sequence, states}}; }
  // Called right before and right after each Model::forward.
  void around_forward(std::function<void()> before, std::function<void()> after) {
    before_ = std::move(before);
    after_ = std::move(after);
  }
  // One step. Everything asked for, in order of pieces and rows.
  Result<std::vector<Scored>> step(const std::vector<Piece>& pieces);
  void forget(int32_t sequence);  // it starts over with position 0
  Model& model() { return *model_; }

 private:
  struct Encoded {
    int32_t sequence;
    Matrix states;
  };
  Runner(Backend& backend) : backend_(backend) {}
  void add(const Piece& piece, StepPlanDraft& draft);

  Backend& backend_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::vector<KvCache*> cache_views_;
  std::vector<int32_t> lengths_ = std::vector<int32_t>(kSequences, 0);
  std::vector<Encoded> encoded_;
  std::vector<Matrix> injects_;  // of the step's plan, in order
  std::function<void()> before_ = [] {}, after_ = [] {};
  uint64_t steps_ = 0;
};

}  // namespace troupe::models::testing
