// The balancer: carries messages between its desk, the pool of decoders, the encoders and the
// scheduler.
#include <caf/send.hpp>

#include "actors/shells.hpp"
#include "kernels/backend.hpp"
#include "models/convert.hpp"

namespace troupe::actors {
namespace {

using Self = BalancerActor::stateful_pointer<BalancerState>;

void report(const BalancerActor& balancer, Prepared piece) {
  caf::anon_send(balancer, prepared_atom_v, std::make_shared<Prepared>(std::move(piece)));
}

// Work of the pool, with its time; an exception becomes the piece's failure.
template <class F>
void measured_piece(Prepared& piece, F&& work) {
  const int64_t begin = thread_cpu_ns();
  try {
    piece.status = work();
  } catch (...) {
    piece.status = status_of(std::current_exception()).at("image");
  }
  piece.ns = thread_cpu_ns() - begin;
}

struct Decoding {
  PictureJobPtr job;
  std::shared_ptr<const Eyes> eyes;
  BalancerActor balancer;
  TaskRunner* runner;  // outlives its tasks
};

// One tile each, so that those of one picture are prepared in parallel. The first counts decoding.
void cut_tiles(const Decoding& d, const std::shared_ptr<const vision::Image>& image,
               int64_t decode_ns) {
  const auto tiles = static_cast<int32_t>(d.job->layout.tiles.size());
  for (int32_t t = 0; t < tiles; ++t) {
    d.runner->run(0, [d, image, t, decode_ns = t == 0 ? decode_ns : 0] {
      Prepared piece{d.job->id, t, {}, {}, 0};
      if (!d.job->dropped.load(std::memory_order_relaxed)) {
        measured_piece(piece, [&]() -> Status {
          TR_ASSIGN(piece.cut, d.eyes->folder->processor().prepare(*image, d.job->layout, t));
          piece.cut.index = t;
          return {};
        });
      }
      piece.ns += decode_ns;
      report(d.balancer, std::move(piece));
    });
  }
}

void decode(const Decoding& d) {
  Prepared piece{d.job->id, -1, {}, {}, 0};
  if (d.job->dropped.load(std::memory_order_relaxed)) {
    piece.status = {Code::cancelled, "the request has ended"};
    return report(d.balancer, std::move(piece));
  }
  auto image = std::make_shared<vision::Image>();
  measured_piece(piece, [&]() -> Status {
    TR_ASSIGN(*image, d.eyes->source.load(d.job->input));
    const vision::PictureLayout& expected = d.job->layout;
    if (image->width == expected.width && image->height == expected.height) return {};
    return invalid("image: its header says " + std::to_string(expected.width) + " x " +
                   std::to_string(expected.height) + ", and it has " + std::to_string(image->width) +
                   " x " + std::to_string(image->height) + " pixels");
  });
  d.job->input = {};
  if (!piece.status.ok()) return report(d.balancer, std::move(piece));
  cut_tiles(d, image, piece.ns);
}

// A picture's rows behind those that are there already, as f32.
Status append_rows(const engine::Embedding& picture, Event& event) {
  const Matrix& m = picture.rows;
  const auto columns = static_cast<size_t>(m.cols);
  const size_t row_bytes = static_cast<size_t>(m.stride) * dtype_bytes(m.dtype);
  const std::byte* from = m.row<std::byte>(0);
  std::vector<std::byte> copy;
  if (picture.buffer != nullptr) {
    copy.resize(static_cast<size_t>(m.rows) * row_bytes);
    const auto begin = static_cast<size_t>(from - static_cast<const std::byte*>(picture.buffer->data()));
    TR_TRY(picture.buffer->read(copy.data(), begin, copy.size()));
    from = copy.data();
  }
  const size_t at = event.data.size();
  event.data.resize(at + static_cast<size_t>(m.rows) * columns);
  for (size_t r = 0; r < static_cast<size_t>(m.rows); ++r) {
    models::convert(from + r * row_bytes, m.dtype, event.data.data() + at + r * columns, DType::f32, columns);
  }
  event.data_shape[0] += m.rows;
  event.data_shape[1] = m.cols;
  event.usage.image_tokens += m.rows;
  return {};
}

void answer_with_rows(const TicketPtr& ticket, const std::vector<engine::EmbeddingPtr>& rows) {
  Event event;
  event.kind = EventKind::done;
  event.finish = FinishReason::stop;
  for (const engine::EmbeddingPtr& picture : rows) {
    if (const Status s = append_rows(*picture, event); !s.ok()) {
      ticket->end(s);
      return;
    }
  }
  event.timings.total_ns = steady_now_ns() - ticket->stub().submitted_ns;
  ticket->push(std::move(event));
}

BalancerLinks links_of(Self self, const BalancerParts& parts) {
  BalancerLinks links;
  links.prepare = [self, eyes = parts.eyes](const PictureJobPtr& job) {
    const Decoding d{job, eyes, BalancerActor(self), self->state.runner.get()};
    if (job->input.kind == ImageKind::embedding) return report(d.balancer, {job->id, 0, {}, {}, 0});
    d.runner->run(0, [d] { decode(d); });
  };
  links.call = [self](int32_t device, VisionCallPtr call) {
    self->send(self->state.encoders[static_cast<size_t>(device)], call_atom_v, std::move(call));
  };
  links.developed = [self](DevelopedPtr news) {
    self->send(self->state.scheduler, ready_atom_v, std::move(news));
  };
  links.stop = [self](TicketPtr ticket) {
    self->send(self->state.scheduler, cancel_atom_v, std::move(ticket));
  };
  links.answer = [self](const TicketPtr& ticket, std::vector<engine::EmbeddingPtr> rows) {
    self->state.runner->run(0, [ticket, rows = std::move(rows)] { answer_with_rows(ticket, rows); });
  };
  const caf::weak_actor_ptr weak(self->ctrl());
  links.lease = [weak](RequestId id) {
    return std::make_shared<Lease>(id, [weak](RequestId gone) {
      if (const caf::strong_actor_ptr strong = weak.lock()) {
        caf::anon_send(caf::actor_cast<BalancerActor>(strong), left_atom_v, gone);
      }
    });
  };
  return links;
}

}  // namespace

BalancerActor::behavior_type balancer(Self self, ShellParts shell, const BalancerParts& parts,
                                      std::shared_ptr<TaskRunner> runner, SchedulerActor scheduler) {
  keep_last_words(self, shell.obituary);
  self->state.runner = std::move(runner);
  self->state.scheduler = std::move(scheduler);
  self->state.encoders.resize(static_cast<size_t>(parts.config.devices));
  self->state.desk = std::make_unique<BalancerDesk>(parts.config, parts.context_limit, parts.clock,
                                                    parts.board, links_of(self, parts));
  // Until its encoder is named a device cannot be called.
  for (int32_t d = 0; d < parts.config.devices; ++d) {
    self->state.desk->device_lost(d, {Code::device_failed, "not open yet"}, true);
  }
  return {
      measured(shell.clock, [self](see_atom, const OrderPtr& order) { self->state.desk->see(order); }),
      measured(shell.clock,
               [self](prepared_atom, const PreparedPtr& piece) { self->state.desk->prepared(*piece); }),
      measured(shell.clock,
               [self](called_atom, const VisionCallPtr& call) { self->state.desk->called(*call); }),
      measured(shell.clock,
               [self](cancel_atom, const TicketPtr& ticket) { self->state.desk->cancel(*ticket); }),
      measured(shell.clock,
               [self](left_atom, uint64_t request) { self->state.desk->left(request); }),
      measured(shell.clock,
               [self](lost_atom, int32_t device, bool comes_back, const StatusPtr& why) {
                 self->state.desk->device_lost(device, *why, comes_back);
               }),
      measured(shell.clock,
               [self](device_atom, int32_t device, const EncoderActor& encoder) {
                 self->state.encoders[static_cast<size_t>(device)] = encoder;
                 self->state.desk->device_gained(device);
               }),
  };
}

}  // namespace troupe::actors
