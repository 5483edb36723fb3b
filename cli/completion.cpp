#include "cli/completion.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <sstream>

namespace troupe::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::vector<std::string> verbs_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

void bash_cases(const CLI::App& app, const std::string& path, std::ostream& out) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    const std::string here = path.empty() ? sub->get_name() : path + " " + sub->get_name();
    auto words = verbs_of(*sub);
    const auto flags = flags_of(*sub);
    words.insert(words.end(), flags.begin(), flags.end());
    out << "    '" << here << "') words='" << joined(words) << "' ;;\n";
    bash_cases(*sub, here, out);
  }
}

std::string bash_script(const CLI::App& root) {
  std::ostringstream out;
  out << "# troupe completion for bash: source this, or put it into bash_completion.d\n"
         "_troupe() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} path='' word words=''\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case $word in\n"
         "      -*) ;;\n"
         "      *) case \"${path:+$path }$word\" in\n";
  std::ostringstream known;
  const auto collect = [&](const auto& self, const CLI::App& app, const std::string& path) -> void {
    for (const CLI::App* sub : app.get_subcommands({})) {
      const std::string here = path.empty() ? sub->get_name() : path + " " + sub->get_name();
      known << (known.tellp() == 0 ? "" : "|") << "'" << here << "'";
      self(self, *sub, here);
    }
  };
  collect(collect, root, "");
  out << "           " << known.str() << ") path=\"${path:+$path }$word\" ;;\n"
         "         esac ;;\n"
         "    esac\n"
         "  done\n"
         "  case $path in\n"
         "    '') words='" << joined(verbs_of(root)) << " " << joined(flags_of(root)) << "' ;;\n";
  bash_cases(root, "", out);
  out << "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$current\"))\n"
         "}\n"
         "complete -o filenames -F _troupe troupe\n";
  return out.str();
}

void fish_lines(const CLI::App& app, const std::string& condition, std::ostream& out) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    out << "complete -c troupe -n '" << condition << "' -a " << sub->get_name() << " -d '"
        << sub->get_description() << "'\n";
    for (const std::string& flag : flags_of(*sub)) {
      if (!flag.starts_with("--")) continue;
      out << "complete -c troupe -n '__fish_seen_subcommand_from " << sub->get_name() << "' -l "
          << flag.substr(2) << "\n";
    }
    fish_lines(*sub, "__fish_seen_subcommand_from " + sub->get_name(), out);
  }
}

}  // namespace

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string& name : option->get_snames()) flags.push_back("-" + name);
  }
  return flags;
}

std::string completion_script(const CLI::App& root, const std::string& shell) {
  if (shell == "bash") return bash_script(root);
  if (shell == "zsh") return "autoload -U +X bashcompinit && bashcompinit\n" + bash_script(root);
  if (shell == "fish") {
    std::ostringstream out;
    fish_lines(root, "__fish_use_subcommand", out);
    return out.str();
  }
  return {};
}

}  // namespace troupe::cli
