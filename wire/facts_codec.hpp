// What WELCOME says of a server: what one client may have, and which engine it is.
#pragma once

#include "wire/control.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {

void write_limits(Writer& to, const Limits& limits);
Limits read_limits(Reader& from);

void write_info(Writer& to, const EngineInfo& info);
EngineInfo read_info(Reader& from);

}  // namespace troupe::wire
