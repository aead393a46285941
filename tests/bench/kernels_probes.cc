#include "tests/bench/kernels_probes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace octogate::bench {
namespace {

uint64_t ReadPlain(const uint8_t* from, size_t bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, from + i, 8);
    sum ^= word;
  }
  return sum;
}

double MultiplyAddScalar(int iterations) {
  volatile float start = 1.0f;
  float sums[8];
  for (float& sum : sums) sum = start;
  for (int i = 0; i < iterations; ++i) {
    for (float& sum : sums) sum = std::fma(sum, 0.999f, 0.001f);
  }
  for (const float sum : sums) start = start + sum;
  return 2.0 * 8 * iterations;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) uint64_t Fold(__m256i a, __m256i b) {
  alignas(32) uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), _mm256_xor_si256(a, b));
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}

__attribute__((target("avx2"))) uint64_t ReadAvx2(const uint8_t* from, size_t bytes, int parts) {
  const size_t part = bytes / static_cast<size_t>(parts);
  __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t i = 0; i < part; i += 64) {
    for (int p = 0; p < parts; ++p) {
      const uint8_t* at = from + static_cast<size_t>(p) * part + i;
      sums[0] = _mm256_xor_si256(sums[0], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
      sums[1] =
          _mm256_xor_si256(sums[1], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32)));
    }
  }
  return Fold(sums[0], sums[1]);
}

__attribute__((target("avx2,fma"))) double MultiplyAddAvx2(int iterations) {
  __m256 sums[12];
  for (__m256& sum : sums) sum = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f);
  const __m256 b = _mm256_set1_ps(0.001f);
  for (int i = 0; i < iterations; ++i) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  volatile float keep = _mm256_cvtss_f32(sums[0]);
  static_cast<void>(keep);
  return 2.0 * 8 * 12 * iterations;
}

__attribute__((target("avx512f"))) double MultiplyAddAvx512(int iterations) {
  __m512 sums[16];
  for (__m512& sum : sums) sum = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.999f);
  const __m512 b = _mm512_set1_ps(0.001f);
  for (int i = 0; i < iterations; ++i) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  volatile float keep = _mm512_cvtss_f32(sums[0]);
  static_cast<void>(keep);
  return 2.0 * 16 * 16 * iterations;
}

#endif

}  // namespace

uint64_t ReadInOrder(const uint8_t* from, size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return ReadAvx2(from, bytes, 1);
#endif
  return ReadPlain(from, bytes);
}

uint64_t ReadInParts(const uint8_t* from, size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return ReadAvx2(from, bytes, 4);
#endif
  return ReadPlain(from, bytes);
}

uint64_t ReadRuns(const uint8_t* from, size_t run_bytes, std::span<const uint32_t> order) {
  const size_t ahead = std::max<size_t>(1, 8192 / run_bytes);
  uint64_t sum = 0;
  for (size_t r = 0; r < order.size(); ++r) {
    const uint8_t* later = from + order[std::min(r + ahead, order.size() - 1)] * run_bytes;
    for (size_t i = 0; i < run_bytes; i += 1024) {
      const size_t bytes = std::min<size_t>(1024, run_bytes - i);
      for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(later + i + line, 0, 2);
      sum ^= ReadInOrder(from + order[r] * run_bytes + i, bytes);
    }
  }
  return sum;
}

double MultiplyAdd(const char* isa_name, int iterations) {
#if defined(__x86_64__)
  if (std::strncmp(isa_name, "avx512", 6) == 0 || std::strcmp(isa_name, "amx") == 0) {
    return MultiplyAddAvx512(iterations);
  }
  if (std::strcmp(isa_name, "avx2") == 0) return MultiplyAddAvx2(iterations);
#else
  static_cast<void>(isa_name);
#endif
  return MultiplyAddScalar(iterations);
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) double MultiplyAddPairs(int iterations) {
  __m512 sums[16];
  for (__m512& sum : sums) sum = _mm512_set1_ps(1.0f);
  const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x00003F00));  // 0.5, 0
  for (int i = 0; i < iterations; ++i) {
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, a);
  }
  for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  volatile float keep = _mm512_cvtss_f32(sums[0]);
  static_cast<void>(keep);
  return 2.0 * 32 * 16 * iterations;
}
#else
double MultiplyAddPairs(int /*iterations*/) { return 0; }
#endif

}  // namespace octogate::bench
