// What this machine can do at most, for the benchmarks to be measured against
// in the same run.

#ifndef OCTOGATE_TESTS_BENCH_KERNELS_PROBES_H_
#define OCTOGATE_TESTS_BENCH_KERNELS_PROBES_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace octogate::bench {

// Reads the bytes once, in order and in four interleaved parts; the sums only
// keep the compiler from leaving the reads out. bytes is a multiple of 1024.
uint64_t ReadInOrder(const uint8_t* from, size_t bytes);
uint64_t ReadInParts(const uint8_t* from, size_t bytes);

// Reads runs of as many bytes, a multiple of 64, in this order of their numbers, asking for each
// line some time before it is read.
uint64_t ReadRuns(const uint8_t* from, size_t run_bytes, std::span<const uint32_t> order);

// Fused multiply-adds in registers, as wide as `isa_name` ("avx512", "avx2";
// otherwise the scalar fma of the C library) has them. Returns the floating
// point operations done.
double MultiplyAdd(const char* isa_name, int iterations);
// Those of BF16 pairs, for CPUs with AVX512_BF16.
double MultiplyAddPairs(int iterations);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_KERNELS_PROBES_H_
