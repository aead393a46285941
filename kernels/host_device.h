// Marks inline functions that GPU kernels use as well as the host.

#ifndef OCTOGATE_KERNELS_HOST_DEVICE_H_
#define OCTOGATE_KERNELS_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define OCTOGATE_HOST_DEVICE __host__ __device__
#else
#define OCTOGATE_HOST_DEVICE
#endif

#endif  // OCTOGATE_KERNELS_HOST_DEVICE_H_
