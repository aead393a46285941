#include <cublasLt.h>

#include <utility>

#include "kernels/cuda/stream.h"
#include "tests/gpu/vendor_matmul.h"

namespace octogate::bench {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

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

std::unique_ptr<VendorMatMul> VendorMatMul::Make(int outputs, int cols, int rows) {
  auto state = std::make_unique<State>();
  const auto n = static_cast<uint64_t>(outputs);
  const auto k = static_cast<uint64_t>(cols);
  const auto m = static_cast<uint64_t>(rows);
  // The library counts columns first: out^T [outputs x rows] = weight * x^T.
  const cublasOperation_t transposed = CUBLAS_OP_T;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found{};
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
                                     state->out, state->out, preference, 1, &found,
                                     &count) == CUBLAS_STATUS_SUCCESS;
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  if (!made || count == 0) return nullptr;
  state->algorithm = found.algo;
  return std::unique_ptr<VendorMatMul>(new VendorMatMul(std::move(state)));
}

void VendorMatMul::Enqueue(cudaStream_t stream, const void* weight, const void* x, void* out) {
  const float one = 1;
  const float zero = 0;
  const cublasStatus_t status =
      cublasLtMatmul(state_->library, state_->operation, &one, weight, state_->weight, x, state_->x,
                     &zero, out, state_->out, out, state_->out, &state_->algorithm,
                     state_->workspace, kWorkspaceBytes, stream);
  kernels::cuda::CheckCuda(status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown,
                           "multiplying with cuBLASLt");
}

}  // namespace octogate::bench
