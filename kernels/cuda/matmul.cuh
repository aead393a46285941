// Kernel of matmul.h. A block multiplies kBlockOutputs outputs of the weight with
// kRowTiles tiles of rows, over one chain of columns or all of them in turn.
// Weights and inputs come through a ring of stages in shared memory, filled by
// asynchronous copies; as both lie in the order of the operands, a lane reads its
// operands as whole vectors, without bank conflicts and without ldmatrix.
//
// Where blocks hold one chain each they leave its sums in memory, and the last
// one of an output's blocks to finish adds them in order.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_CUH_
#define OCTOGATE_KERNELS_CUDA_MATMUL_CUH_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {

inline constexpr int kBlockGroups = 4;
inline constexpr int kBlockOutputs = kBlockGroups * kGroupOutputs;
inline constexpr int kMaxStages = 4;

template <PackedFormat kFormatOf, InputRounding kRoundingOf, int kOutTilesOf, int kRowTilesOf>
struct MatMulConfig {
  static constexpr PackedFormat kFormat = kFormatOf;
  static constexpr InputRounding kRounding = kRoundingOf;
  static constexpr int kOutTiles = kOutTilesOf;  // of a warp; divides kGroupTiles
  static constexpr int kRowTiles = kRowTilesOf;
  // Few rows never need a block that does all chains: there are enough blocks.
  static constexpr bool kMayFold = kRowTiles >= 4;

  using Operand = std::conditional_t<kFormat == PackedFormat::kBf16, Bf16, F16>;
  static constexpr int kGroupWarps = kGroupTiles / kOutTiles;
  static constexpr int kThreads = kBlockGroups * kGroupWarps * kWarpThreads;
  static constexpr int kStageSteps = StageColumns(kFormat) / kStepColumns;
  static constexpr int kInputStepBytes = 32 * InputLaneBytes(kRounding);
  static constexpr int kInputTileBytes = kStageSteps * kInputStepBytes;
  static constexpr int kWeightStageBytes = kBlockGroups * UnitBytes(kFormat);
  static constexpr int kStageBytes = kWeightStageBytes + kRowTiles * kInputTileBytes;
  static constexpr int kFitting = static_cast<int>(kMaxSharedBytes) / kStageBytes;
  static constexpr int kStages = kFitting < kMaxStages ? kFitting : kMaxStages;
  static_assert(kStages >= 3);
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

struct MatMulArguments {
  const uint8_t* weight;
  PackedShape shape;
  const float* row_scales;   // [shape.rows] where HasRowScales(format)
  const uint8_t* input;      // packed
  const float* row_factors;  // [rows]; not for BF16
  const float* bias;         // [shape.rows] or null
  int rows;
  bool accumulate;
  float* out;
  int out_stride;
  bool fold;        // a block does all chains
  float* partials;  // [chain][row][output, filled up to whole blocks]
  int* counters;    // zeros, one for each block of outputs and rows
  bool operator==(const MatMulArguments&) const = default;
};

// Four 8-bit codes that PositionOfCode put into a word, as two pairs of F16.
template <PackedFormat kFormat>
OCTOGATE_DEVICE void WidenBytes(uint32_t word, uint32_t& even, uint32_t& odd) {
  if constexpr (kFormat == PackedFormat::kFp8) {
    // E4M3's bits in the place of F16's: 2^-8 times the value.
    const uint32_t high = word << 8;
    even = (high & 0x80008000u) | ((high & 0x7F007F00u) >> 1);
    odd = (word & 0x80008000u) | ((word & 0x7F007F00u) >> 1);
  } else {
    // The bits of 1024 + n are 0x6400 + n.
    constexpr uint32_t k1152 = 0x64806480u;  // 1024 + 128, twice
    even = SubtractF16x2((word & 0x00FF00FFu) | 0x64006400u, k1152);
    odd = SubtractF16x2(((word >> 8) & 0x00FF00FFu) | 0x64006400u, k1152);
  }
}

// The left operands of two adjacent steps of one tile; `tile` is this lane's first
// vector of it, `pair` counts the stage's pairs of steps.
template <PackedFormat kFormat>
OCTOGATE_DEVICE void LoadWeightPair(const uint8_t* tile, int pair, uint32_t (&a)[2][4]) {
  if constexpr (BitsOf(kFormat) == 16) {
    for (int s = 0; s < 2; ++s) {
      const Vector16 v = LoadVector(tile + (2 * pair + s) * kVectorTileBytes);
      for (int i = 0; i < 4; ++i) a[s][i] = v.words[i];
    }
  } else if constexpr (BitsOf(kFormat) == 8) {
    const Vector16 v = LoadVector(tile + pair * kVectorTileBytes);
    for (int s = 0; s < 2; ++s) {
      WidenBytes<kFormat>(v.words[2 * s], a[s][0], a[s][1]);
      WidenBytes<kFormat>(v.words[2 * s + 1], a[s][2], a[s][3]);
    }
  } else {
    constexpr uint32_t k1032 = 0x64086408u;  // 1024 + 8, twice
    const Vector16 v = LoadVector(tile);
    for (int s = 0; s < 2; ++s) {
      const uint32_t word = pair == 0 ? v.words[s] : v.words[2 + s];
      for (int i = 0; i < 4; ++i) {
        a[s][i] = SubtractF16x2(((word >> (4 * i)) & 0x000F000Fu) | 0x64006400u, k1032);
      }
    }
  }
}

template <typename Config>
class MatMulBlock {
 public:
  OCTOGATE_DEVICE_MEMBER explicit MatMulBlock(const MatMulArguments& a) : a_(a) {
    const int row_blocks = (a.rows + kRows - 1) / kRows;
    const int chains = a.fold ? 1 : Chains(a.shape.cols);
    row_block_ = BlockX() % row_blocks;
    row_blocks_ = row_blocks;
    chain_ = BlockX() / row_blocks % chains;
    out_block_ = BlockX() / row_blocks / chains;
    chain_stages_ = ChainColumns(a.shape.cols) / StageColumns(kFormat);
    first_stage_ = chain_ * chain_stages_;
    const int left = a.shape.stages() - first_stage_;
    stages_ = a.fold || left < chain_stages_ ? left : chain_stages_;
  }

