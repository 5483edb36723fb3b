#include "wire/allow_list.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "wire/endpoint.hpp"

namespace troupe::wire {
namespace {

constexpr size_t kKeysMax = 1'000'000;

Status unreadable(const std::string& path) {
  return {Code::not_found, "client keys " + path + " cannot be read: " + std::strerror(errno)};
}

}  // namespace

Result<AllowList> AllowList::open(std::string path) {
  AllowList list;
  if (path.empty()) return list;
  TR_ASSIGN(list.stamp_, stamp_of(path));
  TR_ASSIGN(list.keys_, read(path));
  list.path_ = std::move(path);
  return list;
}

Result<AllowList::Stamp> AllowList::stamp_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return unreadable(path);
  return Stamp{facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, facts.st_size, facts.st_ino};
}

Result<std::unordered_set<std::string>> AllowList::read(const std::string& path) {
  std::ifstream file(path);
  if (!file) return unreadable(path);
  std::unordered_set<std::string> keys;
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    // '#' is a digit of Z85 as well: a comment begins a line, or follows a space.
    std::string key = line.substr(0, line.find_first_of(" \t\r"));
    if (key.empty() || (key[0] == '#' && key.size() != 40)) continue;
    TR_TRY(check_key(path + " line " + std::to_string(number), key));
    if (keys.size() == kKeysMax)
      return limit_exceeded(path + " has more than " + std::to_string(kKeysMax) + " keys");
    keys.insert(std::move(key));
  }
  return keys;
}

bool AllowList::reload(Status& problem) {
  if (path_.empty()) return false;
  const Result<Stamp> now = stamp_of(path_);
  if (!now.ok()) {
    if (stamp_ != Stamp{}) problem = now.status();
    stamp_ = {};
    return false;
  }
  if (*now == stamp_) return false;
  stamp_ = *now;
  auto keys = read(path_);
  if (!keys.ok()) {
    problem = keys.status();
    return false;
  }
  keys_ = std::move(*keys);
  return true;
}

}  // namespace troupe::wire
