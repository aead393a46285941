#ifndef OCTOGATE_ROUTER_RANDOM_ORDER_H_
#define OCTOGATE_ROUTER_RANDOM_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace octogate::router {

// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere, which the standard
// library's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

inline void Shuffle(Random* random, std::vector<uint32_t>* order) {
  for (size_t i = order->size(); i > 1; --i) {
    std::swap((*order)[i - 1], (*order)[random->Next() % i]);
  }
}

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_RANDOM_ORDER_H_
