#include "actors/scheduler_desk.hpp"

#include <string>
#include <utility>

#include "actors/frontdesk_core.hpp"
#include "actors/sight.hpp"
#include "base/log.hpp"

namespace troupe::actors {
namespace {

// By then the frontdesk has forgotten everybody: each of those left would keep a page from being
// given back.
constexpr int32_t kRestTicks = FrontdeskCore::kTidyTicks + 2;
// Once is not enough: looking for what malloc keeps for a thread makes it keep some of what was free
// between. When that has grown together there is nothing left to be kept.
constexpr int32_t kRestRounds = 2;
// The books of larger caches are left to the simulators: a look at every block would take longer than
// a handler may.
constexpr uint64_t kCheckedBlocks = 4096;

}  // namespace

SchedulerDesk::SchedulerDesk(engine::SchedulerConfig config, bool runs_ahead,
                             std::shared_ptr<const Clock> clock, std::shared_ptr<Board> board,
                             std::shared_ptr<SessionList> sessions, SchedulerLinks links)
    : scheduler_(std::move(config)),
      runs_ahead_(runs_ahead),
      clock_(std::move(clock)),
      board_(std::move(board)),
      sessions_(std::move(sessions)),
      links_(std::move(links)),
      news_(deliveries_.take()) {}

bool SchedulerDesk::enter(const OrderPtr& order) {
  const TicketPtr ticket = order->ticket;
  if (ticket->asked_to_stop()) {
    ticket->end(ticket->stop_reason());
    return false;
  }
  if (Status status = scheduler_.admit(std::move(order->job)); !status.ok()) {
    ticket->end(status);
    return false;
  }
  if (SessionList::Way way = ticket->take_way(); way.arrive()) scheduler_.session_free(way.session());
  news_->opened.push_back({ticket, std::move(order->spec)});
  worked_ = true;
  idle_ticks_ = 0;
  return true;
}

void SchedulerDesk::encoded(const OrderPtr& order) {
  if (enter(order)) advance();
}

void SchedulerDesk::ready(const Developed& news) {
  bool changed = !news.rows.empty();
  for (const OrderPtr& order : news.orders) changed = enter(order) || changed;
  for (const Developed::Rows& r : news.rows) {
    scheduler_.embedding_ready(r.request, r.picture, r.rows);
  }
  if (changed) advance();
}

void SchedulerDesk::cancel(const Ticket& ticket) {
  scheduler_.end(ticket.id(), ticket.stop_reason(), clock_->now_ns(), news_->outputs);
  advance();
}

void SchedulerDesk::done(StepJobPtr job) {
  if (job->generation != generation_) return;
  --flights_;
  --collecting_;
  const int64_t now = clock_->now_ns();
  if (Status status = scheduler_.commit(job->result, now, news_->outputs); !status.ok()) {
    has_device_ = false;
    links_.distrust(status);
    flush();
    return;
  }
  board_->steps.fetch_add(1, std::memory_order_relaxed);
  board_->step_last_ns.store(now - last_done_ns_, std::memory_order_relaxed);
  last_done_ns_ = now;
  spare_.push_back(std::move(job));
  advance();
}

void SchedulerDesk::cut(const Cuts& cuts) {
  const int64_t now = clock_->now_ns();
  for (const engine::Cut& c : cuts.cuts) {
    scheduler_.cut(c.request, c.choice, c.keep, now, news_->outputs);
  }
  advance();
}

void SchedulerDesk::device(const Status& why) {
  ++generation_;
  flights_ = 0;
  collecting_ = 0;
  has_device_ = true;
  if (!why.ok()) scheduler_.device_lost(why, clock_->now_ns(), news_->outputs);
  advance();
}

void SchedulerDesk::visit(const Visit& visit) {
  visit.look(scheduler_);
  list_sessions();  // whoever is told of a session may use it at once
  visit.answered();
  advance();
}

void SchedulerDesk::list_sessions() {
  for (const uint64_t id : sessions_->take_left()) scheduler_.session_free(id);
  if (scheduler_.session_changes() == sessions_listed_) return;
  sessions_listed_ = scheduler_.session_changes();
  sessions_->replace(scheduler_.session_ids());
}

void SchedulerDesk::tick() {
  ticks_soon_ = false;
  advance();
  idle_ticks_ = scheduler_.idle() ? idle_ticks_ + 1 : 0;
  if (!worked_ || idle_ticks_ < kRestTicks) return;
  const int32_t round = idle_ticks_ - kRestTicks;
  worked_ = round + 1 < kRestRounds;
  if (round == 0) tidy_up();
  if (links_.rest) links_.rest();
}

void SchedulerDesk::tidy_up() {
  scheduler_.rest();
  draft_ = {};
  spare_ = {};
  deliveries_.clear();
  if (scheduler_.stats().kv_blocks_total > kCheckedBlocks) return;
  if (const Status status = scheduler_.check_integrity(); !status.ok()) {
    log(LogLevel::error, "scheduler: " + status.message());
  }
}

void SchedulerDesk::advance() {
  plan();
  flush();
  // A plan that had nothing to compute but is not done: no result will come that would call for the next.
  if (!scheduler_.goes_on() || flights_ > 0 || !has_device_ || std::exchange(ticks_soon_, true)) return;
  links_.tick_soon();
}

void SchedulerDesk::plan() {
  const int64_t now = clock_->now_ns();
  StepJobPtr last;  // goes out when it is known whether another follows
  while (has_device_ && scheduler_.plan(now, draft_, news_->outputs)) {
    if (flights_ == 0) last_done_ns_ = now;
    if (last != nullptr) links_.step(std::move(last));
    last = fresh_job();
    draft_.seal(last->plan);
    last->step = draft_.step;
    last->repeats = draft_.repeats;
    last->embeddings = scheduler_.step_embeddings();
    ++flights_;
    last->collect = !runs_ahead_;
    collecting_ += last->collect ? 1 : 0;
  }
  if (flights_ > 0 && collecting_ == 0) {
    ++collecting_;
    if (last == nullptr) return links_.collect();
    last->collect = true;
  }
  if (last != nullptr) links_.step(std::move(last));
}

void SchedulerDesk::flush() {
  const engine::SchedulerStats stats = scheduler_.stats();
  board_->running.store(stats.running, std::memory_order_relaxed);
  board_->sessions.store(stats.sessions, std::memory_order_relaxed);
  board_->preemptions.store(stats.preemptions, std::memory_order_relaxed);
  board_->prompt_tokens.store(stats.prompt_tokens, std::memory_order_relaxed);
  board_->cached_tokens.store(stats.cached_tokens, std::memory_order_relaxed);
  board_->completion_tokens.store(stats.completion_tokens, std::memory_order_relaxed);
  board_->kv_blocks_total.store(stats.kv_blocks_total, std::memory_order_relaxed);
  board_->kv_blocks_used.store(stats.kv_blocks_used, std::memory_order_relaxed);
  list_sessions();
  if (news_->opened.empty() && news_->outputs.empty()) return;
  news_->number = delivered_++;
  links_.deliver(std::exchange(news_, deliveries_.take()));
}

StepJobPtr SchedulerDesk::fresh_job() {
  StepJobPtr job;
  if (spare_.empty()) {
    job = std::make_shared<StepJob>();
  } else {
    job = std::move(spare_.back());
    spare_.pop_back();
  }
  job->generation = generation_;
  return job;
}

}  // namespace troupe::actors
