// troupe_engine_options and their kin, read into the words of base/port.hpp.
#pragma once

#include <string_view>

#include "base/port.hpp"
#include "base/request.hpp"
#include "capi/troupe.h"

namespace troupe::capi {

Result<troupe_engine_options> read_options(const troupe_engine_options* options);
Result<EngineOptions> engine_options(const troupe_engine_options& options);
// What is set where an engine is served cannot be set from afar: UNSUPPORTED, by name.
Status check_remote_options(const troupe_engine_options& options, std::string_view endpoint);
Result<SamplingParams> sampling_params(const troupe_sampling* sampling);
// Without its bytes' owner: who keeps them alive is the request's business.
Result<ImageInput> image_input(const troupe_image& image);
Result<SessionOptions> session_options(const troupe_session_options* options);
Result<ServerOptions> server_options(const troupe_server_options* options);

extern const troupe_image kImageDefaults;

}  // namespace troupe::capi
