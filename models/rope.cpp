#include "models/rope.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>

#include "base/limits.hpp"
#include "models/config.hpp"

namespace troupe::models {
namespace {

struct Named {
  std::string_view name;
  RopeScaling scaling;
};
constexpr std::array<Named, 8> kScalings = {{{"default", RopeScaling::none},
                                             {"linear", RopeScaling::linear},
                                             {"dynamic", RopeScaling::dynamic},
                                             {"llama3", RopeScaling::llama3},
                                             {"yarn", RopeScaling::yarn},
                                             {"longrope", RopeScaling::longrope},
                                             {"su", RopeScaling::longrope},
                                             {"mrope", RopeScaling::none}}};

constexpr double kFactorMax = 1e6;

// Frequencies and factors are computed in double and rounded once; transformers computes in f32.
std::vector<double> plain_frequencies(double theta, int32_t dim) {
  std::vector<double> out(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = 1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / dim);
  }
  return out;
}

void scale_llama3(const RopeConfig& c, std::vector<double>& frequencies) {
  const double length = c.original_length;
  for (double& f : frequencies) {
    const double wavelength = 2.0 * std::numbers::pi / f;
    if (wavelength < length / c.high_freq_factor) continue;
    if (wavelength > length / c.low_freq_factor) {
      f /= c.factor;
      continue;
    }
    const double smooth =
        (length / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
    f = (1.0 - smooth) * f / c.factor + smooth * f;
  }
}

void scale_yarn(const RopeConfig& c, std::vector<double>& frequencies) {
  const double dim = c.rotary_dim;
  const auto correction = [&](double rotations) {
    return dim * std::log(c.original_length / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(c.theta));
  };
  double low = correction(c.beta_fast);
  double high = correction(c.beta_slow);
  if (c.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / c.factor * ramp + frequencies[i] * (1.0 - ramp);
  }
}

double yarn_attention(const RopeConfig& c) {
  if (c.attention_factor > 0.0) return c.attention_factor;
  if (c.mscale > 0.0 && c.mscale_all_dim > 0.0) {
    return yarn_mscale(c.factor, c.mscale) / yarn_mscale(c.factor, c.mscale_all_dim);
  }
  return yarn_mscale(c.factor, 1.0);
}

double longrope_attention(const RopeConfig& c) {
  if (c.attention_factor > 0.0) return c.attention_factor;
  if (c.factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(c.factor) / std::log(c.original_length));
}

RopeScaling scaling_of(const Fields& scaling, std::string_view key) {
  const std::string name = scaling.text(key, "default");
  const auto it = std::find_if(kScalings.begin(), kScalings.end(),
                               [&](const Named& n) { return n.name == name; });
  if (it != kScalings.end()) return it->scaling;
  scaling.fail(key, "is \"" + name +
                        "\"; known are default, linear, dynamic, llama3, yarn, longrope, mrope");
  return RopeScaling::none;
}

void read_longrope(const Fields& f, RopeConfig& out) {
  out.short_factors = f.reals("short_factor", 1e-3, kFactorMax);
  out.long_factors = f.reals("long_factor", 1e-3, kFactorMax);
  const auto wanted = static_cast<size_t>(out.rotary_dim / 2);
  for (const auto& [key, list] : {std::pair("short_factor", &out.short_factors),
                                  std::pair("long_factor", &out.long_factors)}) {
    if (list->size() == wanted) continue;
    f.fail(key, "must hold " + std::to_string(wanted) + " numbers, holds " +
                    std::to_string(list->size()));
  }
}

void read_scaling(const Fields& config, const Fields& f, const RopeDefaults& defaults,
                  RopeConfig& out) {
  const int32_t context = std::max(defaults.context_length, 1);
  const bool outside = config.has("original_max_position_embeddings");
  const bool ratio = out.scaling == RopeScaling::longrope || out.scaling == RopeScaling::yarn;
  out.original_length =
      (outside ? config : f)
          .count("original_max_position_embeddings", limits::prompt_tokens, context);
  const bool dynamic = out.scaling == RopeScaling::dynamic;
  if (dynamic) out.original_length = context;
  const double implied = static_cast<double>(context) / out.original_length;
  out.factor = f.real("factor", 1e-3, kFactorMax, ratio ? std::optional(implied) : std::nullopt);
  out.attention_factor = f.real("attention_factor", 0.0, kFactorMax, 0.0);
  out.low_freq_factor = f.real("low_freq_factor", 1e-3, kFactorMax, 1.0);
  out.high_freq_factor = f.real("high_freq_factor", 1e-3, kFactorMax, 4.0);
  if (out.scaling == RopeScaling::llama3 && out.high_freq_factor <= out.low_freq_factor) {
    f.fail("high_freq_factor", "must be above low_freq_factor");
  }
  out.beta_fast = f.real("beta_fast", 1e-3, kFactorMax, 32.0);
  out.beta_slow = f.real("beta_slow", 1e-3, kFactorMax, 1.0);
  out.mscale = f.real("mscale", 0.0, kFactorMax, 0.0);
  out.mscale_all_dim = f.real("mscale_all_dim", 0.0, kFactorMax, 0.0);
  out.truncate = f.boolean("truncate", true);
  if (out.scaling == RopeScaling::longrope) read_longrope(f, out);
  if (dynamic && out.rotary_dim <= 2) f.fail("rope_type", "dynamic needs more than 2 rotated dims");
}

void read_sections(const Fields& f, RopeConfig& out) {
  const auto sections = f.integers("mrope_section", 0, limits::head_dim);
  if (sections.empty()) return;
  if (sections.size() != 3) {
    f.fail("mrope_section", "must hold 3 numbers");
    return;
  }
  for (size_t i = 0; i < 3; ++i) out.sections[i] = static_cast<int32_t>(sections[i]);
  if (2 * (sections[0] + sections[1] + sections[2]) != out.rotary_dim) {
    f.fail("mrope_section", "must add up to half of the rotated " + std::to_string(out.rotary_dim));
  }
  out.sections_interleaved = f.boolean("mrope_interleaved", false);
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

RopeConfig read_rope(const Fields& config, const RopeDefaults& defaults,
                     std::string_view layer_type) {
  RopeConfig out;
  Fields f = config.object(config.either("rope_parameters", "rope_scaling"));
  if (!layer_type.empty() && f.has(layer_type)) f = f.object(layer_type);
  const double theta =
      config.real(config.either("rope_theta", "rotary_emb_base"), 1.0 + 1e-6, 1e15, defaults.theta);
  out.theta = f.real("rope_theta", 1.0 + 1e-6, 1e15, theta);
  const double partial =
      config.real(config.either("partial_rotary_factor", "rotary_pct"), 0.0, 1.0, defaults.partial);
  const double share = f.real("partial_rotary_factor", 0.0, 1.0, partial);
  out.rotary_dim = static_cast<int32_t>(defaults.head_dim * share);
  if (out.rotary_dim % 2 != 0) {
    config.fail("head_dim", "is " + std::to_string(defaults.head_dim) +
                                ", of which partial_rotary_factor rotates " +
                                std::to_string(out.rotary_dim) + " elements, which must be even");
  }
  const std::string_view key = f.either("rope_type", "type");
  out.scaling = scaling_of(f, key);
  if (out.scaling != RopeScaling::none) read_scaling(config, f, defaults, out);
  read_sections(f, out);
  return out;
}

RopeTables make_rope(const RopeConfig& c) {
  RopeTables out;
  out.spec.style = c.style;
  out.spec.rotary_dim = c.rotary_dim;
  std::copy(std::begin(c.sections), std::end(c.sections), std::begin(out.spec.sections));
  out.spec.sections_interleaved = c.sections_interleaved;
  std::vector<double> frequencies = plain_frequencies(c.theta, c.rotary_dim);
  const auto append = [&](const std::vector<double>& values) {
    for (const double f : values) out.frequencies.push_back(static_cast<float>(f));
  };
  switch (c.scaling) {
    case RopeScaling::none:
      break;
    case RopeScaling::linear:
      for (double& f : frequencies) f /= c.factor;
      break;
    case RopeScaling::dynamic:
      out.spec.dynamic_base = static_cast<float>(c.theta);
      out.spec.dynamic_factor = static_cast<float>(c.factor);
      out.spec.dynamic_length = c.original_length;
      break;
    case RopeScaling::llama3:
      scale_llama3(c, frequencies);
      break;
    case RopeScaling::yarn:
      scale_yarn(c, frequencies);
      out.spec.attention_scale = static_cast<float>(yarn_attention(c));
      break;
    case RopeScaling::longrope: {
      std::vector<double> short_ones = frequencies;
      for (size_t i = 0; i < frequencies.size(); ++i) {
        short_ones[i] /= c.short_factors[i];
        frequencies[i] /= c.long_factors[i];
      }
      append(short_ones);
      out.tables = 2;
      out.spec.short_length = c.original_length;
      out.spec.attention_scale = static_cast<float>(longrope_attention(c));
      out.spec.attention_scale_long = out.spec.attention_scale;
      break;
    }
  }
  append(frequencies);
  return out;
}

}  // namespace troupe::models
