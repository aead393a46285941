// Operations of the CUDA backend on each row by itself against the reference's:
// the same bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/cuda/backend_fixture.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/random_draws.h"

namespace octogate::kernels {
namespace {

using testing::CudaBackendTest;
using testing::DeviceFloats;
using testing::Floats;
using testing::kPoison;
using testing::SameBits;
using testing::StoredMatrix;

TEST_F(CudaBackendTest, WhatIsHandedOverMayChangeAtOnce) {
  constexpr int kRows = 4;
  constexpr int kColumns = 33;
  const std::vector<int32_t> ids = {0, 1, 2, 3};
  for (int trial = 0; trial < 20; ++trial) {
    const Floats expected = Random(kRows * kColumns);
    Floats uploaded = expected;
    Floats loaded = expected;
    const auto buffer = backend_->Allocate(uploaded.size());
    backend_->Upload(uploaded, buffer->data());
    std::fill(uploaded.begin(), uploaded.end(), kPoison);
    const auto weight =
        backend_->LoadWeight({loaded.data(), DType::kF32, kRows, kColumns}, WeightFormat::kStored);
    std::fill(loaded.begin(), loaded.end(), kPoison);
    ASSERT_NE(weight, nullptr);
    Floats got(expected.size());
    backend_->Download(buffer->data(), got);
    EXPECT_TRUE(SameBits(expected, got));
    backend_->Embed(*weight, ids, buffer->data());
    backend_->Download(buffer->data(), got);
    EXPECT_TRUE(SameBits(expected, got));
  }
}

TEST_F(CudaBackendTest, RowWiseOperations) {
  for (const int columns : {1, 15, 33, 172, 1024, 30000}) {
    for (const int rows : {1, 3, columns > 1000 ? 2 : 40}) {
      const int64_t size = int64_t{rows} * columns;
      Floats x = Random(2 * size, 3);
      const Floats weight = Random(columns);
      const Floats bias = Random(columns);
      std::vector<int32_t> picks(static_cast<size_t>(rows));
      for (int32_t& pick : picks) pick = random_.Int(0, 2 * rows - 1);
      using Operation =
          std::function<void(Backend&, float* x, float* weight, float* bias, float* out)>;
      const auto same = [&](const Operation& operation) {
        return Same([&](Backend& backend) {
          DeviceFloats in(backend, x);
          DeviceFloats scale(backend, weight);
          DeviceFloats added(backend, bias);
          DeviceFloats out(backend, Floats(static_cast<size_t>(size), kPoison));
          operation(backend, in.data(), scale.data(), added.data(), out.data());
          Floats result = out.Get();
          const Floats changed = in.Get();
          result.insert(result.end(), changed.begin(), changed.end());
          return result;
        });
      };
      SCOPED_TRACE("columns " + std::to_string(columns) + " rows " + std::to_string(rows));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float*, float* out) {
        backend.RmsNorm(in, scale, rows, columns, 1e-5f, out);
      }));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float*, float* out) {
        backend.RmsNorm(in, scale, rows, columns, 1e-5f, in);
        backend.GatherRows(in, picks, columns, out);
      }));
      ASSERT_TRUE(same([&](Backend& backend, float* in, float* scale, float* added, float* out) {
        backend.LayerNorm(in, scale, added, rows, columns, 1e-5f, out);
        backend.LayerNorm(in, scale, nullptr, rows, columns, 1e-5f, in);
      }));
      x[0] = std::numeric_limits<float>::quiet_NaN();
      x[static_cast<size_t>(size)] = std::numeric_limits<float>::infinity();
      ASSERT_TRUE(same([&](Backend& backend, float* in, float*, float*, float* out) {
        backend.SiluMul(in, rows, columns, out);
      }));
      for (const bool tanh : {false, true}) {
        ASSERT_TRUE(same([&](Backend& backend, float* in, float*, float*, float* out) {
          backend.GeluMul(in, rows, columns, tanh, out);
        }));
      }
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const StoredMatrix table(x, dtype, 2 * rows, columns);
        for (const WeightFormat format : kWeightFormats) {
          ASSERT_TRUE(same([&](Backend& backend, float*, float*, float*, float* out) {
            backend.Embed(*backend.LoadWeight(table.matrix(), format), picks, out);
          })) << Name(format)
              << " of " << Name(dtype);
        }
      }
    }
  }
}

TEST_F(CudaBackendTest, RmsNormHeads) {
  for (const int head_dim : {1, 33, 64, 128}) {
    for (const int rows : {1, 3, 20}) {
      const int heads = random_.Int(1, 20);
      const int stride = heads * head_dim + random_.Int(0, 9);
      const Floats x = Random(int64_t{rows} * stride, 3);
      const Floats weight = Random(head_dim);
      ASSERT_TRUE(Same([&](Backend& backend) {
        DeviceFloats scale(backend, weight);
        DeviceFloats normed(backend, x);
        backend.RmsNormHeads(scale.data(), rows, heads, head_dim, stride, 1e-6f, normed.data());
        return normed.Get();
      })) << "head_dim "
          << head_dim << " heads " << heads << " rows " << rows;
    }
  }
}