  OCTOGATE_DEVICE_MEMBER void Run() {
    for (int stage = 0; stage < Config::kStages - 1; ++stage) Fetch(stage);
    const int in_chain = a_.fold ? chain_stages_ : stages_;
    for (int first = 0; first < stages_; first += in_chain) {
      const int end = first + in_chain < stages_ ? first + in_chain : stages_;
      for (int stage = first; stage < end; ++stage) {
        CopyAsyncWait<Config::kStages - 2>();
        Barrier();  // the stage is there, and the last one has been read
        Fetch(stage + Config::kStages - 1);
        Multiply(SharedMemory<uint8_t>() + stage % Config::kStages * Config::kStageBytes);
      }
      if constexpr (Config::kMayFold) EndChain(first == 0);
    }
    if (a_.fold || Chains(a_.shape.cols) == 1) return FinishAll();
    StorePartials();
    if (IsLastChain()) AddPartials();
  }

 private:
  static constexpr PackedFormat kFormat = Config::kFormat;
  static constexpr int kRows = Config::kRowTiles * kTileRows;

  // Starts the copies of a stage of this block, and closes their group, which is
  // empty behind the last stage.
  OCTOGATE_DEVICE_MEMBER void Fetch(int stage) {
    if (stage < stages_) {
      uint8_t* to = SharedMemory<uint8_t>() + stage % Config::kStages * Config::kStageBytes;
      FetchWeight(first_stage_ + stage, to);
      FetchInput(first_stage_ + stage, to + Config::kWeightStageBytes);
    }
    CopyAsyncCommit();
  }

  OCTOGATE_DEVICE_MEMBER void FetchWeight(int stage, uint8_t* to) {
    const int in_block = Warp() / Config::kGroupWarps;
    const int group = out_block_ * kBlockGroups + in_block;
    const bool valid = group < a_.shape.groups();
    const uint8_t* unit = a_.weight +
                          static_cast<size_t>(valid ? group : 0) * a_.shape.group_bytes() +
                          static_cast<size_t>(stage) * UnitBytes(kFormat);
    const int first = (Warp() % Config::kGroupWarps * kWarpThreads + Lane()) * kVectorBytes;
    constexpr int kStride = Config::kGroupWarps * kWarpThreads * kVectorBytes;
#pragma unroll
    for (int at = 0; at < UnitBytes(kFormat); at += kStride) {
      if (UnitBytes(kFormat) % kStride != 0 && first + at >= UnitBytes(kFormat)) break;
      CopyAsync(to + in_block * UnitBytes(kFormat) + first + at, unit + first + at, valid);
    }
  }

