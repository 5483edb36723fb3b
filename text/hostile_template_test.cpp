// A chat template is a program of whoever made the model folder. Whatever it does, a rendering ends with
// a text or with an error that names the template and the limit, within bounded memory and time; and
// opening one costs next to nothing.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/limits.hpp"
#include "text/chat_template.hpp"
#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"

namespace troupe::text {
namespace {

const std::string kFolder = kGolden + "/tokenizers/llama3";
constexpr std::string_view kMessages = R"([{"role": "user", "content": "hello"}])";

const Tokenizer& tokenizer() {
  static const auto held = Tokenizer::load(kFolder);
  return *held.value();
}

long peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

class HostileTemplate : public testing::Test {
 protected:
  Result<std::unique_ptr<ChatTemplate>> load(const std::string& source) {
    folder_.write("hostile.jinja", source);
    return ChatTemplate::load(kFolder, tokenizer(), path());
  }
  [[nodiscard]] std::string path() const { return folder_.path() + "/hostile.jinja"; }

  // Renders; the peak of memory and the time stay far below what a machine has.
  Result<std::string> render(const std::string& source, std::string_view messages = kMessages) {
    TR_ASSIGN(const auto chat, load(source));
    const long before_mib = peak_mib();
    const auto begin = std::chrono::steady_clock::now();
    auto text = chat->render({.messages_json = messages});
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60)) << source.substr(0, 200);
    EXPECT_LT(peak_mib() - before_mib, 1500) << source.substr(0, 200);
    return text;
  }

  void expect_limit(const std::string& source, const std::string& wanted) {
    const auto text = render(source);
    ASSERT_FALSE(text.ok()) << source.substr(0, 200) << "\nrendered " << text->size() << " bytes";
    EXPECT_EQ(text.status().code(), Code::limit) << text.status().message();
    const std::string message = text.status().message();
    EXPECT_EQ(message.rfind(path() + ": ", 0), 0U) << message;
    EXPECT_NE(message.find(wanted), std::string::npos) << source.substr(0, 200) << "\n" << message;
  }

  TestFolder folder_;
};

const std::string kText = "text of more than 67108864 bytes";

TEST_F(HostileTemplate, TextsThatDouble) {
  const std::string start = "{%- set x = 'abcdefgh' * 1000 %}";
  expect_limit(start + repeated("{% set x = x ~ x %}", 60) + "{{ x }}", kText);
  expect_limit(start + repeated("{% set x = x + x %}", 60) + "{{ x }}", kText);
  expect_limit(start + "{% set x = x" + repeated(" ~ x", 400) + "%}{% set x = x" + repeated(" ~ x", 400) +
                   "%}{{ x }}", kText);
  expect_limit(start + repeated("{% set x = x|replace('a', x) %}", 9), kText);
  expect_limit(start + repeated("{% set x = x.replace('a', x) %}", 9), kText);
  expect_limit(start + repeated("{% set x = x.replace('', x) %}", 9), kText);
  expect_limit(start + repeated("{% set x = [x, x, x]|join(x) %}", 60), kText);
  expect_limit(start + repeated("{% set x = x.join([x, x, x]) %}", 60), kText);
  expect_limit(start + repeated("{% set x %}{{ x }}{{ x }}{% endset %}", 60), kText);
  expect_limit(start + repeated("{% set x = x|escape ~ x|tojson %}", 60), kText);
  expect_limit(start + "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% else %}{{ x }}"
                       "{% endif %}{% endmacro %}{{ m(60) }}", "");
}

TEST_F(HostileTemplate, TextsThatRepeat) {
  expect_limit("{{ 'x' * 99999999 }}", kText);
  expect_limit("{% set x = 'x\\n' * 4000000 %}{{ x|indent(1000) }}", kText);
  expect_limit("{% set x = 'x\\n' * 4000000 %}{{ x|indent('x' * 10000000) }}", kText);
  expect_limit("{{ 'x'.ljust(99999999) }}", "99999999");
  expect_limit("{{ [[1] * 1000] * 1000 * 1000 }}", "");
  expect_limit("{{ ([0] * 1000000000000)|length }}", "");
  expect_limit("{{ ([0] * 1000000000000)|list }}", "");
  expect_limit("{{ ([0] * 1000000000000)|sort|first }}", "");
  expect_limit("{{ ('x' * 50000000)|list|length }}", "");
  expect_limit("{{ ('x' * 50000000)|sort|length }}", "");
  expect_limit("{{ ('x ' * 25000000).split(' ')|length }}", "");
  expect_limit("{{ ('x ' * 25000000).split()|length }}", "");
  expect_limit("{{ ('x\\n' * 25000000).splitlines()|length }}", "");
  expect_limit("{{ [1]|batch(1000000000, 0)|list }}", "");
  expect_limit("{{ [1]|slice(1000000000)|list }}", "");
  expect_limit("{{ '%0999999999d'|format(1) }}", "");
  expect_limit("{{ '{:>999999999}'.format(1) }}", "");
  expect_limit("{{ ('{0}' * 1000000).format('x' * 1000000) }}", "");
  expect_limit("{{ messages|tojson(indent='x' * 60000000) }}", kText);
  expect_limit("{{ [1, 2, 3, 4]|tojson(separators=['x' * 50000000, 'y']) }}", kText);
}

