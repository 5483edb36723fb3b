// A few threads for what may block, so that the I/O thread never does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe::wire {

class Workers {
 public:
  explicit Workers(int threads);
  ~Workers();  // runs what was given, then ends
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  void give(std::function<void()> work);

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable given_;
  std::deque<std::function<void()>> work_;
  bool over_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace troupe::wire