  OCTOGATE_DEVICE_MEMBER void FetchInput(int stage, uint8_t* to) {
    const int64_t tile_bytes =
        static_cast<int64_t>(PaddedColumns(a_.shape.cols) / kStepColumns) * Config::kInputStepBytes;
    constexpr int kBytes = Config::kRowTiles * Config::kInputTileBytes;
    constexpr int kStride = Config::kThreads * kVectorBytes;
    constexpr int kRowBytes = Config::kInputStepBytes / kTileRows;
#pragma unroll
    for (int start = 0; start < kBytes; start += kStride) {
      const int at = start + ThreadIndex() * kVectorBytes;
      if (kBytes % kStride != 0 && at >= kBytes) break;
      const int tile = row_block_ * Config::kRowTiles + at / Config::kInputTileBytes;
      const int in_tile = at % Config::kInputTileBytes;
      const bool valid = tile * kTileRows + in_tile % Config::kInputStepBytes / kRowBytes < a_.rows;
      const uint8_t* from = a_.input + tile * tile_bytes +
                            static_cast<int64_t>(stage) * Config::kInputTileBytes + in_tile;
      CopyAsync(to + at, valid ? from : a_.input, valid);
    }
  }

  OCTOGATE_DEVICE_MEMBER void Multiply(const uint8_t* stage) {
    const uint8_t* unit = stage + Warp() / Config::kGroupWarps * UnitBytes(kFormat);
    const int first_tile = Warp() % Config::kGroupWarps * Config::kOutTiles;
    constexpr int kTileBytes = StageVectors(kFormat) * kVectorTileBytes;
    constexpr bool kScaled = HasGroupScales(kFormat);
    // Scaled sums of many rows leave no registers for more than a pair at a time.
    [[maybe_unused]] constexpr int kPairs =
        kScaled && Config::kRowTiles > 4 ? 1 : Config::kStageSteps / 2;
#pragma unroll kPairs
    for (int pair = 0; pair < Config::kStageSteps / 2; ++pair) {
      uint32_t a[Config::kOutTiles][2][4];
      [[maybe_unused]] float scales[Config::kOutTiles][2];
#pragma unroll
      for (int t = 0; t < Config::kOutTiles; ++t) {
        LoadWeightPair<kFormat>(unit + (first_tile + t) * kTileBytes + Lane() * kVectorBytes, pair,
                                a[t]);
        if constexpr (kScaled) {
          const uint32_t both = *reinterpret_cast<const uint32_t*>(
              unit + kGroupTiles * kTileBytes + (first_tile + t) * TileScaleBytes(kFormat) +
              (Lane() / 4 * StageScaleGroups(kFormat) + pair) * 4);
          scales[t][0] = ToFloat(F16{static_cast<uint16_t>(both & 0xFFFFu)});
          scales[t][1] = ToFloat(F16{static_cast<uint16_t>(both >> 16)});
        }
      }
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
        const uint8_t* input = stage + Config::kWeightStageBytes + r * Config::kInputTileBytes +
                               2 * pair * Config::kInputStepBytes +
                               Lane() * InputLaneBytes(Config::kRounding);
        if constexpr (kScaled) {
          float sums[Config::kOutTiles][4] = {};
          MultiplyPair(a, input, [&](int t) -> float(&)[4] { return sums[t]; });
#pragma unroll
          for (int t = 0; t < Config::kOutTiles; ++t) {
            for (int i = 0; i < 4; ++i) {
              sums_[t][r][i] = std::fma(sums[t][i], scales[t][i / 2], sums_[t][r][i]);
            }
          }
        } else {
          MultiplyPair(a, input, [&](int t) -> float(&)[4] { return sums_[t][r]; });
        }
      }
    }
  }