TEST_F(HostileTemplate, ValuesThatFillTheMemory) {
  // Every text is small enough, all of them together are not.
  expect_limit("{% set ns = namespace(all=[]) %}{% for i in range(9999) %}"
               "{% set ns.all = ns.all + ['x' * 60000000 ~ i] %}{% endfor %}", "536870912 bytes");
  expect_limit("{% for i in range(99999) %}{{ 'x' * 60000000 }}{% endfor %}", "536870912 bytes");
  expect_limit("{% for i in range(99999) %}" + std::string(500000, 'x') + "{% endfor %}", "536870912 bytes");
  expect_limit("{% macro m(n) %}{% set x = 'x' * 60000000 %}{{ m(n + 1) }}{{ x }}{% endmacro %}{{ m(0) }}",
               "536870912 bytes");
}

TEST_F(HostileTemplate, ListsThatHoldThemselvesManyTimes) {
  const std::string start = "{% set x = [1] %}" + repeated("{% set x = [x, x] %}", 60);
  const std::string dicts = "{% set x = {} %}" + repeated("{% set x = {'a': x, 'b': x} %}", 60);
  for (const char* use : {"{{ x }}", "{{ x|tojson }}", "{{ x == [x] }}", "{{ x ~ '' }}", "{{ 1 in x }}",
                          "{{ x|sort }}", "{{ x|string|length }}", "{{ x|pprint }}"}) {
    expect_limit(start + use, "values");
    expect_limit(dicts + use, "values");
  }
  expect_limit("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + [range(99999)] %}"
               "{% endfor %}", "");
  expect_limit("{% set x = ['x' * 60000000] * 100 %}{{ x == x }}", "values");
  expect_limit("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
               "deep");
  expect_limit("{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
               "deep");
}

TEST_F(HostileTemplate, ThingsThatHoldOrCallThemselves) {
  for (const char* source :
       {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns|tojson }}",
        "{% set ns = namespace() %}{% set ns.x = {'a': [ns]} %}{{ ns == ns.x }}",
        "{% set ns = namespace() %}{% macro m() %}{{ ns }}{% endmacro %}{% set ns.x = m %}{{ ns }}",
        "{% set ns = namespace() %}{% for i in range(99999) %}{% set ns = namespace(x=ns) %}{% endfor %}{{ ns }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}{{ namespace }}",
        "{% macro m() %}{{ caller is defined }}{% call m() %}x{% endcall %}{% endmacro %}{{ m() }}",
        "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}{{ namespace }}"}) {
    const auto text = render(source);
    const std::string message = text.status().message();
    EXPECT_TRUE(text.ok() || message.find("namespace") != std::string::npos ||
                message.find("recursion") != std::string::npos)
        << source << "\n" << message;
  }
}

TEST_F(HostileTemplate, WorkWithoutEnd) {
  const std::string loops = "{% for a in range(99999) %}{% for b in range(99999) %}";
  expect_limit(loops + "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}", "");
  expect_limit("{% set x = 'x' * 60000000 %}" + loops + "{% if 'yz' in x %}{% endif %}{% endfor %}{% endfor %}",
               "5 s");
  expect_limit("{% set x = 'x' * 60000000 %}{{ x.strip('yz' * 20000000 ~ 'x')|length }}" + loops +
                   "{{ x|length }}{% endfor %}{% endfor %}", "5 s");
  expect_limit("{% macro m(n) %}{% if n < 60 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}" + loops +
                   "{% set x %}{{ m(0) }}{% endset %}{% endfor %}{% endfor %}", "");
}

