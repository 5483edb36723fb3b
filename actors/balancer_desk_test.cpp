// What the balancer tells the scheduler, and when.
#include "actors/balancer_desk.hpp"

#include <gtest/gtest.h>

#include "actors/test_sinks.hpp"

namespace troupe::actors {
namespace {

// A desk whose pictures, calls and news are here to be looked at.
class BalancerDeskTest : public ::testing::Test {
 protected:
  static constexpr int32_t kPatches = 16;

  BalancerLinks links() {
    BalancerLinks l;
    l.prepare = [this](const PictureJobPtr& job) { to_prepare.push_back(job->id); };
    l.call = [this](int32_t, std::shared_ptr<VisionCall> call) { calls.push_back(std::move(call)); };
    l.developed = [this](std::shared_ptr<Developed> news) { told.push_back(std::move(*news)); };
    l.stop = [](const TicketPtr&) {};
    l.answer = [](const TicketPtr&, const std::vector<engine::EmbeddingPtr>&) {};
    l.lease = [](RequestId id) { return std::make_shared<Lease>(id, [](RequestId) {}); };
    return l;
  }
  static engine::VisionConfig config() {
    engine::VisionConfig c;
    c.batch_patches = 4 * kPatches;
    c.calls_max = 1;
    return c;
  }
  // A request whose pictures have these contents.
  OrderPtr order(RequestId id, const std::vector<uint64_t>& contents) {
    auto made = std::make_shared<Order>();
    EXPECT_TRUE(admission->enter(0).ok());
    made->ticket = std::make_shared<Ticket>(Ticket::Stub{.id = id}, listener, admission);
    made->sight = std::make_shared<Sight>();
    for (const uint64_t content : contents) {
      Picture& picture = made->sight->pictures.emplace_back();
      picture.work.content = {content, content};
      picture.work.tiles = {{1.0, kPatches}};
      picture.work.joins = false;
      picture.work.embedding_bytes = picture.work.work_bytes = 8;
      engine::PromptImage& image = made->job.prompt.images.emplace_back();
      image.embedding = made->sight->pictures.size() - 1;
      image.ready = false;
    }
    return made;
  }
  void prepare_all() {
    for (const engine::PictureId id : std::exchange(to_prepare, {})) {
      Prepared piece{id, 0, {}, {}, 0};
      desk.prepared(piece);
    }
  }
  void answer(size_t index) {
    VisionCall& call = *calls.at(index);
    for (size_t i = 0; i < call.refs.size(); ++i) call.rows.push_back(std::make_shared<engine::Embedding>());
    desk.called(call);
  }

  const std::shared_ptr<Listener> listener = std::make_shared<Listener>();
  const std::shared_ptr<Board> board = std::make_shared<Board>();
  const std::shared_ptr<Admission> admission =
      std::make_shared<Admission>(Admission::Bounds{16, 16, 0}, board);
  std::vector<engine::PictureId> to_prepare;
  std::vector<std::shared_ptr<VisionCall>> calls;
  std::vector<Developed> told;
  BalancerDesk desk{config(), 1024, std::make_shared<SteadyClock>(), board, links()};
};

// One after the other they would not share the scheduler's next step.
TEST_F(BalancerDeskTest, WhatOneCallGaveIsToldTogether) {
  for (RequestId id = 1; id <= 4; ++id) desk.see(order(id, {id}));
  prepare_all();
  ASSERT_EQ(calls.size(), 1U);
  answer(0);
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[1]->refs.size(), 3U);
  answer(1);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].orders.size(), 1U);
  EXPECT_EQ(told[1].orders.size(), 3U);
}

// A request goes on with its first picture; the rows of the others follow it.
TEST_F(BalancerDeskTest, RowsFollowTheRequestThatWentOn) {
  const OrderPtr both = order(7, {1, 2});
  const OrderPtr second = order(8, {2});
  desk.see(both);
  prepare_all();
  answer(0);
  ASSERT_EQ(told.size(), 1U);
  ASSERT_EQ(told[0].orders.size(), 1U);
  EXPECT_TRUE(told[0].orders[0]->job.prompt.images[0].ready);
  EXPECT_TRUE(told[0].rows.empty());
  desk.see(second);
  answer(1);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[1].orders, std::vector<OrderPtr>{second});
  ASSERT_EQ(told[1].rows.size(), 1U);
  EXPECT_EQ(told[1].rows[0].request, 7U);
}

}  // namespace
}  // namespace troupe::actors
