// The cast with real threads, over `echo:`.
#include "actors/local_port.hpp"

#include <dirent.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "actors/test_sinks.hpp"
#include "base/thread_plan.hpp"

namespace troupe::actors {
namespace {

std::unique_ptr<EnginePort> open_echo(const std::string& endpoint = "echo:",
                                      EngineOptions options = {}) {
  auto port = open_local_port(endpoint, options, {});
  EXPECT_TRUE(port.ok()) << port.status().message();
  return port.ok() ? std::move(port).value() : nullptr;
}

std::set<std::string> thread_names() {
  std::set<std::string> names;
  DIR* const tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks)) {
    std::ifstream in(std::string("/proc/self/task/") + entry->d_name + "/comm");
    std::string name;
    if (std::getline(in, name)) names.insert(name);
  }
  closedir(tasks);
  return names;
}

TEST(LocalPort, AnswersAPromptWithItself) {
  auto port = open_echo();
  auto sink = std::make_shared<Listener>();
  const auto id = port->submit(text_request("Hello, troupe!", 64), sink);
  ASSERT_TRUE(id.ok()) << id.status().message();
  ASSERT_TRUE(sink->wait_for(1));
  const Heard heard = sink->of(*id);
  EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
  EXPECT_EQ(heard.text.at(0), "Hello, troupe!");
  EXPECT_EQ(heard.finish, FinishReason::stop);
  EXPECT_GT(heard.usage.prompt_tokens, 0);
  EXPECT_EQ(heard.broken, 0);
}

TEST(LocalPort, TwoEnginesLiveInOneProcess) {
  auto one = open_echo();
  auto two = open_echo();
  auto sink = std::make_shared<Listener>();
  ASSERT_TRUE(one->submit(text_request("one", 16), sink).ok());
  ASSERT_TRUE(sink->wait_for(1));
  EXPECT_TRUE(one->close(0).ok());
  auto second = std::make_shared<Listener>();
  const auto id = two->submit(text_request("two", 16), second);
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(second->wait_for(1));
  EXPECT_EQ(second->of(*id).text.at(0), "two");
}

TEST(LocalPort, StopStringsEndAnAnswerBeforeThem) {
  auto port = open_echo();
  auto sink = std::make_shared<Listener>();
  Request request = text_request("one two STOP three", 64);
  request.sampling.stop = {"STOP"};
  const auto id = port->submit(std::move(request), sink);
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(sink->wait_for(1));
  EXPECT_EQ(sink->of(*id).text.at(0), "one two ");
  EXPECT_EQ(sink->of(*id).finish, FinishReason::stop);
}

TEST(LocalPort, AThousandCancelsAtRandomMomentsLeaveNothingBehind) {
  EngineOptions options;
  options.max_sequences = 64;
  auto port = open_echo("echo:?step_ms=0.2", options);
  auto sink = std::make_shared<Listener>();
  std::mt19937 random(7);
  std::vector<RequestId> ids;
  for (int i = 0; i < 1000; ++i) {
    const auto id = port->submit(
        text_request("request number " + std::to_string(i) + " of a thousand", 200), sink);
    ASSERT_TRUE(id.ok()) << id.status().message();
    ids.push_back(*id);
    if (i % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
    port->cancel(ids[random() % ids.size()]);
  }
  for (const RequestId id : ids) port->cancel(id);
  ASSERT_TRUE(sink->wait_for(1000));
  for (const auto& [id, heard] : sink->all()) {
    EXPECT_EQ(heard.terminals, 1) << id;
    EXPECT_EQ(heard.broken, 0) << id;
  }
  // Blocks that stay are the prefix cache's; nobody runs or waits any more.
  const auto stats = port->stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->running + stats->waiting, 0U);
  EXPECT_EQ(stats->done + stats->cancelled, 1000U);
  EXPECT_EQ(stats->failed, 0U);
}

