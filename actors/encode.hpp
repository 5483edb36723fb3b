// From a request to what the scheduler and the detokenizer need: ids, sampling numbers, the spec of
// the output. Runs in the tokenizer's pool; free of CAF.
#pragma once

#include <cstddef>
#include <memory>

#include "actors/order.hpp"
#include "actors/sight.hpp"
#include "actors/text_house.hpp"
#include "base/status.hpp"
#include "models/facts.hpp"

namespace troupe::actors {

struct EncodeParts {
  std::shared_ptr<const TextHouse> text;
  models::ModelFacts facts;
  models::GenerationDefaults defaults;
  bool images = false;     // does the text house take them, as text?
  std::shared_ptr<const Eyes> eyes;  // null: there is no vision encoder
  int32_t block_tokens = 0;  // the scheduler's: prompts are hashed here then; 0: they are not
  uint64_t seed_base = 0;  // requests without a seed draw theirs from this and their id
};

// What can be refused by looking: bounds of limits.hpp, tasks and kinds that this engine has not.
// Cheap: submit() calls it in the caller's thread.
[[nodiscard]] Status check_request(const Request& request, const EncodeParts& parts);
// Bytes of text to be read: which lane of the pool it takes.
[[nodiscard]] size_t text_bytes(const Request& request);
// Bytes of its images, for admission.
[[nodiscard]] size_t image_bytes(const Request& request);
// Fills job and spec, and frees what the request held.
[[nodiscard]] Status encode_order(Order& order, const EncodeParts& parts);

}  // namespace troupe::actors
