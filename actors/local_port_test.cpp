// The cast with real threads, over `echo:`.
#include "actors/local_port.hpp"

#include <dirent.h>
#include <gtest/gtest.h>

#include <algorithm>
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
  EXPECT_EQ(stats->kv_blocks_used, 0U) << "of " << stats->kv_blocks_total;
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

TEST(LocalPort, ARequestInASessionThatIsNotThereIsRefusedAtTheDoor) {
  auto port = open_echo();
  auto sink = std::make_shared<Listener>();
  const auto in_session = [&](uint64_t session) {
    Request request = text_request("hello", 16);
    request.session = session;
    return port->submit(std::move(request), sink);
  };
  const auto unknown = in_session(77);
  EXPECT_EQ(unknown.status().code(), Code::not_found);
  EXPECT_NE(unknown.status().message().find("session 77"), std::string::npos);
  const uint64_t session = port->session_new({}).value();
  ASSERT_TRUE(in_session(session).ok()) << "usable at once";
  ASSERT_TRUE(sink->wait_for(1));
  const uint64_t fork = port->session_fork(session).value();
  port->session_free(session);
  EXPECT_EQ(in_session(session).status().code(), Code::not_found);
  ASSERT_TRUE(in_session(fork).ok());
  ASSERT_TRUE(sink->wait_for(2));
  SessionOptions brief;
  brief.lease_ns = 1'000'000;
  const uint64_t ends = port->session_new(brief).value();
  for (int i = 0; i < 500 && port->session_info(ends).ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(in_session(ends).status().code(), Code::not_found) << "its lease has run out";
  EXPECT_EQ(port->stats()->refused, 3U);
  EXPECT_EQ(sink->ended(), 2U);
}

// What was taken first comes first, however long it takes to get to the scheduler: a long prompt takes longer than
// whatever is said of its session next.
TEST(LocalPort, ASessionBelongsToTheRequestThatWasTakenFirst) {
  auto port = open_echo("echo:?context=131072&step_ms=20");
  const std::string text(100'000, 'a');
  const auto in_session = [&](uint64_t session, const std::string& prompt, std::shared_ptr<EventSink> sink) {
    Request request = text_request(prompt, 4);
    request.session = session;
    return port->submit(std::move(request), std::move(sink));
  };
  for (int round = 0; round < 20; ++round) {
    const uint64_t session = port->session_new({}).value();
    auto first = std::make_shared<Listener>();
    auto second = std::make_shared<Listener>();
    const auto long_one = in_session(session, text, first);
    ASSERT_TRUE(long_one.ok());
    const auto short_one = in_session(session, "b", second);
    const Status rewound = port->session_rewind(session, 0);
    port->session_free(session);
    EXPECT_EQ(in_session(session, "c", second).status().code(), Code::not_found) << "it was freed";
    ASSERT_TRUE(first->wait_for(1));
    EXPECT_EQ(first->of(*long_one).end, EventKind::done) << first->of(*long_one).status.message();
    const Status refused = short_one.ok() && second->wait_for(1) ? second->of(*short_one).status : short_one.status();
    EXPECT_EQ(refused.code(), Code::invalid) << refused.message();
    EXPECT_NE(refused.message().find("request " + std::to_string(*long_one)), std::string::npos) << refused.message();
    EXPECT_EQ(rewound.code(), Code::invalid) << rewound.message();
  }
  for (int i = 0; i < 500 && port->stats()->sessions > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(port->stats()->sessions, 0U);
}

// A request that is refused behind the door gives its session back before that is told, and what was freed behind
// it goes as well.
TEST(LocalPort, ASessionOutlivesARequestThatNeverArrives) {
  auto port = open_echo();
  const uint64_t session = port->session_new({}).value();
  const auto ask = [&](const std::string& prompt) {
    auto sink = std::make_shared<Listener>();
    Request request = text_request(prompt, 4);
    request.session = session;
    const auto id = port->submit(std::move(request), sink);
    if (!id.ok()) return id.status();
    EXPECT_TRUE(sink->wait_for(1));
    return sink->of(*id).status;
  };
  for (int round = 0; round < 50; ++round) {
    EXPECT_EQ(ask(std::string(100'000, 'a')).code(), Code::limit);
    EXPECT_TRUE(ask("b").ok()) << "round " << round;
  }
  auto sink = std::make_shared<Listener>();
  Request request = text_request(std::string(100'000, 'a'), 4);
  request.session = session;
  ASSERT_TRUE(port->submit(std::move(request), sink).ok());
  port->session_free(session);
  ASSERT_TRUE(sink->wait_for(1));
  for (int i = 0; i < 500 && port->stats()->sessions > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(port->stats()->sessions, 0U);
}

TEST(LocalPort, OptionsOfAnOpenEngine) {
  EngineOptions options;
  options.extra = {{"session_lease_ms", "60000"}};
  options.max_sequences = 4;
  auto port = open_echo("echo:?step_ms=5", options);
  const uint64_t first = port->session_new({}).value();
  EXPECT_LE(port->session_info(first)->lease_left_ns, 60'000'000'000);
  EXPECT_TRUE(port->set_option("session_lease_ms", "5000").ok());
  const uint64_t second = port->session_new({}).value();
  EXPECT_LE(port->session_info(second)->lease_left_ns, 5'000'000'000);
  EXPECT_NE(port->info()->config_json.find("\"session_lease_ns\":5000000000"), std::string::npos);

  auto sink = std::make_shared<Listener>();
  ASSERT_TRUE(port->set_option("max_waiting", "2").ok());
  size_t accepted = 0;
  Status refused;
  for (int i = 0; i < 40; ++i) {
    const auto id = port->submit(text_request("wait for it", 40), sink);
    accepted += id.ok() ? 1 : 0;
    if (!id.ok()) refused = id.status();
  }
  EXPECT_EQ(refused.code(), Code::overloaded);
  EXPECT_NE(refused.message().find("limit 2"), std::string::npos) << refused.message();
  ASSERT_TRUE(port->set_option("max_waiting", "64").ok());
  for (int i = 0; i < 30; ++i, ++accepted) {
    ASSERT_TRUE(port->submit(text_request("now there is room", 4), sink).ok());
  }
  ASSERT_TRUE(sink->wait_for(accepted));

  EXPECT_TRUE(port->set_option("prefix_reuse", "off").ok());
  EXPECT_TRUE(port->set_option("max_step_tokens", "64").ok());
  EXPECT_TRUE(port->set_option("log_level", "warn").ok());
  const auto refusal = [&](const char* key, const char* value) {
    const Status status = port->set_option(key, value);
    EXPECT_FALSE(status.ok()) << key;
    return std::string(code_name(status.code())) + ": " + status.message();
  };
  EXPECT_NE(refusal("max_waiting", "0").find("from 1 to 1000000"), std::string::npos);
  EXPECT_NE(refusal("max_waiting", "many").find("\"many\""), std::string::npos);
  EXPECT_NE(refusal("max_step_tokens", "3").find("4 (one row for each"), std::string::npos);
  EXPECT_NE(refusal("prefix_reuse", "perhaps").find("1 or 0"), std::string::npos);
  EXPECT_NE(refusal("log_level", "loud").find("trace, debug"), std::string::npos);
  EXPECT_NE(refusal("device", "cpu").find("fixed once an engine is open"), std::string::npos);
  EXPECT_NE(refusal("packed_weights", "off").find("fixed once an engine is open"),
            std::string::npos);
  EXPECT_NE(refusal("warp", "9").find("an open engine takes log_level, max_waiting"),
            std::string::npos);
  options.extra = {{"max_waiting", "-1"}};
  EXPECT_EQ(open_local_port("echo:", options, {}).status().code(), Code::invalid);
}

TEST(LocalPort, PackedWeightsAreASettingOfOpening) {
  EXPECT_NE(open_echo("echo:", {})->info()->config_json.find("\"packed_weights\":\"auto\""),
            std::string::npos);
  EngineOptions options;
  options.extra = {{"packed_weights", "off"}, {"max_waiting", "7"}};
  const std::string config = open_echo("echo:", options)->info()->config_json;
  EXPECT_NE(config.find("\"packed_weights\":\"off\""), std::string::npos) << config;
  EXPECT_NE(config.find("\"max_waiting\":7"), std::string::npos) << config;
  options.extra = {{"packed_weights", "perhaps"}};
  const Status refused = open_local_port("echo:", options, {}).status();
  EXPECT_EQ(refused.code(), Code::invalid);
  EXPECT_NE(refused.message().find("auto or off"), std::string::npos) << refused.message();
}

TEST(LocalPort, OpeningSaysHowFarItIsAndMayBeGivenUp) {
  std::vector<double> heard;
  auto port = open_local_port("echo:?load_ms=60", {}, [&](std::string_view phase, double fraction) {
    EXPECT_EQ(phase, "weights");
    heard.push_back(fraction);
    return true;
  });
  ASSERT_TRUE(port.ok());
  ASSERT_GT(heard.size(), 3U);
  EXPECT_TRUE(std::is_sorted(heard.begin(), heard.end()));
  EXPECT_EQ(heard.back(), 1.0);
  const auto begin = std::chrono::steady_clock::now();
  const auto given_up = open_local_port("echo:?load_ms=60000", {},
                                        [](std::string_view, double) { return false; });
  EXPECT_EQ(given_up.status().code(), Code::closed);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
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
