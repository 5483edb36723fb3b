// The pickle program as a bounded stack machine. Values live in one arena and refer to one another
// by index: no recursion, whatever the nesting, and no value is ever executed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace troupe::models::pickle {

using Ref = uint32_t;

// `storage` is a persistent id, `tensor` a call of _rebuild_tensor_v2: both keep their arguments.
enum class Kind : uint8_t {
  none,
  boolean,
  integer,
  real,
  text,
  sequence,
  dict,
  global,
  storage,
  tensor
};

struct Value {
  Kind kind = Kind::none;
  int64_t integer = 0;
  std::string_view
      text{};  // text: a view into the program; global: "module name", in a static table
  std::vector<Ref> items{};  // sequence; storage and tensor: their arguments
  std::vector<std::pair<Ref, Ref>> entries{};  // dict
};

struct Program {
  std::vector<Value> values;
  Ref result = 0;
  [[nodiscard]] const Value& operator[](Ref r) const { return values[r]; }
};

// `label` names the file in errors.
Result<Program> run(std::span<const std::byte> bytes, std::string_view label);

}  // namespace troupe::models::pickle