  // Adds two steps of all tiles to the sums that sums_of(tile) names.
  template <typename SumsOf>
  OCTOGATE_DEVICE_MEMBER void MultiplyPair(const uint32_t (&a)[Config::kOutTiles][2][4],
                                           const uint8_t* input, const SumsOf& sums_of) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      uint32_t b[2][2];
      if constexpr (Config::kRounding == InputRounding::kSplit) {
        const Vector16 v = LoadVector(input + s * Config::kInputStepBytes);
        b[0][0] = v.words[0];
        b[0][1] = v.words[1];
        b[1][0] = v.words[2];
        b[1][1] = v.words[3];
      } else {
        const auto* words = reinterpret_cast<const uint32_t*>(input + s * Config::kInputStepBytes);
        b[0][0] = words[0];
        b[0][1] = words[1];
      }
      constexpr int kParts = Config::kRounding == InputRounding::kSplit ? 2 : 1;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int t = 0; t < Config::kOutTiles; ++t) {
          Mma<typename Config::Operand>(sums_of(t), a[t][s], b[part]);
        }
      }
    }
  }

  // Calls f(sum, row, output) for this thread's sums that are inside the result.
  template <typename Sums, typename F>
  OCTOGATE_DEVICE_MEMBER void ForEach(const Sums& sums, const F& f) {
#pragma unroll
    for (int t = 0; t < Config::kOutTiles; ++t) {
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int n = out_block_ * kBlockOutputs +
                        (Warp() * Config::kOutTiles + t) * kTileOutputs + i / 2 * 8 + Lane() / 4;
          const int row = row_block_ * kRows + r * kTileRows + Lane() % 4 * 2 + i % 2;
          if (n < a_.shape.rows && row < a_.rows) f(sums[t][r][i], row, n);
        }
      }
    }
  }

  OCTOGATE_DEVICE_MEMBER void EndChain(bool first) {
#pragma unroll
    for (int t = 0; t < Config::kOutTiles; ++t) {
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          totals_[t][r][i] = first ? sums_[t][r][i] : totals_[t][r][i] + sums_[t][r][i];
          sums_[t][r][i] = 0;
        }
      }
    }
  }

  OCTOGATE_DEVICE_MEMBER void Finish(float sum, int row, int n) {
    if constexpr (kFormat != PackedFormat::kBf16) sum *= a_.row_factors[row];
    if constexpr (kFormat == PackedFormat::kFp8) {
      sum *= a_.row_scales[n] * kFloat8Shift;
    } else if constexpr (HasRowScales(kFormat)) {
      sum *= a_.row_scales[n];
    }
    float* out = a_.out + static_cast<int64_t>(row) * a_.out_stride + n;
    *out = FinishDot(sum, a_.bias, n, a_.accumulate, a_.accumulate ? *out : 0.0f);
  }

  // What EndChain has left, or the only chain's sums.
  template <typename F>
  OCTOGATE_DEVICE_MEMBER void ForEachResult(const F& f) {
    if constexpr (Config::kMayFold) {
      ForEach(totals_, f);
    } else {
      ForEach(sums_, f);
    }
  }

  OCTOGATE_DEVICE_MEMBER void FinishAll() {
    ForEachResult([&](float sum, int row, int n) { Finish(sum, row, n); });
  }

  OCTOGATE_DEVICE_MEMBER int64_t PartialIndex(int chain, int row, int n) const {
    const int64_t padded = static_cast<int64_t>(RoundUp(a_.shape.rows, kBlockOutputs));
    return (static_cast<int64_t>(chain) * a_.rows + row) * padded + n;
  }

  OCTOGATE_DEVICE_MEMBER void StorePartials() {
    ForEachResult(
        [&](float sum, int row, int n) { a_.partials[PartialIndex(chain_, row, n)] = sum; });
  }

  // Whether all other chains of this block's outputs have been stored.
  OCTOGATE_DEVICE_MEMBER bool IsLastChain() {
    auto* before = SharedMemory<int>();
    DeviceFence();
    Barrier();  // all sums are stored, and nobody reads a stage any more
    if (ThreadIndex() == 0) {
      *before = AtomicIncrement(a_.counters + out_block_ * row_blocks_ + row_block_);
    }
    Barrier();
    DeviceFence();
    return *before == Chains(a_.shape.cols) - 1;
  }

  OCTOGATE_DEVICE_MEMBER void AddPartials() {
    const int chains = Chains(a_.shape.cols);
    for (int i = ThreadIndex(); i < kRows * kBlockOutputs; i += Config::kThreads) {
      const int n = out_block_ * kBlockOutputs + i % kBlockOutputs;
      const int row = row_block_ * kRows + i / kBlockOutputs;
      if (row >= a_.rows) break;
      if (n >= a_.shape.rows) continue;
      float partials[kMaxChains];
#pragma unroll
      for (int c = 0; c < kMaxChains; ++c) {
        partials[c] = c < chains ? a_.partials[PartialIndex(c, row, n)] : 0.0f;
      }
      float sum = partials[0];
#pragma unroll
      for (int c = 1; c < kMaxChains; ++c) sum = c < chains ? sum + partials[c] : sum;
      Finish(sum, row, n);
    }
  }

  const MatMulArguments& a_;
  int row_block_;
  int row_blocks_;
  int chain_;
  int out_block_;
  int chain_stages_;
  int first_stage_;
  int stages_;
  float sums_[Config::kOutTiles][Config::kRowTiles][4] = {};  // of the chain
  float totals_[Config::kMayFold ? Config::kOutTiles : 1][Config::kMayFold ? Config::kRowTiles : 1]
               [4];  // of the chains that have ended
};

template <typename Config>
OCTOGATE_KERNEL void OCTOGATE_LAUNCH_BOUNDS(Config::kThreads, 1) MatMulKernel(MatMulArguments a) {
  MatMulBlock<Config>(a).Run();
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_CUH_
