#include "actors/ticket.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "actors/frontdesk_core.hpp"
#include "actors/task_pool.hpp"
#include "base/clock.hpp"

namespace troupe::actors {
namespace {

class CountingSink final : public EventSink {
 public:
  void push(Event&& event) override {
    if (is_terminal(event.kind)) {
      terminals.fetch_add(1);
      last_code.store(static_cast<int32_t>(event.status.code()));
    } else {
      after_terminal.fetch_add(terminals.load());
      others.fetch_add(1);
    }
  }
  std::atomic<int> terminals{0}, others{0}, after_terminal{0};
  std::atomic<int32_t> last_code{-1};
};

struct House {
  std::shared_ptr<Board> board = std::make_shared<Board>();
  std::shared_ptr<Admission> admission;
  std::shared_ptr<CountingSink> sink = std::make_shared<CountingSink>();
  RequestId next = 1;
  explicit House(Admission::Bounds bounds = {4, 6, 1000})
      : admission(std::make_shared<Admission>(bounds, board)) {}
  TicketPtr ticket(uint64_t image_bytes = 0, int64_t deadline_ns = 0) {
    return std::make_shared<Ticket>(Ticket::Stub{next++, 7, image_bytes, 0, deadline_ns}, sink,
                                    admission);
  }
};

Event event_of(EventKind kind) {
  Event event;
  event.kind = kind;
  return event;
}

TEST(Admission, RefusesBeyondEachBoundAndNamesIt) {
  House house;
  std::vector<TicketPtr> in;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(house.admission->enter(0).ok());
    in.push_back(house.ticket());
  }
  const Status full = house.admission->enter(0);
  EXPECT_EQ(full.code(), Code::overloaded);
  EXPECT_TRUE(full.retryable());
  EXPECT_NE(full.message().find("limit 4"), std::string::npos) << full.message();
  in[0]->start();
  in[1]->start();
  in[1]->start();  // counted once
  ASSERT_TRUE(house.admission->enter(0).ok());
  in.push_back(house.ticket());
  ASSERT_TRUE(house.admission->enter(0).ok());
  in.push_back(house.ticket());
  in[2]->start();
  EXPECT_NE(house.admission->enter(0).message().find("in flight"), std::string::npos);
  in.clear();
  EXPECT_EQ(house.admission->in_flight(), 0U);
  EXPECT_EQ(house.admission->waiting(), 0U);
  EXPECT_EQ(house.sink->terminals, 6);
  EXPECT_EQ(house.board->refused, 2U);
}

TEST(Admission, CountsImageBytes) {
  House house;
  ASSERT_TRUE(house.admission->enter(900).ok());
  TicketPtr first = house.ticket(900);
  EXPECT_EQ(house.admission->enter(200).code(), Code::overloaded);
  first.reset();
  EXPECT_TRUE(house.admission->enter(200).ok());
  house.ticket(200);
}

TEST(Admission, ShutSaysWhyAndTheFirstReasonStays) {
  House house;
  house.admission->shut({Code::device_failed, "the device is gone"});
  house.admission->shut({Code::closed, "closed"});
  EXPECT_EQ(house.admission->enter(0).code(), Code::device_failed);
}

TEST(Ticket, GivesOneTerminalAndNothingAfterIt) {
  House house;
  ASSERT_TRUE(house.admission->enter(0).ok());
  TicketPtr ticket = house.ticket();
  EXPECT_TRUE(ticket->deliver(event_of(EventKind::tokens)));
  EXPECT_TRUE(ticket->deliver(event_of(EventKind::done)));
  EXPECT_FALSE(ticket->deliver(event_of(EventKind::tokens)));
  EXPECT_FALSE(ticket->end({Code::cancelled, "late"}));
  ticket.reset();
  EXPECT_EQ(house.sink->terminals, 1);
  EXPECT_EQ(house.sink->others, 1);
  EXPECT_EQ(house.board->done, 1U);
}

TEST(Admission, TheLeastPatientOfThoseWhoCloseCounts) {
  const auto now = std::chrono::steady_clock::now();
  House house;
  ASSERT_TRUE(house.admission->enter(0).ok());
  house.admission->hurry(now + std::chrono::hours(1));
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    house.admission->hurry(std::chrono::steady_clock::now());
    house.admission->hurry(now + std::chrono::hours(2));  // too late to be patient
  });
  EXPECT_FALSE(house.admission->drain());
  other.join();
  EXPECT_LT(std::chrono::steady_clock::now() - now, std::chrono::minutes(1));
  EXPECT_FALSE(house.admission->drain());
  house.admission->withdraws(0);
  EXPECT_TRUE(house.admission->drain());
}

// Who hears of its end may come again at once, and is counted nowhere any more.
class ReturningSink final : public EventSink {
 public:
  explicit ReturningSink(std::shared_ptr<Admission> admission) : admission_(std::move(admission)) {}
  void push(Event&& event) override {
    if (!is_terminal(event.kind)) return;
    in_flight = admission_->in_flight();
    waiting = admission_->waiting();
    again = admission_->enter(1000);
    idle = admission_->wait_idle(std::chrono::steady_clock::now());
  }
  uint32_t in_flight = 9, waiting = 9;
  Status again = {Code::internal, "never asked"};
  bool idle = true;

