// troupe serve: a model for others, over the wire protocol (docs/protocol.md). The first Ctrl-C or
// SIGTERM lets what runs come to its end; the second one ends it.
#include <sys/resource.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/key_file.hpp"
#include "cli/numbers.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {
namespace {

using Server = std::unique_ptr<troupe_server, Freer<troupe_server_free>>;

constexpr int64_t kSecond_ns = 1'000'000'000;

struct ServeFlags {
  EngineFlags engine;
  std::vector<std::string> zmq, limits;
  std::string curve, allow_list;
  double resume_window_s = -1.0, drain_s = 30.0;
  bool allow_plaintext = false;

  void declare(CLI::App& app) {
    engine.declare(app, "Model folder, or echo:");
    app.add_option(
           "--zmq", zmq,
           "Where to listen: tcp://HOST:PORT (PORT may be *) or ipc://PATH; may be repeated")
        ->required();
    app.add_option("--curve", curve,
                   "Key file of this server (troupe keygen FILE): encrypted, clients need its "
                   "public key")
        ->group("Security");
    app.add_option("--allow-list", allow_list,
                   "File of the clients' public keys, one per line; read again when it "
                   "changes. Default: any client")
        ->group("Security");
    app.add_flag("--allow-plaintext", allow_plaintext, "Listen beyond this machine without keys")
        ->group("Security");
    app.add_option("--limit", limits,
                   "name=number: what one client may have, such as requests=100 "
                   "(docs/protocol.md); may be repeated")
        ->group("Limits");
    app.add_option("--resume-window", resume_window_s,
                   "Seconds for which a lost client's work is kept (60)")
        ->check(not_negative())
        ->group("Limits");
    app.add_option("--drain", drain_s, "Seconds for what runs to end after Ctrl-C or SIGTERM (30)")
        ->check(not_negative())
        ->group("Limits");
  }
};

// Every connection is a descriptor: as many as the hard limit allows.
void raise_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Error open_server(ServeFlags& flags, const KeyPair& keys, troupe_engine* engine,
                  const std::string& endpoint, Server& server) {
  troupe_server_options options;
  troupe_server_options_init(&options, sizeof options);
  options.allow_plaintext = flags.allow_plaintext ? 1 : 0;
  if (!keys.secret_key.empty()) options.secret_key = keys.secret_key.c_str();
  if (!keys.public_key.empty()) options.public_key = keys.public_key.c_str();
  if (!flags.allow_list.empty()) options.client_keys = flags.allow_list.c_str();
  if (flags.resume_window_s >= 0) {
    options.resume_window_ns =
        static_cast<int64_t>(flags.resume_window_s * static_cast<double>(kSecond_ns));
  }
  std::vector<const char*> settings;
  for (const std::string& limit : flags.limits) settings.push_back(limit.c_str());
  options.settings = settings.data();
  options.n_settings = settings.size();
  troupe_server* handle = nullptr;
  Error error(troupe_server_open(engine, endpoint.c_str(), &options, &handle));
  server.reset(handle);
  return error;
}

// All servers stop side by side; a second signal ends the wait.
int stop(const std::vector<Server>& servers, double drain_s, Interrupt& interrupt) {
  std::fprintf(stderr, "stopping: what runs has %g s to end; once more to stop at once\n", drain_s);
  std::atomic<size_t> left{servers.size()};
  std::vector<std::thread> closers;
  for (const Server& server : servers) {
    closers.emplace_back([&left, handle = server.get(), drain_s] {
      const Error error(troupe_server_close(
          handle, static_cast<int64_t>(drain_s * static_cast<double>(kSecond_ns))));
      --left;
    });
  }
  bool at_once = false;
  while (left > 0 && !at_once) at_once = interrupt.wait(-1, 50) != 0;
  if (at_once) std::_Exit(kInterrupted);
  for (std::thread& closer : closers) closer.join();
  return kOk;
}

int serve(ServeFlags& flags, Interrupt& interrupt) {
  KeyPair keys;
  std::string problem;
  if (!flags.curve.empty() && !read_key_file(flags.curve, keys, problem))
    return complain(kUsage, problem);
  raise_descriptors();
  log_on_stderr(TROUPE_LOG_WARN);  // a server's operator hears of what it goes on without
  Opened opened = open_engine(flags.engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  std::vector<Server> servers;
  for (const std::string& endpoint : flags.zmq) {
    const Error error =
        open_server(flags, keys, opened.engine.get(), endpoint, servers.emplace_back());
    if (error) return complain(kUsage, text_of(error.get()));
  }
  for (const Server& server : servers)
    out().print("zmq %s\n", troupe_server_endpoint(server.get()));
  out().flush();
  std::fprintf(stderr, "serving %s%s; Ctrl-C stops\n", flags.engine.model.c_str(),
               keys.secret_key.empty() ? "" : ", encrypted");
  while (interrupt.wait(-1, -1) == 0) {
  }
  return stop(servers, flags.drain_s, interrupt);
}

}  // namespace

Run declare_serve(CLI::App& app) {
  auto flags = std::make_shared<ServeFlags>();
  flags->declare(app);
  return [flags](Interrupt& interrupt) { return serve(*flags, interrupt); };
}

}  // namespace troupe::cli
