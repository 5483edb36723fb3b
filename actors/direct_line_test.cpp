#include "actors/direct_line.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace troupe::actors {
namespace {

// Plain numbers: only one thread at a time may touch them.
struct Core {
  int64_t words = 0;
  bool busy = false;
  void hear() {
    EXPECT_FALSE(busy);
    busy = true;
    ++words;
    busy = false;
  }
};
using Line = DirectLine<Core>;

struct Room {
  Core core;
  HandlerClockPtr clock = std::make_shared<HandlerClock>("core");
  std::vector<std::string> failures;
  std::shared_ptr<Line> line = std::make_shared<Line>();
  Room() {
    line->open(core, clock, [this](const std::exception_ptr& e) { failures.push_back(status_of(e).message()); });
  }
};

TEST(DirectLine, SpeaksForWhoeverIsSilentAndCountsItAsItsHandler) {
  Room room;
  EXPECT_TRUE(room.line->try_speak([](Core& core) { core.hear(); }));
  const auto handler = in_turn(room.line, [&](int words) { room.core.words += words; });
  handler(4);
  EXPECT_EQ(room.core.words, 5);
  EXPECT_EQ(room.clock->calls.load(), 2U);
}

TEST(DirectLine, IsRefusedWhileTheActorSpeaks) {
  Room room;
  bool told = true;
  room.line->speak([&] {
    std::thread([&] { told = room.line->try_speak([](Core& core) { core.hear(); }); }).join();
  });
  EXPECT_FALSE(told);
  EXPECT_EQ(room.core.words, 0);
}

TEST(DirectLine, LeadsNowhereBeforeAndAfterTheActor) {
  Line early;
  EXPECT_FALSE(early.try_speak([](Core&) { FAIL(); }));
  Room room;
  room.line->close();
  EXPECT_FALSE(room.line->try_speak([](Core&) { FAIL(); }));
  room.line->speak([] { FAIL(); });
}

TEST(DirectLine, AFailedCoreIsReportedOnceAndHeardNoMore) {
  Room room;
  EXPECT_TRUE(room.line->try_speak([](Core&) { throw std::runtime_error("it broke"); }));
  ASSERT_EQ(room.failures.size(), 1U);
  EXPECT_NE(room.failures[0].find("it broke"), std::string::npos) << room.failures[0];
  EXPECT_FALSE(room.line->try_speak([](Core&) { FAIL(); }));
  room.line->speak([] { FAIL(); });
}

// Under ThreadSanitizer too: nothing of the core is guarded but by the line.
TEST(DirectLine, OneThreadAtATime) {
  constexpr int kWords = 20'000;
  Room room;
  std::atomic<int64_t> direct{0}, refused{0};
  std::thread other([&] {
    for (int i = 0; i < kWords; ++i) {
      (room.line->try_speak([](Core& core) { core.hear(); }) ? direct : refused).fetch_add(1);
    }
  });
  for (int i = 0; i < kWords; ++i) room.line->speak([&] { room.core.hear(); });
  other.join();
  EXPECT_EQ(direct + refused, kWords);
  EXPECT_EQ(room.core.words, kWords + direct);
}

}  // namespace
}  // namespace troupe::actors
