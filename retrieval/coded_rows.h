#ifndef OCTOGATE_RETRIEVAL_CODED_ROWS_H_
#define OCTOGATE_RETRIEVAL_CODED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace octogate::retrieval {

struct RowHit {
  uint32_t row = 0;
  float score = 0;  // The dot product with the query.

  friend bool operator==(const RowHit&, const RowHit&) = default;
};

// The rows of a matrix of float32 that have the largest dot products with a vector, for some
// thousand rows in some hundred dimensions, where a graph (vector_index.h) misses too many and
// reading every row takes too long.
//
// Of each row there is a code of one bit for each value, the sign of its distance from the mean of
// all rows, and the length that the code stands for. From codes and the query in four bits for each
// value products are estimated without bias where errors are independent of the query (RaBitQ: Gao
// and Long 2024, arXiv:2405.12497, without its rotation), in about a thirtieth of the memory. Those
// with the largest estimates are then compared exactly. Estimates are sums of integers, so results
// are the same on every machine.
//
// Immutable once made: thread-safe.
class CodedRows {
 public:
  // Up to so many rows each one is compared exactly, and a search has no error.
  static constexpr size_t kExactUpTo = 1024;

  CodedRows() = default;
  // `rows` has a multiple of `dimension` > 0 finite values, row by row. Deterministic; time and
  // memory are linear in them.
  CodedRows(size_t dimension, std::vector<float> rows);

  // The `k` rows of the largest products, the largest first, of equal ones the smaller row first;
  // all where there are fewer. `compared` rows are compared exactly, at least k: the more, the more
  // of the nearest are found. `query` has dimension() values, all finite.
  std::vector<RowHit> Search(std::span<const float> query, size_t k, size_t compared) const;

  std::span<const float> Row(size_t row) const {
    return {rows_.data() + row * dimension_, dimension_};
  }
  size_t dimension() const { return dimension_; }
  size_t size() const { return size_; }
  // Of memory.
  size_t bytes() const;

 private:
  void Encode();
  // The rows with the largest estimates, in any order.
  std::vector<uint32_t> Estimated(std::span<const float> query, size_t count) const;

  size_t dimension_ = 0;
  size_t size_ = 0;
  size_t words_ = 0;  // Of 64 bits, of a code.
  std::vector<float> rows_;
  std::vector<float> mean_;
  double mean_squares_ = 0;
  // Of eight rows at a time the first word of each, then the second, and so on.
  std::vector<uint64_t> codes_;
  // Of a row x with the distance r from the mean c: x.q is about factor * (code.q) + share * (r.c)
  // for a query q of which `share` times c is left out, and what all rows have in common.
  std::vector<float> factors_;
  std::vector<float> along_;  // r.c
  std::vector<float> ones_;   // Bits of the code.
};

// For tests. Of each block of eight codes as above: the sum over planes p of 2^p times the bits
// that code and plane p share; `planes` has four times the words of a code, plane by plane. As
// CodedRows sums them on this machine, and as every machine can.
void SumSharedBits(const uint64_t* codes, size_t blocks, size_t words, const uint64_t* planes,
                   uint32_t* sums);
void PlainSumSharedBits(const uint64_t* codes, size_t blocks, size_t words, const uint64_t* planes,
                        uint32_t* sums);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_CODED_ROWS_H_
