// troupe keygen: a CURVE key pair, for a server or for one client.
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <array>
#include <memory>

#include "cli/exit_codes.hpp"
#include "cli/handles.hpp"
#include "cli/key_file.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {

Run declare_keygen(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  app.add_option("FILE", *path, "Where the pair goes, readable by you alone; default: to stdout");
  app.footer(
      "The public key goes to stdout: a server's to its clients (--server-key), a client's into "
      "the\n"
      "server's --allow-list.");
  return [path](Interrupt&) -> int {
    std::array<char, TROUPE_KEY_SIZE> public_key{}, secret_key{};
    const Error error(troupe_keygen(public_key.data(), secret_key.data()));
    if (error) return complain(kRequestFailed, text_of(error.get()));
    if (path->empty()) {
      out().print("public-key = %s\nsecret-key = %s\n", public_key.data(), secret_key.data());
      return kOk;
    }
    std::string problem;
    if (!write_key_file(*path, {public_key.data(), secret_key.data()}, problem))
      return complain(kUsage, problem);
    out().print("%s\n", public_key.data());
    return kOk;
  };
}

}  // namespace troupe::cli
