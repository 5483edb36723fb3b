// Who is called when, and what becomes of those who are late. The queues over it are
// tests/capi/turns.c.
#include "capi/round.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

namespace troupe::capi {
namespace {

using std::chrono::milliseconds;

struct Three : testing::Test {
  Round round;
  std::array<std::shared_ptr<Place>, 3> places{std::make_shared<Place>(), std::make_shared<Place>(),
                                               std::make_shared<Place>()};
  std::unique_lock<std::mutex> lock{round.mutex};

  Place& place(size_t i) { return *places.at(i); }
  // The first is called, the others stand in line behind it.
  void all_arrive() {
    EXPECT_TRUE(round.arrived(place(0)));
    EXPECT_FALSE(round.arrived(place(1)));
    EXPECT_FALSE(round.arrived(place(2)));
  }
  // What becomes true while the watch has the mutex; false: it did not within seconds.
  template <class Predicate>
  bool comes_true(Predicate holds) {
    const auto until = Round::Clock::now() + std::chrono::seconds(20);
    while (!holds()) {
      if (Round::Clock::now() > until) return false;
      lock.unlock();
      std::this_thread::sleep_for(milliseconds(1));
      lock.lock();
    }
    return true;
  }
};

TEST_F(Three, AreCalledOneAfterTheOther) {
  all_arrive();
  EXPECT_EQ(round.next(), nullptr);
  round.awake(place(0));
  EXPECT_FALSE(round.free());
  EXPECT_EQ(round.next(), nullptr);
  round.end();
  EXPECT_EQ(round.next(), places[1]);
  EXPECT_EQ(round.next(), nullptr);
  round.awake(place(1));
  round.end();
  EXPECT_EQ(round.next(), places[2]);
  round.awake(place(2));
  round.end();
  EXPECT_EQ(round.next(), nullptr);
  EXPECT_TRUE(round.free());
}

TEST_F(Three, StandInLineOnce) {
  all_arrive();
  EXPECT_FALSE(round.arrived(place(1)));
  EXPECT_FALSE(round.arrived(place(0)));  // called, and not awake yet: it will find both
  EXPECT_EQ(place(0).calls, 1U);
  round.gone(place(0));
  EXPECT_EQ(round.next(), places[1]);
  round.gone(place(1));
  EXPECT_EQ(round.next(), places[2]);
  EXPECT_EQ(round.next(), nullptr);
}

TEST_F(Three, LeaveTheLineAtAnyPoint) {
  all_arrive();
  round.leave_line(place(1));
  round.leave_line(place(1));
  round.gone(place(0));
  EXPECT_EQ(round.next(), places[2]);
  round.awake(place(2));
  EXPECT_FALSE(round.arrived(place(1)));
  round.end();
  EXPECT_EQ(round.next(), places[1]);
}

TEST_F(Three, WhoTakesEventsWithoutACallHasATurnToo) {
  EXPECT_TRUE(round.free());
  round.begin(place(0));
  EXPECT_FALSE(round.free());
  EXPECT_FALSE(round.arrived(place(1)));
  round.end();
  EXPECT_EQ(round.next(), places[1]);
}

TEST_F(Three, ATurnIsTheThreadsThatTookIt) {
  round.begin(place(0));
  EXPECT_FALSE(round.arrived(place(1)));
  lock.unlock();
  std::thread([&] {
    const std::scoped_lock other(round.mutex);
    round.end();  // of a thread that has none
    EXPECT_TRUE(round.next() == nullptr || round.at_once() > 1);
  }).join();
  lock.lock();
}

TEST_F(Three, AreLeftToTheThreadThatWakes) {
  all_arrive();
  round.awake(place(0));
  round.end();
  EXPECT_TRUE(round.call_due());
  EXPECT_EQ(round.next_due(), places[1]);  // and while this thread wakes it:
  round.awake(place(1));
  round.end();
  EXPECT_FALSE(round.call_due());
  EXPECT_EQ(round.next_due(), places[2]);
  EXPECT_EQ(round.next_due(), nullptr);
  round.awake(place(2));
  EXPECT_FALSE(round.arrived(place(1)));
  round.end();
  EXPECT_TRUE(round.call_due());  // nobody wakes any more
}

TEST_F(Three, AreLeftToNobodyWhoWillNotAskAgain) {
  all_arrive();
  round.awake(place(0));
  round.end();
  EXPECT_TRUE(round.call_due());
  EXPECT_EQ(round.next_due(true), places[1]);
  round.awake(place(1));
  round.end();
  EXPECT_TRUE(round.call_due());
  EXPECT_EQ(round.next_due(), places[2]);
}

TEST_F(Three, AreWokenByTheWatchWhereTheThreadThatWakesIsLate) {
  std::atomic<bool> awake = false;
  std::thread sleeper([&] {
    std::unique_lock own(round.mutex);
    place(1).bell.sleep(own, Bell::for_ever());
    awake = true;
  });
  lock.unlock();
  std::this_thread::sleep_for(milliseconds(50));  // it sleeps by now
  EXPECT_FALSE(awake);
  lock.lock();
  all_arrive();
  round.awake(place(0));
  round.end();
  EXPECT_TRUE(round.call_due());  // and does not ask whom
  EXPECT_TRUE(comes_true([&] { return awake.load(); }));
  lock.unlock();
  sleeper.join();
  lock.lock();
}

TEST_F(Three, AreCalledAllWhereTheFirstDoesNotComeBack) {
  all_arrive();
  round.awake(place(0));
  EXPECT_TRUE(comes_true([&] { return place(1).calls == 1 && place(2).calls == 1; }));
  EXPECT_GT(round.at_once(), 1U);
}

TEST_F(Three, AreCalledAllWhereTheFirstDoesNotEvenAwake) {
  all_arrive();
  EXPECT_TRUE(comes_true([&] { return place(1).calls == 1 && place(2).calls == 1; }));
}

TEST_F(Three, RunOneByOneAgainAfterCalmTimes) {
  all_arrive();
  ASSERT_TRUE(comes_true([&] { return round.at_once() > 1; }));
  for (const auto& each : places) round.gone(*each);
  for (size_t i = 0; i < Round::kCalm * Round::kMostAtOnce; ++i) {
    place(0).calls = 0;
    ASSERT_TRUE(round.arrived(place(0)));
    round.awake(place(0));
    round.end();
  }
  EXPECT_EQ(round.at_once(), 1U);
}

}  // namespace
}  // namespace troupe::capi