TEST_F(CudaBackendTest, Rope) {
  for (const int half : {1, 8, 40, 100}) {
    const int head_dim = 2 * half + 2 * random_.Int(0, 3);
    const int heads = random_.Int(1, 50);
    const int stride = heads * head_dim + random_.Int(0, 7);
    Floats frequencies(static_cast<size_t>(half));
    for (int i = 0; i < half; ++i) {
      frequencies[static_cast<size_t>(i)] =
          1.0f / std::pow(10000.0f, static_cast<float>(i) / static_cast<float>(half));
    }
    for (const int rows : {1, 3, 20}) {
      std::vector<int32_t> positions(static_cast<size_t>(rows));
      for (int32_t& position : positions) position = random_.Int(0, 131072);
      const Floats x = Random(int64_t{rows} * stride);
      ASSERT_TRUE(Same([&](Backend& backend) {
        DeviceFloats rotated(backend, x);
        backend.Rope({heads, head_dim, frequencies, 1.25f}, positions, stride, rotated.data());
        return rotated.Get();
      })) << "half "
          << half << " heads " << heads << " rows " << rows;
    }
  }
}

TEST_F(CudaBackendTest, EditedLogits) {
  for (int trial = 0; trial < 20; ++trial) {
    const int columns = random_.Int(1, 900);
    const int rows = random_.Int(1, 4);
    const Floats logits = Random(int64_t{rows} * columns, 3);
    std::vector<LogitEdit> edits;
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t id = random_.Int(0, 9); id < columns; id += random_.Int(1, 9)) {
        LogitEdit edit{.row = row, .id = id};
        if (random_.Int(0, 1) == 1) edit.add = random_.Int(0, 5) == 0 ? -INFINITY : 0.7f;
        if (random_.Int(0, 1) == 1) edit.penalty = 1.3f;
        if (random_.Int(0, 1) == 1) edit.subtract = 0.1f * static_cast<float>(random_.Int(-9, 9));
        edits.push_back(edit);
      }
    }
    ASSERT_TRUE(Same([&](Backend& backend) {
      DeviceFloats device(backend, logits);
      backend.EditLogits(edits, columns, device.data());
      return device.Get();
    })) << edits.size()
        << " edits";
  }
  const float logit = -0.0f;
  EXPECT_TRUE(SameBits(Floats{Edited(logit, {})}, Floats{logit}));
}

TEST_F(CudaBackendTest, Draw) {
  for (int trial = 0; trial < 60; ++trial) {
    const testing::RandomDraws random(random_);
    ASSERT_TRUE(Same([&](Backend& backend) {
      DeviceFloats in(backend, random.logits);
      std::vector<int32_t> ids(random.draws.size(), -7);
      Floats values(random.draws.size(), kPoison);
      backend.Draw(in.data(), random.columns, random.draws, ids, values);
      for (size_t d = 0; d < ids.size(); ++d) values[d] = ids[d] < 0 ? 0 : values[d];
      Floats result(ids.begin(), ids.end());
      result.insert(result.end(), values.begin(), values.end());
      return result;
    })) << random.draws.size()
        << " draws from " << random.columns << " columns (seed " << testing::Seed() << ")";
  }
  // A remainder in a block without any weight.
  Floats logits(2 * kDrawBlock, -INFINITY);
  logits[40] = logits[41] = 2;
  const std::vector<LogitDraw> beyond = {{.uniform = 1.5}};
  DeviceFloats in(*backend_, logits);
  std::vector<int32_t> ids = {-7};
  Floats values = {kPoison};
  backend_->Draw(in.data(), 2 * kDrawBlock, beyond, ids, values);
  EXPECT_EQ(ids[0], 40);
  EXPECT_EQ(values[0], 2);
}

TEST_F(CudaBackendTest, TopK) {
  for (int trial = 0; trial < 24; ++trial) {
    constexpr int kColumns[] = {1, 17, 256, 700, 4096, 9000};
    const int columns = kColumns[random_.Int(0, 5)];
    const int rows = random_.Int(1, 3) * (trial % 8 == 0 ? 4 : 1);
    // Sometimes as many as the device ranks by itself, and more.
    const int most = trial % 6 == 0 ? 300 : trial % 6 == 1 ? 256 : 12;
    const int k = std::min(columns, trial % 6 == 0 ? most : random_.Int(0, most));
    Floats logits = Random(int64_t{rows} * columns, 3);
    if (trial % 2 == 0) {
      constexpr float kSpecial[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, 9.0f};
      for (float& value : logits) {
        if (random_.Int(0, 3) == 0) value = kSpecial[random_.Int(trial % 4 == 0 ? 0 : 3, 6)];
      }
    }
    ASSERT_TRUE(Same([&](Backend& backend) {
      DeviceFloats in(backend, logits);
      const auto size = static_cast<size_t>(rows * k);
      std::vector<int32_t> ids(size, -7);
      Floats values(size, kPoison);
      Floats log_sum_exp(static_cast<size_t>(rows), kPoison);
      backend.TopK(in.data(), rows, columns, k, ids, values, log_sum_exp);
      Floats result(ids.begin(), ids.end());
      result.insert(result.end(), values.begin(), values.end());
      result.insert(result.end(), log_sum_exp.begin(), log_sum_exp.end());
      return result;
    })) << "columns "
        << columns << " rows " << rows << " k " << k;
  }
}

}  // namespace
}  // namespace octogate::kernels
