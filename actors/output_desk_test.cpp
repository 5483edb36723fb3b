#include "actors/output_desk.hpp"

#include <gtest/gtest.h>

#include "actors/echo_house.hpp"
#include "actors/test_sinks.hpp"

namespace troupe::actors {
namespace {

DeliveryPtr delivery_of(uint64_t number, std::string_view tokens, int32_t first) {
  auto delivery = std::make_shared<Delivery>();
  delivery->number = number;
  for (const char c : tokens) {
    engine::TokenOutput token;
    token.request = 1;
    token.index = first++;
    token.token = c;
    delivery->outputs.tokens.push_back(token);
  }
  return delivery;
}

// Some go by message and some directly: what overtakes waits, and nobody hears of it.
TEST(OutputDesk, TakesDeliveriesInTheirOrderWhicheverWayTheyCome) {
  const auto listener = std::make_shared<Listener>();
  const auto admission =
      std::make_shared<Admission>(Admission::Bounds{4, 4, 0}, std::make_shared<Board>());
  ASSERT_TRUE(admission->enter(0).ok());
  const auto ticket = std::make_shared<Ticket>(Ticket::Stub{.id = 1}, listener, admission);
  OutputDesk desk(make_echo_house());
  std::vector<engine::Cut> cuts;

  DeliveryPtr opening = delivery_of(0, "a", 0);
  engine::OutputSpec spec;
  spec.id = 1;
  opening->opened.push_back({ticket, std::move(spec)});
  opening->outputs.started.push_back(1);
  DeliveryPtr end = delivery_of(4, "e", 4);
  end->outputs.choices.push_back({.request = 1, .choice = 0, .reason = FinishReason::length});
  engine::RequestEnd& ended = end->outputs.requests.emplace_back();
  ended.request = 1;
  ended.kind = EventKind::done;

  desk.take(delivery_of(3, "d", 3), cuts);
  desk.take(delivery_of(1, "b", 1), cuts);
  EXPECT_EQ(listener->of(1).text[0], "");
  desk.take(std::move(opening), cuts);
  EXPECT_EQ(listener->of(1).text[0], "ab");
  desk.take(std::move(end), cuts);
  EXPECT_EQ(listener->of(1).text[0], "ab");
  desk.take(delivery_of(2, "c", 2), cuts);
  const Heard heard = listener->of(1);
  EXPECT_EQ(heard.text.at(0), "abcde");
  EXPECT_EQ(heard.terminals, 1);
  EXPECT_EQ(heard.broken, 0);
  EXPECT_EQ(desk.live(), 0U);
}

}  // namespace
}  // namespace troupe::actors
