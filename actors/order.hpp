// The payloads of the messages: what travels between the actors. Plain data with one owner at a
// time: whoever sends one forgets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "actors/ticket.hpp"
#include "base/request.hpp"
#include "engine/embedding.hpp"
#include "engine/job.hpp"
#include "engine/output_core.hpp"
#include "kernels/batch.hpp"

namespace troupe::engine {
class Scheduler;
}

namespace troupe::actors {

struct Sight;  // sight.hpp: what it asks of the vision side

// A request on its way to the scheduler.
struct Order {
  TicketPtr ticket;
  Request request;          // until the tokenizer has made the two below of it
  engine::Job job;          // for the scheduler
  engine::OutputSpec spec;  // for the detokenizer
  std::shared_ptr<Sight> sight;  // for the balancer; null: no pictures
};

using OrderPtr = std::shared_ptr<Order>;

// A plan on its way to an executor, and its result on the way back.
struct StepJob {
  uint32_t generation = 0;  // of the executor: results of a dead one are void
  bool collect = false;     // once it is launched, wait for the oldest step in flight
  uint64_t step = 0;        // the plan's number
  int32_t repeats = 0;      // StepPlanHeader's
  std::vector<std::byte> plan;
  std::vector<engine::StepEmbedding> embeddings;  // that the plan refers to, until it is done
  StepResult result;
};

// What happened to the sequences since the last one, for the detokenizer.
struct Delivery {
  uint64_t number = 0;  // they are taken in this order, whichever way they come
  struct Opened {
    TicketPtr ticket;
    engine::OutputSpec spec;
  };
  std::vector<Opened> opened;  // they come before their first output
  engine::Outputs outputs;

  void clear() {
    opened.clear();
    outputs.clear();
  }
};
using DeliveryPtr = std::shared_ptr<Delivery>;

// A question to the scheduler, or a word to it: sessions, options. Must not block or throw.
struct Visit {
  std::function<void(engine::Scheduler&)> look;
  std::function<void()> answered;  // once what it changed is known to everybody
};

struct Cuts {
  std::vector<engine::Cut> cuts;
};

}  // namespace troupe::actors
