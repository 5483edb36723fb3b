// The cores that a thread may run on: where it is, where it may go, and how it goes there. As an
// interface, so that tests own cores as they own time (base/clock.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

class Cores {
 public:
  virtual ~Cores() = default;
  // Where the calling thread runs.
  [[nodiscard]] virtual int32_t now() const = 0;
  // Where else it may run, the best first. Not often: it looks at the whole machine.
  [[nodiscard]] virtual std::vector<int32_t> others() = 0;
  // Takes the calling thread there. It may run where it might before, and as long as the system sees
  // no reason to move it, it stays. False: it may not run there.
  virtual bool go(int32_t core) = 0;
};

// The calling thread's affinity mask; never empty.
[[nodiscard]] std::vector<int32_t> allowed_cores();
// "0-3,8" as the system writes it. Nonsense ends the list.
[[nodiscard]] std::vector<int32_t> parse_core_list(std::string_view text);

// The machine's. Others to go to are idle most of the time, their hyperthreads' siblings included, and
// on the present core's memory node if it has any others. Used by one thread.
class SystemCores final : public Cores {
 public:
  // `root` is "" but in tests: it stands in front of /proc and /sys.
  explicit SystemCores(std::string root = "");
  [[nodiscard]] int32_t now() const override;
  // Idle is who was so since it was last asked.
  [[nodiscard]] std::vector<int32_t> others() override;
  bool go(int32_t core) override;
  // What others() answers a thread on `core` of these.
  [[nodiscard]] std::vector<int32_t> others(int32_t core, const std::vector<int32_t>& allowed);

 private:
  struct Ticks {
    int64_t busy = 0, all = 0;
  };
  [[nodiscard]] std::vector<Ticks> read_ticks() const;  // by core
  [[nodiscard]] std::vector<int32_t> read_list(const std::string& path) const;
  [[nodiscard]] std::vector<int32_t> node_of(int32_t core) const;  // empty: not known
  const std::string root_;
  std::vector<Ticks> last_;
};

}  // namespace troupe