 private:
  const std::shared_ptr<Admission> admission_;
};

TEST(Ticket, ItsPlaceIsFreeWhenItsEndIsHeard) {
  for (const bool started : {false, true}) {
    House house({1, 1, 1000});
    auto sink = std::make_shared<ReturningSink>(house.admission);
    ASSERT_TRUE(house.admission->enter(1000).ok());
    Ticket ticket(Ticket::Stub{1, 7, 1000, 0, 0}, sink, house.admission);
    if (started) ticket.start();
    EXPECT_TRUE(ticket.deliver(event_of(EventKind::done)));
    EXPECT_EQ(sink->in_flight, 0U);
    EXPECT_EQ(sink->waiting, 0U);
    EXPECT_TRUE(sink->again.ok()) << sink->again.message();
    EXPECT_FALSE(sink->idle) << "an end was still on its way";
    house.admission->leaves(false, 1000);
    EXPECT_FALSE(house.admission->wait_idle(std::chrono::steady_clock::now()));
    house.admission->told();
    EXPECT_TRUE(house.admission->wait_idle(std::chrono::steady_clock::now()));
  }
}

TEST(Ticket, DroppedWithoutATerminalFails) {
  House house;
  ASSERT_TRUE(house.admission->enter(0).ok());
  house.ticket().reset();
  EXPECT_EQ(house.sink->last_code, static_cast<int32_t>(Code::internal));
  ASSERT_TRUE(house.admission->enter(0).ok());
  TicketPtr asked = house.ticket();
  EXPECT_TRUE(asked->ask_to_stop({Code::cancelled, "cancelled"}));
  EXPECT_FALSE(asked->ask_to_stop({Code::deadline, "late"}));
  asked.reset();
  EXPECT_EQ(house.sink->last_code, static_cast<int32_t>(Code::cancelled));
  EXPECT_EQ(house.sink->terminals, 2);
}

TEST(Ticket, ThreadsThatRaceToEndItLeaveOneTerminalLast) {
  House house({1000, 1000, 0});
  for (int round = 0; round < 200; ++round) {
    ASSERT_TRUE(house.admission->enter(0).ok());
    TicketPtr ticket = house.ticket();
    std::thread pusher([&] {
      for (int i = 0; i < 20; ++i) ticket->deliver(event_of(EventKind::tokens));
      ticket->deliver(event_of(EventKind::done));
    });
    std::thread ender([&] { ticket->end({Code::cancelled, "cancelled"}); });
    pusher.join();
    ender.join();
    EXPECT_EQ(house.sink->terminals, round + 1);
    house.sink->after_terminal = 0;
  }
  EXPECT_EQ(house.admission->in_flight(), 0U);
}

TEST(FrontdeskCore, FindsLateOnesAndForgetsEndedOnes) {
  House house;
  FrontdeskCore desk;
  ASSERT_TRUE(house.admission->enter(0).ok());
  ASSERT_TRUE(house.admission->enter(0).ok());
  TicketPtr patient = house.ticket();
  TicketPtr hurried = house.ticket(0, 100);
  desk.add(patient);
  desk.add(hurried);
  EXPECT_TRUE(desk.tick(99).empty());
  ASSERT_EQ(desk.tick(100).size(), 1U);
  EXPECT_EQ(hurried->stop_reason().code(), Code::deadline);
  EXPECT_TRUE(desk.tick(101).empty()) << "asked twice";
  hurried->end(hurried->stop_reason());
  EXPECT_EQ(desk.find(hurried->id()), nullptr);
  (void)desk.tick(102);
  EXPECT_EQ(desk.size(), 1U);
  EXPECT_EQ(desk.ask_all({Code::closed, "closing"}).size(), 1U);
  desk.end_all({Code::internal, "gone"});
  EXPECT_EQ(house.sink->last_code, static_cast<int32_t>(Code::closed)) << "the first reason stays";
  EXPECT_EQ(house.admission->in_flight(), 0U);
}

TEST(TaskPool, ALongTextDoesNotBlockShortOnes) {
  ThreadNeeds needs;
  needs.tokenizers = 2;
  const ThreadPlan plan = make_thread_plan(read_cpu_budget(), needs);
  std::atomic<bool> release{false};
  std::atomic<int> short_done{0}, long_done{0};
  {
    TaskPool pool(plan, 1000);
    for (int i = 0; i < 3; ++i) {
      pool.run(5000, [&] {
        while (!release) std::this_thread::yield();
        long_done.fetch_add(1);
      });
    }
    for (int i = 0; i < 50; ++i) pool.run(10, [&] { short_done.fetch_add(1); });
    const int64_t until = steady_now_ns() + 20'000'000'000;
    while (short_done < 50 && steady_now_ns() < until) std::this_thread::yield();
    EXPECT_EQ(short_done, 50);
    EXPECT_EQ(long_done, 0);
    release = true;
  }
  EXPECT_EQ(long_done, 3) << "the pool drops no task";
}

}  // namespace
}  // namespace troupe::actors
