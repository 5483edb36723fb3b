// Shell completion, written from the same tree of verbs and flags that parses them.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace troupe::cli {

// shell: bash, zsh or fish. Empty for any other.
std::string completion_script(const CLI::App& root, const std::string& shell);

// Every flag of `app` as it is typed: "--prompt", "-p".
std::vector<std::string> flags_of(const CLI::App& app);

}  // namespace troupe::cli
