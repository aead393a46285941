// Rows of logits and draws from them, as random as they may come: flat and peaked rows, forbidden
// and broken logits, draws at both ends and within rounding of where one index ends and the next
// begins.
#ifndef OCTOGATE_TESTS_KERNELS_RANDOM_DRAWS_H_
#define OCTOGATE_TESTS_KERNELS_RANDOM_DRAWS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/draw.h"
#include "kernels/elementary.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::testing {

struct RandomDraws {
  explicit RandomDraws(RandomData& random) {
    constexpr int kColumns[] = {1, 17, 255, 256, 257, 700, 4096, 9000};
    constexpr float kSpread[] = {0.01f, 1, 3, 30};
    constexpr float kSpecial[] = {NAN, INFINITY, -INFINITY};
    columns = kColumns[random.Int(0, 7)];
    const int rows = random.Int(1, 4);
    logits = random.Floats(static_cast<size_t>(rows * columns), kSpread[random.Int(0, 3)]);
    const int style = random.Int(0, 4);
    for (float& logit : logits) {
      if (style == 1) logit = std::round(logit);
      if (style == 2 && random.Int(0, 2) != 0) logit = -INFINITY;
      if (style == 3 && random.Int(0, columns) == 0) logit = kSpecial[random.Int(0, 2)];
    }
    for (int i = random.Int(0, 30); i > 0; --i) {
      constexpr float kScales[] = {0.01f, 0.7f, 1, 1.25f, 40};
      LogitDraw draw{.scale = kScales[random.Int(0, 4)], .row = random.Int(0, rows - 1)};
      constexpr double kEnds[] = {0, 1 - 0x1p-53};
      switch (random.Int(0, 3)) {
        case 0:
          draw.uniform = kEnds[random.Int(0, 1)];
          break;
        case 1:
          draw.uniform = NearAnEdge(draw, random);
          break;
        default:
          draw.uniform = random.Int(0, std::numeric_limits<int>::max() - 1) * 0x1p-31;
      }
      draws.push_back(draw);
    }
  }

  int columns = 0;
  std::vector<float> logits;  // [rows, columns]
  std::vector<LogitDraw> draws;

 private:
  // The share of the weights up to an index, some roundings off.
  double NearAnEdge(const LogitDraw& draw, RandomData& random) const {
    const float* row = logits.data() + draw.row * columns;
    float max = -INFINITY;
    for (int c = 0; c < columns; ++c) max = Maximum(row[c], max);
    std::vector<double> sums = {0};
    for (int c = 0; c < columns; ++c) {
      sums.push_back(sums.back() + double{Exp((row[c] - max) * draw.scale)});
    }
    if (!(sums.back() > 0)) return 0.5;
    const double edge = sums[static_cast<size_t>(random.Int(0, columns))] / sums.back();
    constexpr double kOff[] = {0, 0x1p-53, 0x1p-50, 0x1p-26};
    const double off = kOff[random.Int(0, 3)] * (random.Int(0, 1) == 0 ? -1 : 1);
    return std::clamp(edge + off, 0.0, 1 - 0x1p-53);
  }
};

}  // namespace octogate::kernels::testing

#endif  // OCTOGATE_TESTS_KERNELS_RANDOM_DRAWS_H_
