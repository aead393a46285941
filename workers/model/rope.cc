#include "workers/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace octogate::workers {
namespace {

constexpr double kPi = std::numbers::pi;

// Llama 3.1 keeps wavelengths that fitted the original context several times,
// divides those that did not fit by `factor`, and blends in between.
float Llama3Frequency(float frequency, const RopeScaling& scaling) {
  const float context = static_cast<float>(scaling.original_max_position_embeddings);
  const float low_wavelength = context / scaling.low_freq_factor;
  const float high_wavelength = context / scaling.high_freq_factor;
  const float wavelength = static_cast<float>(2.0 * kPi) / frequency;
  if (wavelength < high_wavelength) return frequency;
  if (wavelength > low_wavelength) return frequency / scaling.factor;
  const float smooth = (context / wavelength - scaling.low_freq_factor) /
                       (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0f - smooth) * frequency / scaling.factor + smooth * frequency;
}

struct YarnRange {
  double low = 0;
  double high = 0;
};

// The pairs between which YaRN (arXiv:2309.00071, section 3.2) ramps from
// extrapolation to interpolation: those that rotate beta_fast and beta_slow
// times over the original context.
YarnRange FindYarnRange(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto pair_for_rotations = [&](double rotations) {
    return config.rotary_dim *
           std::log(scaling.original_max_position_embeddings / (rotations * 2.0 * kPi)) /
           (2.0 * std::log(static_cast<double>(config.rope_theta)));
  };
  YarnRange range = {pair_for_rotations(scaling.beta_fast), pair_for_rotations(scaling.beta_slow)};
  if (scaling.truncate) {
    range.low = std::floor(range.low);
    range.high = std::ceil(range.high);
  }
  range.low = std::max(range.low, 0.0);
  range.high = std::min(range.high, config.rotary_dim - 1.0);
  if (range.low == range.high) range.high += 0.001;
  return range;
}

}  // namespace

RopeRange RopeRangeForLength(const ModelConfig& config, int64_t num_tokens) {
  const RopeScaling& scaling = config.rope_scaling;
  return scaling.kind == RopeScaling::Kind::kLongRope &&
                 num_tokens > scaling.original_max_position_embeddings
             ? RopeRange::kLong
             : RopeRange::kShort;
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config, RopeRange range) {
  const RopeScaling& scaling = config.rope_scaling;
  const int pairs = config.rotary_dim / 2;
  const bool is_yarn = scaling.kind == RopeScaling::Kind::kYarn;
  const YarnRange yarn = is_yarn ? FindYarnRange(config) : YarnRange{};

  std::vector<float> frequencies(static_cast<size_t>(pairs));
  for (int i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dim);
    const float power = std::pow(config.rope_theta, exponent);
    float& frequency = frequencies[static_cast<size_t>(i)];
    frequency = 1.0f / power;
    switch (scaling.kind) {
      case RopeScaling::Kind::kNone:
        break;
      case RopeScaling::Kind::kLinear:
        frequency /= scaling.factor;
        break;
      case RopeScaling::Kind::kLlama3:
        frequency = Llama3Frequency(frequency, scaling);
        break;
      case RopeScaling::Kind::kLongRope: {
        const std::vector<float>& factors =
            range == RopeRange::kLong ? scaling.long_factor : scaling.short_factor;
        frequency = 1.0f / (factors[static_cast<size_t>(i)] * power);
        break;
      }
      case RopeScaling::Kind::kYarn: {
        const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(yarn.low)) /
                                          static_cast<float>(yarn.high - yarn.low),
                                      0.0f, 1.0f);
        const float extrapolation = 1.0f - ramp;
        frequency =
            1.0f / (scaling.factor * power) * (1.0f - extrapolation) + 1.0f / power * extrapolation;
        break;
      }
    }
  }
  return frequencies;
}

}  // namespace octogate::workers
