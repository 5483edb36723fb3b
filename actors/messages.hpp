// The map of the system: every message and every actor's handle, in one place.
//
//      submit, cancel          encode           encoded            step
//   port ------------> frontdesk ----> tokenizer -----> scheduler -----> executor (one per device)
//                         |    cancelled orders |^  cut |  ^    done        |
//                         +---------------------||------+  +----------------+
//                         |                     |+-- detokenizer <-- deliver, from the scheduler
//                         | cancelled     see   v            call
//                         +-----------------> balancer ------------> encoder (one per device)
//                                               |  ^    called          |
//        encoded, ready --> scheduler <---------+  +--------------------+
//   heartbeat --tick--> frontdesk, scheduler, supervisor;   supervisor: watches all of them
//   port --visit--> scheduler: sessions and questions, answered through the visitor's own promise
//
// One message per step carries the whole batch; an executor that helps says `done` and `deliver` directly
// when nobody speaks for the other (direct_line.hpp). Payloads are shared_ptr to structs with one owner at
// a time: whoever sends one forgets it. Handles point one way: executor and detokenizer answer the
// sender, so there is no cycle of actors that keep one another.
// An order with pictures goes from the tokenizer to the balancer, which has them decoded (a pool
// answers `prepared`) and encoded, and passes the order on when the first has rows; the others come
// as `ready`. Rows travel with the step that needs them (StepJob), so no executor keeps a table that
// could be wrong. A request that ends lets go of its pictures, and the balancer hears `left`.
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>
#include <caf/meta/type_name.hpp>
#include <caf/replies_to.hpp>
#include <caf/type_id.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <memory>

#include "base/status.hpp"

namespace troupe::actors {

class Ticket;     // ticket.hpp: a request's way to its caller
struct Order;     // order.hpp: a request on its way to the scheduler
struct StepJob;   // order.hpp: a sealed plan; comes back with its result
struct Delivery;  // order.hpp: what a step gave to each sequence
struct Cuts;      // order.hpp: choices that a stop string ended
struct Visit;     // order.hpp: something to be done where the scheduler's state lives
struct Prepared;    // sight.hpp: a tile of a picture, or why there is none
struct VisionCall;  // sight.hpp: tiles to be encoded; comes back with their rows
struct Developed;   // sight.hpp: requests whose pictures have rows, and rows for those that it has

using TicketPtr = std::shared_ptr<Ticket>;
using OrderPtr = std::shared_ptr<Order>;
using StepJobPtr = std::shared_ptr<StepJob>;
using DeliveryPtr = std::shared_ptr<Delivery>;
using CutsPtr = std::shared_ptr<Cuts>;
using PreparedPtr = std::shared_ptr<Prepared>;
using VisionCallPtr = std::shared_ptr<VisionCall>;
using DevelopedPtr = std::shared_ptr<Developed>;
using StatusPtr = std::shared_ptr<const Status>;
using VisitPtr = std::shared_ptr<Visit>;

// The clock's word to those who keep deadlines, and what it learnt: `step` is progress, the message
// itself is liveness, and the two are not the same.
struct Pulse {
  int64_t now_ns = 0;
  uint64_t step = 0;
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, Pulse& x) {
  return f(caf::meta::type_name("Pulse"), x.now_ns, x.step);
}

}  // namespace troupe::actors

CAF_BEGIN_TYPE_ID_BLOCK(troupe, first_custom_type_id)
  CAF_ADD_TYPE_ID(troupe, (troupe::actors::Pulse))
  CAF_ADD_ATOM(troupe, troupe::actors, submit_atom, "submit")
  CAF_ADD_ATOM(troupe, troupe::actors, cancel_atom, "cancel")
  CAF_ADD_ATOM(troupe, troupe::actors, stop_atom, "stop")
  CAF_ADD_ATOM(troupe, troupe::actors, end_all_atom, "endall")
  CAF_ADD_ATOM(troupe, troupe::actors, encode_atom, "encode")
  CAF_ADD_ATOM(troupe, troupe::actors, encoded_atom, "encoded")
  CAF_ADD_ATOM(troupe, troupe::actors, step_atom, "step")
  CAF_ADD_ATOM(troupe, troupe::actors, collect_atom, "collect")
  CAF_ADD_ATOM(troupe, troupe::actors, done_atom, "done")
  CAF_ADD_ATOM(troupe, troupe::actors, deliver_atom, "deliver")
  CAF_ADD_ATOM(troupe, troupe::actors, cut_atom, "cut")
  CAF_ADD_ATOM(troupe, troupe::actors, device_atom, "device")
  CAF_ADD_ATOM(troupe, troupe::actors, visit_atom, "visit")
  CAF_ADD_ATOM(troupe, troupe::actors, tick_atom, "tick")
  CAF_ADD_ATOM(troupe, troupe::actors, see_atom, "see")
  CAF_ADD_ATOM(troupe, troupe::actors, prepared_atom, "prepared")
  CAF_ADD_ATOM(troupe, troupe::actors, call_atom, "call")
  CAF_ADD_ATOM(troupe, troupe::actors, called_atom, "called")
  CAF_ADD_ATOM(troupe, troupe::actors, ready_atom, "ready")
  CAF_ADD_ATOM(troupe, troupe::actors, left_atom, "left")
  CAF_ADD_ATOM(troupe, troupe::actors, lost_atom, "lost")
  CAF_ADD_ATOM(troupe, troupe::actors, rest_atom, "rest")
