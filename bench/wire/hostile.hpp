// Clients without manners, each in a process of its own, and what the others feel of them.
#pragma once

#include <functional>
#include <string>

namespace troupe::bench {

struct HostileRun {
  std::string only;  // one attack by name; empty: all of them
  int pairs = 5;
  double seconds = 5.0;  // of each half of a pair
  double gigabytes = 0.0;  // go on until the images were so many
};

// Runs the attacks and hands each figure to `note`; false: there is no such attack.
bool hostile(const HostileRun& run, const std::function<void(const std::string&, double)>& note);

// The process of one attack: goes on until SIGTERM and prints what it did. -1: no such attack.
int attack(const std::string& name, const std::string& endpoint);

}  // namespace troupe::bench
