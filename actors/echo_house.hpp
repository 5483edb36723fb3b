// `echo:` as a cast: a text house in which a byte is a token, and the fake device.
#pragma once

#include <memory>

#include "actors/cast_parts.hpp"
#include "actors/text_house.hpp"
#include "base/port.hpp"
#include "engine/echo.hpp"

namespace troupe::actors {

std::shared_ptr<const TextHouse> make_echo_house();
// Everything but the threads' number, which follows from the machine, is the options' affair.
// `progress` hears of load_ms passing, and may give up.
CastParts echo_parts(const engine::EchoOptions& echo, const EngineOptions& options,
                     LoadProgress progress = {});

}  // namespace troupe::actors