CAF_END_TYPE_ID_BLOCK(troupe)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::TicketPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::OrderPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::StepJobPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::DeliveryPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::CutsPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::PreparedPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::VisionCallPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::DevelopedPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::StatusPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::VisitPtr)

namespace troupe::actors {

// Drives one device. Detached. `step` launches a plan, and collects if it says so; `collect` waits for
// the oldest step launched. The scheduler says when: a device that runs ahead is given the next plan
// before it must wait for the one before, so that it never idles for a message to travel; both go
// in one message, so that its thread is woken once a step. `rest`: nobody has wanted anything for a while.
using ExecutorActor = caf::typed_actor<caf::reacts_to<step_atom, StepJobPtr>, caf::reacts_to<collect_atom>,
                                       caf::reacts_to<rest_atom>>;

// Batches, plans, owns the KV blocks of one replica. `device`: the old executor is gone (why), with
// all its steps; here is the new one.
using SchedulerActor =
    caf::typed_actor<caf::reacts_to<encoded_atom, OrderPtr>, caf::reacts_to<ready_atom, DevelopedPtr>,
                     caf::reacts_to<cancel_atom, TicketPtr>,
                     caf::reacts_to<done_atom, StepJobPtr>, caf::reacts_to<cut_atom, CutsPtr>,
                     caf::reacts_to<device_atom, ExecutorActor, StatusPtr>,
                     caf::reacts_to<visit_atom, VisitPtr>, caf::reacts_to<tick_atom, Pulse>>;

// Ids to text, stop strings, events to their callers.
using DetokenizerActor = caf::typed_actor<caf::reacts_to<deliver_atom, DeliveryPtr>>;

// Drives one device's vision tower. Detached; answers the sender.
using EncoderActor = caf::typed_actor<caf::reacts_to<call_atom, VisionCallPtr>>;

// Decides who encodes what and keeps what was encoded. `device`: encoder number so is here, a new
// one; `lost`: it is gone for good, or `device` follows.
using BalancerActor =
    caf::typed_actor<caf::reacts_to<see_atom, OrderPtr>, caf::reacts_to<prepared_atom, PreparedPtr>,
                     caf::reacts_to<called_atom, VisionCallPtr>,
                     caf::reacts_to<cancel_atom, TicketPtr>, caf::reacts_to<left_atom, uint64_t>,
                     caf::reacts_to<lost_atom, int32_t, bool, StatusPtr>,
                     caf::reacts_to<device_atom, int32_t, EncoderActor>>;

// Template and text to ids, in a pool of own threads.
using TokenizerActor = caf::typed_actor<caf::reacts_to<encode_atom, OrderPtr>>;

// Knows every live request: deadlines, cancelling by id. `stop` asks all of them to end, through the
// scheduler; `endall` ends them here and now, because nobody is left behind it.
using FrontdeskActor =
    caf::typed_actor<caf::reacts_to<submit_atom, OrderPtr>, caf::reacts_to<cancel_atom, uint64_t>,
                     caf::reacts_to<stop_atom, StatusPtr>, caf::reacts_to<end_all_atom, StatusPtr>,
                     caf::reacts_to<tick_atom, Pulse>>;

// Watches the cast; replaces a dead executor or ends everything cleanly.
using SupervisorActor = caf::typed_actor<caf::reacts_to<tick_atom, Pulse>>;

// Ticks. Its own message is its alarm.
using HeartbeatActor = caf::typed_actor<caf::reacts_to<tick_atom>>;

}  // namespace troupe::actors
