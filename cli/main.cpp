// The troupe command: reads the arguments, finds the verb, exits with its code.

#include <fcntl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "capi/troupe.h"
#include "cli/completion.hpp"
#include "cli/exit_codes.hpp"
#include "cli/nearest.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {
namespace {

constexpr const char* kFooter =
    "Data goes to stdout, everything else to stderr. NO_COLOR turns colour off.\n"
    "Exit codes: 0 all well, 1 a request failed or output was lost, 2 wrong usage or an input "
    "that\n"
    "cannot be read, 3 the model did not open, 130 interrupted (Ctrl-C, SIGTERM).";

// The deepest verb that was named on the command line.
const CLI::App* chosen(const CLI::App& app) {
  const auto subs = app.get_subcommands();
  return subs.empty() ? &app : chosen(*subs.front());
}

// "-" is standard input and "-5" a value.
bool looks_like_a_flag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word[1] != '.' && (word[1] < '0' || word[1] > '9');
}

// CLI11 says "Could not convert: --flag = value".
std::string in_our_words(const CLI::ParseError& error) {
  static const std::string kAnnounced = "Could not convert: ";
  const std::string said = error.what();
  const size_t equals = said.find(" = ");
  if (!said.starts_with(kAnnounced) || equals == std::string::npos) return said;
  return said.substr(kAnnounced.size(), equals - kAnnounced.size()) + ": '" +
         said.substr(equals + 3) + "' is not a number it can take";
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

int usage_error(const CLI::App& root, const CLI::ParseError& error,
                const std::vector<std::string>& words) {
  const CLI::App& verb = *chosen(root);
  std::vector<std::string> known = flags_of(verb);
  std::string message = in_our_words(error);
  for (const std::string& word : words) {
    const std::string flag = word.substr(0, word.find('='));
    if (!looks_like_a_flag(flag) || verb.get_option_no_throw(flag) != nullptr) continue;
    const std::string near = nearest(flag, known);
    message = "unknown flag " + flag + (near.empty() ? "" : "; did you mean " + near + "?");
    break;
  }
  std::string path;
  size_t depth = 0;
  for (const CLI::App* a = &verb; a != nullptr && a != &root; a = a->get_parent(), ++depth) {
    path = " " + a->get_name() + path;
  }
  const std::vector<std::string> commands = commands_of(verb);
  if (!commands.empty() && words.size() == depth) {
    message = "a command is wanted: " + joined(commands);
  } else if (!commands.empty() && words.size() > depth && !words[depth].starts_with("-")) {
    const std::string near = nearest(words[depth], commands);
    message = "no such command: " + (path + " " + words[depth]).substr(1) +
              (near.empty() ? "; there are " + joined(commands) : "; did you mean " + near + "?");
  }
  return complain(kUsage, message + "\nSee troupe" + path + " --help");
}

// Help and the version: what CLI11 would print itself.
int answer(const CLI::App& root, const CLI::Error& asked) {
  std::ostringstream text;
  const int exit_code = root.exit(asked, text, text);
  out().put(text.str());
  return exit_code;
}

// A standard descriptor that is closed would be the next file's that is opened, and get its data.
void hold_standard_places() {
  int fd = 0;
  do {
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

int run(int argc, char** argv) {
  CLI::App root("Troupe serves language and vision-language models.", "troupe");
  root.footer(kFooter);
  root.require_subcommand(1);
  root.set_version_flag("--version", std::string("troupe ") + troupe_version_string());
  std::map<const CLI::App*, Run> runs;
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = root.add_subcommand(verb.name, verb.summary);
    runs[sub] = verb.declare(*sub);
  }
  std::string shell;
  CLI::App* completion =
      root.add_subcommand("completion", "Print a completion script for your shell");
  completion->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));

  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    root.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return answer(root, help);
  } catch (const CLI::CallForAllHelp& help) {
    return answer(root, help);
  } catch (const CLI::CallForVersion& version) {
    return answer(root, version);
  } catch (const CLI::ParseError& error) {
    return usage_error(root, error, words);
  }
  if (completion->parsed()) {
    out().put(completion_script(root, shell));
    return kOk;
  }
  Interrupt interrupt;
  return runs.at(root.get_subcommands().front())(interrupt);
}

}  // namespace
}  // namespace troupe::cli

int main(int argc, char** argv) {
  troupe::cli::hold_standard_places();
  return troupe::cli::leave(troupe::cli::run(argc, argv));
}