// Threads that never rest, on the one core that this thread is left while it lives.
class Crowd {
 public:
  explicit Crowd(int threads) {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);  // what this thread starts inherits it
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        while (!done_.load(std::memory_order_relaxed)) {
        }
      });
    }
  }
  ~Crowd() {
    done_ = true;
    for (std::thread& t : threads_) t.join();
    sched_setaffinity(0, sizeof before_, &before_);
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

 private:
  cpu_set_t before_{};
  std::atomic<bool> done_ = false;
  std::vector<std::thread> threads_;
};

// What counts is what the thread worked: a machine with much else to do turns no template away.
TEST_F(HostileTemplate, WaitingForTheProcessorIsNotItsTime) {
  const std::string source =
      "{% set ns = namespace(n=0) %}{% for i in range(1500) %}{% for j in range(1000) %}"
      "{% if j == 999 %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{% endfor %}{{ ns.n }}";
  using std::chrono::steady_clock;
  const auto rendered_in = [&] {
    const auto begin = steady_clock::now();
    const auto text = render(source);
    EXPECT_TRUE(text.ok()) << text.status().message();
    return steady_clock::now() - begin;
  };
  const auto alone = std::max<steady_clock::duration>(rendered_in(), std::chrono::milliseconds(50));
  // So many that its share of the core makes seven seconds of it.
  const Crowd crowd(static_cast<int>(std::chrono::seconds(7) / alone));
  EXPECT_GT(rendered_in(), std::chrono::seconds(5));
}

TEST_F(HostileTemplate, OpensAndIsRefusedWhateverItsShape) {
  const struct {
    std::string source;
    const char* wanted;
  } cases[] = {
      {"{{ a" + repeated(".b", 200000) + " }}", "line 1"},
      {"{{ a" + repeated("|trim", 100000) + " }}", "line 1"},
      {"{{ a" + repeated(" ~ a", 100000) + " }}", "line 1"},
      {"{{ a" + repeated("[0]", 100000) + " }}", "line 1"},
      {"{{ " + repeated("not ", 100000) + "a }}", "line 1"},
      {"{{ " + repeated("-", 100000) + "a }}", "line 1"},
      {"{{ " + repeated("(", 100000) + "a" + repeated(")", 100000) + " }}", "line 1"},
      {"{{ " + repeated("(", 100) + "a" + repeated(repeated("~a", 900) + ")", 100) + " }}", "line 1"},
      {"{% if a %}" + repeated("\n{% elif b %}", 50000) + "{% endif %}", "elif"},
      {repeated("{% if a %}", 20000) + repeated("{% endif %}", 20000), "recursion"},
      {std::string(2 << 20, 'x'), "1048576"},
  };
  for (const auto& entry : cases) {
    const auto chat = load(entry.source);
    ASSERT_FALSE(chat.ok()) << entry.source.substr(0, 60);
    const std::string message = chat.status().message();
    EXPECT_EQ(message.rfind(path() + ": ", 0), 0U) << message;
    EXPECT_NE(message.find(entry.wanted), std::string::npos) << entry.source.substr(0, 60) << "\n" << message;
  }
}

TEST_F(HostileTemplate, ConstantsAreNotWorkedOutAtOpening) {
  const long before_mib = peak_mib();
  const std::string sum = "{{ ('x' * 99999999) ~ ('y' * 99999999) }}";
  ASSERT_TRUE(load(repeated(sum, 50)).ok());
  EXPECT_LT(peak_mib() - before_mib, 200);
}

TEST_F(HostileTemplate, LongConversationsStayFarBelowTheLimits) {
  // What real templates do, for more messages and longer ones than anybody sends.
  const std::string source =
      "{% set ns = namespace(calls=[], text='') %}{% for m in messages %}"
      "{% set ns.calls = ns.calls + [m.role ~ loop.index] %}{% set ns.text = ns.text ~ m.content|trim %}"
      "{% if m.role == 'user' and 'zz' in messages[0].content %}{{ m|tojson }}{% else %}"
      "{{ '<' ~ m.role ~ '>' + m.content }}{% endif %}{% endfor %}{{ ns.calls|length }}";
  std::string messages = "[";
  for (int i = 0; i < 4000; ++i) {
    messages += std::string(i == 0 ? "" : ", ") + R"({"role": "user", "content": ")" + std::string(400, 'x') + "\"}";
  }
  EXPECT_TRUE(render(source, messages + "]").ok());
  const std::string one = R"([{"role": "user", "content": ")" + std::string(40 << 20, 'x') + "\"}]";
  const auto text = render("{% for m in messages %}<{{ m.content|trim }}>{% endfor %}", one);
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(text->size(), (40U << 20) + 2);
}

}  // namespace
}  // namespace troupe::text
