// The flags that every verb which opens a model shares, and the opening itself with its progress bar.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "cli/handles.hpp"
#include "cli/interrupt.hpp"

namespace troupe::cli {

struct EngineFlags {
  std::string model;
  std::string device, dtype, kv_dtype, load_format, chat_template, kv_memory;
  std::string server_key, client_public_key, client_secret_key, client_key_file;
  int threads = -1, tensor_parallel = -1, max_sequences = -1, max_waiting = -1;
  int max_step_tokens = -1, context_length = -1, block_tokens = -1;
  long long seed = -1;
  bool no_prefix_reuse = false, no_overlap = false, deterministic = false, verbose = false;
  std::vector<std::string> settings;

  // `models` says what MODEL may be.
  void declare(CLI::App& app, const char* models = "Model folder, echo:, or tcp://host:port");
  // The options as the ABI takes them; they borrow from *this. Empty `problem` when all is well.
  [[nodiscard]] troupe_engine_options options(std::string& problem);

 private:
  std::vector<const char*> setting_pointers_;
};

struct Opened {
  Engine engine;
  int exit_code = 0;  // when there is no engine: what to exit with, the reason being on stderr
};
Opened open_engine(EngineFlags& flags, Interrupt& interrupt);

// What the engine logs of this level and above; -v makes it all.
void log_on_stderr(int32_t level);

// "512M", "20G", "1073741824" in bytes; -1 when it is none of these.
long long bytes_of(const std::string& text);
std::string human_bytes(long long bytes);

}  // namespace troupe::cli
