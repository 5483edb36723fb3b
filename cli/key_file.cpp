#include "cli/key_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cli/sink.hpp"

namespace troupe::cli {

bool read_key_file(const std::string& path, KeyPair& pair, std::string& problem) {
  std::ifstream file(path);
  if (!file) {
    problem = path + ": " + std::strerror(errno);
    return false;
  }
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name, equals, key;
    words >> name >> equals >> key;
    if (name == "public-key" && equals == "=") pair.public_key = key;
    if (name == "secret-key" && equals == "=") pair.secret_key = key;
  }
  if (file.bad()) {
    problem = path + ": " + std::strerror(errno);
    return false;
  }
  if (!pair.secret_key.empty()) return true;
  problem = path + ": it has no line \"secret-key = ...\"; troupe keygen writes such files";
  return false;
}

bool write_key_file(const std::string& path, const KeyPair& pair, std::string& problem) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    problem = path + ": " + std::strerror(errno);
    return false;
  }
  const std::string text =
      "# A CURVE key pair of Troupe. The secret half is for nobody else to see.\n"
      "public-key = " +
      pair.public_key + "\nsecret-key = " + pair.secret_key + "\n";
  Sink file(fd, path);
  file.put(text);
  const bool whole = file.flush();
  ::close(fd);
  if (whole) return true;
  problem = file.problem();
  ::unlink(path.c_str());  // half a pair is none, and would be in the next one's way
  return false;
}

}  // namespace troupe::cli
