// What steps and caches are cut to where nothing else is asked for: on this machine's processors, and
// on a device. The rows are SchedulerConfig's.
#pragma once

#include <cstdint>

namespace troupe::engine {

struct StepDefaults {
  int32_t block_tokens, step_rows, long_step_rows, prompt_rows_beside;
};

// A CPU's chunk of a prompt is small, so that running streams do not wait long for it.
inline constexpr StepDefaults kHostSteps = {16, 512, 0, 0};
// Prompts beside decoding take about as long as that does; a long step, tens of milliseconds.
inline constexpr StepDefaults kDeviceSteps = {64, 8192, 1024, 192};

}  // namespace troupe::engine
