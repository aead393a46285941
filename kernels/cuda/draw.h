// Drawing from rows of logits (kernels/draw.h) on the device: a row itself stays there.

#ifndef OCTOGATE_KERNELS_CUDA_DRAW_H_
#define OCTOGATE_KERNELS_CUDA_DRAW_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/memory.h"
#include "kernels/cuda/stream.h"
#include "kernels/draw.h"

namespace octogate::kernels::cuda {

// Bytes of workspace for each draw.
size_t DrawWorkspaceBytes(int columns);

// Backend::Draw; draws, ids and values [count] are on the device. The workspace has
// DrawWorkspaceBytes for each draw.
void LaunchDraw(Stream stream, const float* logits, int columns, const LogitDraw* draws, int count,
                const Workspace& workspace, int32_t* ids, float* values);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DRAW_H_