TEST(LocalPort, RefusesBeyondItsBoundsAtOnceAndAcceptsAgainLater) {
  EngineOptions options;
  options.max_sequences = 2;
  options.max_waiting = 8;
  auto port = open_echo("echo:?step_ms=0.5", options);
  auto sink = std::make_shared<Listener>();
  size_t accepted = 0;
  size_t refused = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto id = port->submit(text_request("flood flood flood", 100), sink);
    if (id.ok()) {
      ++accepted;
      continue;
    }
    ++refused;
    EXPECT_EQ(id.status().code(), Code::overloaded) << id.status().message();
  }
  EXPECT_GT(refused, 0U);
  ASSERT_TRUE(sink->wait_for(accepted));
  EXPECT_TRUE(port->submit(text_request("later", 8), sink).ok());
  ASSERT_TRUE(sink->wait_for(accepted + 1));
  EXPECT_EQ(port->stats()->refused, refused);
}

TEST(LocalPort, ADeadlineEndsARequest) {
  auto port = open_echo("echo:?step_ms=20");
  auto sink = std::make_shared<Listener>();
  Request request = text_request(std::string(400, 'x'), 400);
  request.deadline_ns = 150'000'000;
  const auto id = port->submit(std::move(request), sink);
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(sink->wait_for(1));
  EXPECT_EQ(sink->of(*id).end, EventKind::failed);
  EXPECT_EQ(sink->of(*id).status.code(), Code::deadline);
}

TEST(LocalPort, CloseGivesEverybodyATerminalAndRefusesAfterwards) {
  auto port = open_echo("echo:?step_ms=1");
  auto sink = std::make_shared<Listener>();
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(port->submit(text_request(std::string(200, 'y'), 200), sink).ok());
  }
  EXPECT_TRUE(port->close(20'000'000).ok());
  EXPECT_EQ(sink->ended(), 300U) << "every terminal event is out when close returns";
  for (const auto& [id, heard] : sink->all()) EXPECT_EQ(heard.terminals, 1);
  EXPECT_TRUE(port->close(0).ok());
  EXPECT_EQ(port->submit(text_request("late", 1), sink).status().code(), Code::closed);
  EXPECT_EQ(port->stats().status().code(), Code::closed);
  EXPECT_EQ(port->session_new({}).status().code(), Code::closed);
  port->cancel(1);
}

