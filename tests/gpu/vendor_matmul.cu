#include <cublasLt.h>

#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "kernels/cuda/stream.h"
#include "tests/gpu/device_clock.h"
#include "tests/gpu/vendor_matmul.h"

namespace octogate::bench {

using kernels::cuda::CheckCuda;

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int kAlgorithms = 8;  // that are timed
constexpr int kSamples = 3;

struct VendorMatMul::State {
  ~State() {
    cublasLtMatrixLayoutDestroy(weight);
    cublasLtMatrixLayoutDestroy(x);
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatmulDescDestroy(operation);
    cublasLtDestroy(library);
    cudaFree(workspace);
  }

  cublasLtHandle_t library = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  void* workspace = nullptr;
};

VendorMatMul::VendorMatMul(std::unique_ptr<State> state) : state_(std::move(state)) {}
VendorMatMul::~VendorMatMul() = default;

std::unique_ptr<VendorMatMul> VendorMatMul::Make(cudaStream_t stream, int outputs, int cols,
                                                 int rows, std::span<const void* const> weights,
                                                 const void* x, void* out) {
  auto state = std::make_unique<State>();
  const auto n = static_cast<uint64_t>(outputs);
  const auto k = static_cast<uint64_t>(cols);
  const auto m = static_cast<uint64_t>(rows);
  // The library counts columns first: out^T [outputs x rows] = weight * x^T.
  const cublasOperation_t transposed = CUBLAS_OP_T;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found[kAlgorithms]{};
  int count = 0;
  const bool made =
      cudaMalloc(&state->workspace, kWorkspaceBytes) == cudaSuccess &&
      cublasLtCreate(&state->library) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulDescCreate(&state->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulDescSetAttribute(state->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                     sizeof(transposed)) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&state->weight, CUDA_R_16BF, k, n, cols) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&state->x, CUDA_R_16BF, k, m, cols) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&state->out, CUDA_R_32F, n, m, outputs) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                           &kWorkspaceBytes,
                                           sizeof(kWorkspaceBytes)) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulAlgoGetHeuristic(state->library, state->operation, state->weight, state->x,
                                     state->out, state->out, preference, kAlgorithms, found,
                                     &count) == CUBLAS_STATUS_SUCCESS;
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  if (!made || count == 0) return nullptr;
  std::unique_ptr<VendorMatMul> timed(new VendorMatMul(std::move(state)));
  double best_seconds = std::numeric_limits<double>::infinity();
  cublasLtMatmulAlgo_t best{};
  for (int i = 0; i < count; ++i) {
    if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
    timed->state_->algorithm = found[i].algo;
    const double seconds = SecondsOnDevice(
        stream,
        [&] {
          for (const void* weight : weights) timed->Enqueue(stream, weight, x, out);
        },
        kSamples);
    if (seconds >= best_seconds) continue;
    best_seconds = seconds;
    best = found[i].algo;
  }
  if (best_seconds == std::numeric_limits<double>::infinity()) return nullptr;
  timed->state_->algorithm = best;
  return timed;
}

void VendorMatMul::Enqueue(cudaStream_t stream, const void* weight, const void* x, void* out) {
  const float one = 1;
  const float zero = 0;
  const cublasStatus_t status =
      cublasLtMatmul(state_->library, state_->operation, &one, weight, state_->weight, x, state_->x,
                     &zero, out, state_->out, out, state_->out, &state_->algorithm,
                     state_->workspace, kWorkspaceBytes, stream);
  CheckCuda(status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown,
            "multiplying with cuBLASLt");
}

double VendorOperationsPerSecond(cudaStream_t stream) {
  constexpr int kSide = 8192;
  constexpr size_t kElements = size_t{kSide} * kSide;
  // Random bits: what is all the same would cost less power.
  std::mt19937_64 random{std::random_device{}()};
  std::vector<uint64_t> bits(kElements * 2 / sizeof(uint64_t));
  for (uint64_t& word : bits) word = random() & 0xBFFFBFFFBFFFBFFFu;  // magnitudes below 2
  void* weight = nullptr;
  void* x = nullptr;
  void* out = nullptr;
  for (void** memory : {&weight, &x}) {
    CheckCuda(cudaMalloc(memory, kElements * 2), "allocating");
    CheckCuda(cudaMemcpy(*memory, bits.data(), kElements * 2, cudaMemcpyHostToDevice),
              "filling memory");
  }
  CheckCuda(cudaMalloc(&out, kElements * sizeof(float)), "allocating");
  double seconds = 0;
  {
    const void* const weights[] = {weight};
    const auto product = VendorMatMul::Make(stream, kSide, kSide, kSide, weights, x, out);
    if (product != nullptr) {
      seconds = SecondsOnDevice(stream, [&] { product->Enqueue(stream, weight, x, out); });
    }
  }
  for (void* memory : {weight, x, out}) CheckCuda(cudaFree(memory), "freeing memory");
  return seconds > 0 ? 2.0 * kSide * kElements / seconds : 0;
}

}  // namespace octogate::bench
