// docs/adding-a-model.md says what the code does: its table lists every family, and its snippets
// are lines of the files they name.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "models/families/families.hpp"

namespace troupe::models {
namespace {

std::string read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST(Docs, TheTableListsEveryFamily) {
  const std::string page = read("docs/adding-a-model.md");
  for (const Family& family : families()) {
    for (const std::string_view name : family.architectures) {
      EXPECT_NE(page.find("| `" + std::string(name) + "` |"), std::string::npos) << name;
    }
  }
}

TEST(Docs, SnippetsAreLinesOfTheCode) {
  const std::string page = read("docs/adding-a-model.md");
  const std::string open = "<!-- ", fence = " -->\n```cpp\n";
  int snippets = 0;
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at + 1)) {
    const size_t name_end = page.find(fence, at);
    ASSERT_NE(name_end, std::string::npos);
    const std::string file = page.substr(at + open.size(), name_end - at - open.size());
    const size_t begin = name_end + fence.size();
    const std::string snippet = page.substr(begin, page.find("```", begin) - begin);
    EXPECT_NE(read(file).find(snippet), std::string::npos) << file << " has no lines\n" << snippet;
    ++snippets;
  }
  EXPECT_EQ(snippets, 4);
}

}  // namespace
}  // namespace troupe::models
