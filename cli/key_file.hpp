// Key files as `troupe keygen` writes them: a CURVE pair, one "name = key" per line.
#pragma once

#include <string>

namespace troupe::cli {

struct KeyPair {
  std::string public_key, secret_key;
};

// False, and `problem` says why: no such file, or no key pair in it.
bool read_key_file(const std::string& path, KeyPair& pair, std::string& problem);
// Readable by its owner alone; a file that is there is never overwritten.
bool write_key_file(const std::string& path, const KeyPair& pair, std::string& problem);

}  // namespace troupe::cli
