// The verbs of the command. Each declares its flags on a CLI::App and leaves behind what runs it.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <memory>

#include "cli/interrupt.hpp"

namespace troupe::cli {

// Gives the exit code (exit_codes.hpp).
using Run = std::function<int(Interrupt&)>;

struct Verb {
  const char* name;
  const char* summary;
  Run (*declare)(CLI::App& app);
};

Run declare_generate(CLI::App& app);
Run declare_batch(CLI::App& app);
Run declare_chat(CLI::App& app);
Run declare_inspect(CLI::App& app);
Run declare_bench(CLI::App& app);
Run declare_doctor(CLI::App& app);
Run declare_serve(CLI::App& app);
Run declare_keygen(CLI::App& app);
// A part of bench that has a file of its own.
void declare_bench_vision(CLI::App& bench, const std::shared_ptr<Run>& run);

inline constexpr Verb kVerbs[] = {
    {"generate", "Answer one prompt", declare_generate},
    {"chat", "Talk to a model", declare_chat},
    {"serve", "Serve a model to remote clients", declare_serve},
    {"batch", "Answer a file of requests in OpenAI's batch format", declare_batch},
    {"inspect", "Say what is in a model folder and whether it fits", declare_inspect},
    {"bench", "Measure latency, throughput, prefill, serving and vision", declare_bench},
    {"keygen", "Make a key pair for serve or for one client", declare_keygen},
    {"doctor", "Check this machine: CPU, memory, drivers, GPUs", declare_doctor},
};

}  // namespace troupe::cli