TEST(LocalPort, CloseDrainsWhatRuns) {
  auto port = open_echo();
  auto sink = std::make_shared<Listener>();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(port->submit(text_request("drain me", 32), sink).ok());
  EXPECT_TRUE(port->close(30'000'000'000).ok());
  for (const auto& [id, heard] : sink->all()) EXPECT_EQ(heard.end, EventKind::done);
  EXPECT_EQ(sink->ended(), 50U);
}

TEST(LocalPort, ADeadDeviceIsReplacedAndStreamsGoOn) {
  auto port = open_echo("echo:?step_ms=0.2&fail_step=12");
  auto sink = std::make_shared<Listener>();
  std::vector<RequestId> ids;
  const std::string text = "a stream that neither repeats nor loses a token";
  for (int i = 0; i < 20; ++i) {
    const auto id = port->submit(text_request(text + std::to_string(i), 100), sink);
    ASSERT_TRUE(id.ok());
    ids.push_back(*id);
  }
  ASSERT_TRUE(sink->wait_for(20));
  for (size_t i = 0; i < ids.size(); ++i) {
    const Heard heard = sink->of(ids[i]);
    EXPECT_EQ(heard.end, EventKind::done) << heard.status.message();
    EXPECT_EQ(heard.text.at(0), text + std::to_string(i));
    EXPECT_EQ(heard.broken, 0);
  }
}

TEST(LocalPort, ADeviceThatKeepsDyingEndsTheEngineCleanly) {
  auto port = open_echo("echo:?fail_step=0&fail_times=1000");
  auto sink = std::make_shared<Listener>();
  size_t accepted = 0;
  for (int i = 0; i < 40; ++i) {
    if (port->submit(text_request("poison", 10), sink).ok()) ++accepted;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ASSERT_TRUE(sink->wait_for(accepted));
  for (const auto& [id, heard] : sink->all()) {
    EXPECT_EQ(heard.terminals, 1);
    EXPECT_EQ(heard.status.code(), Code::device_failed) << heard.status.message();
  }
  EXPECT_TRUE(port->close(0).ok());
}

TEST(LocalPort, BadRequestsAreRefusedByNameAndCountNothing) {
  auto port = open_echo();
  auto sink = std::make_shared<Listener>();
  const auto refusal = [&](Request request) {
    return port->submit(std::move(request), sink).status();
  };
  Request request = text_request("x", 1);
  request.sampling.n = 1000;
  EXPECT_EQ(refusal(request).code(), Code::limit);
  request = text_request("x", 1);
  request.sampling.stop = {""};
  EXPECT_NE(refusal(request).message().find("stop"), std::string::npos);
  request = text_request("x", 1);
  request.sampling.top_p = 7.0F;
  EXPECT_NE(refusal(request).message().find("top_p"), std::string::npos);
  request = text_request("x", 1);
  request.prompt[0].kind = PromptPart::Kind::tokens;
  request.prompt[0].tokens = {1, 99999};
  EXPECT_NE(refusal(request).message().find("99999"), std::string::npos);
  request = text_request("x", 1);
  request.task = Task::embed;
  EXPECT_EQ(refusal(request).code(), Code::unsupported);
  request = text_request("x", 1);
  request.constraint.kind = ConstraintKind::regex;
  EXPECT_EQ(refusal(request).code(), Code::unsupported);
  request = text_request("x", 1);
  request.adapter = "nobody";
  EXPECT_EQ(refusal(request).code(), Code::not_found);
  const auto stats = port->stats();
  EXPECT_EQ(stats->running + stats->waiting, 0U);
  EXPECT_EQ(stats->refused, 7U);
}

TEST(LocalPort, BadOptionsAndEndpointsAreRefusedByName) {
  EngineOptions options;
  options.max_sequences = 0;
  EXPECT_NE(open_local_port("echo:", options, {}).status().message().find("max_sequences"),
            std::string::npos);
  options = {};
  options.extra = {{"warp", "9"}};
  EXPECT_NE(open_local_port("echo:", options, {}).status().message().find("warp"),
            std::string::npos);
  EXPECT_FALSE(open_local_port("echo:?warp=9", {}, {}).ok());
  EXPECT_EQ(open_local_port("/nowhere/at/all", {}, {}).status().code(), Code::not_found);
  options = {};
  options.device = "abacus";
  EXPECT_NE(open_local_port("/nowhere", options, {}).status().message().find("abacus"),
            std::string::npos);
}

TEST(LocalPort, SessionsAreAskedAboutAcrossThreads) {
  auto port = open_echo();
  const auto session = port->session_new({});
  ASSERT_TRUE(session.ok()) << session.status().message();
  const auto state = port->session_info(*session);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->tokens, 0);
  EXPECT_EQ(port->session_info(*session + 99).status().code(), Code::not_found);
  port->session_free(*session);
  EXPECT_EQ(port->session_info(*session).status().code(), Code::not_found);
}

TEST(LocalPort, EveryThreadStandsInThePlan) {
  const std::set<std::string> before = thread_names();
  auto port = open_echo();
  ThreadNeeds needs;
  needs.cpu_devices = false;
  const ThreadPlan plan = make_thread_plan(read_cpu_budget(), needs);
  std::set<std::string> planned;
  for (const PlannedThread& t : plan.threads) planned.insert(t.name);
  for (const std::string& name : thread_names()) {
    EXPECT_TRUE(before.count(name) == 1 || planned.count(name) == 1) << name;
  }
  EXPECT_EQ(thread_names().count("tr-exec-0"), 1U);
}

TEST(LocalPort, NothingIsWrittenToTheStandardStreams) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  {
    auto port = open_echo("echo:?fail_step=3");
    auto sink = std::make_shared<Listener>();
    ASSERT_TRUE(port->submit(text_request("quiet, please", 32), sink).ok());
    ASSERT_TRUE(sink->wait_for(1));
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(LocalPort, MetricsAreThere) {
  auto port = open_echo();
  const auto text = port->metrics();
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("troupe_requests_submitted_total{model=\"echo\"} 0"), std::string::npos);
  EXPECT_NE(text->find("actor=\"scheduler\""), std::string::npos);
}

}  // namespace
}  // namespace troupe::actors
