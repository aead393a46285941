// The vector index by the number of vectors: time of an exact search beside FAISS's IndexFlatIP,
// and of its graph the time to build it, of a search, and how much of the nearest it finds. On one
// thread; vectors of 384 values around a thousand centers.
//
//   vectors_bench                    2,000, 10,000 and 100,000 vectors
//   vectors_bench --vectors=500000   so many

#include <faiss/IndexFlat.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "retrieval/vector_index.h"
#include "tests/bench/report.h"

namespace octogate::bench {
namespace {

using retrieval::VectorHit;
using retrieval::VectorIndex;

constexpr size_t kDimension = 384;
constexpr size_t kNearest = 10;

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

class Vectors {
 public:
  Vectors() {
    for (size_t i = 0; i < 1000 * kDimension; ++i) centers_.push_back(normal_(random_));
  }
  void Append(std::vector<float>* values) {
    const float* const center = &centers_[random_() % 1000 * kDimension];
    const size_t begin = values->size();
    double squares = 0;
    for (size_t i = 0; i < kDimension; ++i) {
      values->push_back(center[i] + 0.8F * normal_(random_));
      squares += double{values->back()} * double{values->back()};
    }
    for (size_t i = begin; i < values->size(); ++i) {
      (*values)[i] = static_cast<float>((*values)[i] / std::sqrt(squares));
    }
  }

 private:
  std::mt19937 random_{3};
  std::normal_distribution<float> normal_;
  std::vector<float> centers_;
};

template <typename Search>
double MedianMicros(size_t queries, Search search) {
  std::vector<double> times;
  for (size_t q = 0; q < queries; ++q) {
    const auto start = std::chrono::steady_clock::now();
    search(q);
    times.push_back(1e6 * Seconds(start));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::unique_ptr<VectorIndex> Build(const std::vector<int64_t>& ids,
                                   const std::vector<float>& values, size_t exact_up_to) {
  auto index = VectorIndex::Create({.dimension = kDimension, .exact_up_to = exact_up_to});
  if (!index.ok() || !(*index)->Add(ids, values).ok()) {
    std::cerr << "the index was not built\n";
    std::exit(1);
  }
  return *std::move(index);
}

void Measure(size_t count, Report* report) {
  std::cerr << count << " vectors\n";
  const std::string name = absl::StrCat(count, " vectors, ");
  Vectors vectors;
  std::vector<int64_t> ids;
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int64_t>(i));
    vectors.Append(&values);
  }
  const size_t queries = 200;
  std::vector<float> asked;
  for (size_t q = 0; q < queries; ++q) vectors.Append(&asked);
  const auto query = [&](size_t q) {
    return std::span<const float>(&asked[q * kDimension], kDimension);
  };

  std::vector<std::vector<VectorHit>> nearest(queries);
  const auto exact = Build(ids, values, count);
  const double exact_time =
      MedianMicros(queries, [&](size_t q) { nearest[q] = *exact->Search(query(q), kNearest); });
  faiss::IndexFlatIP flat(kDimension);
  flat.add(static_cast<faiss::Index::idx_t>(count), values.data());
  std::vector<float> products(kNearest);
  std::vector<faiss::Index::idx_t> labels(kNearest);
  const double flat_time = MedianMicros(queries, [&](size_t q) {
    flat.search(1, query(q).data(), kNearest, products.data(), labels.data());
  });
  report->Add({.name = name + "exact search, p50",
               .value = exact_time,
               .unit = "us",
               .beside = "IndexFlatIP",
               .ratio = exact_time / flat_time});

  const auto start = std::chrono::steady_clock::now();
  const auto graph = Build(ids, values, 0);
  report->Add({.name = name + "graph built", .value = Seconds(start), .unit = "s"});
  report->Add({.name = name + "graph, memory",
               .value = static_cast<double>(graph->bytes()) / (1 << 20),
               .unit = "MiB"});
  for (const size_t breadth : {64, 128, 256}) {
    size_t found = 0;
    const double time = MedianMicros(queries, [&](size_t q) {
      const auto hits = *graph->Search(query(q), kNearest, {.breadth = breadth});
      for (const VectorHit& hit : hits) {
        found += std::count(nearest[q].begin(), nearest[q].end(), hit) > 0 ? 1 : 0;
      }
    });
    const std::string graph_name = absl::StrCat(name, "graph, breadth ", breadth);
    report->Add({.name = graph_name + ", search, p50",
                 .value = time,
                 .unit = "us",
                 .beside = "exact",
                 .ratio = time / exact_time});
    report->Add({.name = graph_name + ", recall@10",
                 .value = static_cast<double>(found) / static_cast<double>(queries * kNearest),
                 .unit = ""});
  }
}

int Main(int argc, char** argv) {
  omp_set_num_threads(1);
  Report report("vectors", argc, argv);
  std::vector<size_t> counts;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    size_t count = 0;
    if (!absl::ConsumePrefix(&argument, "--vectors=")) continue;
    if (!absl::SimpleAtoi(argument, &count) || count < kNearest || count > 2'000'000) {
      std::cerr << "--vectors takes a number from 10 to 2000000\n";
      return 2;
    }
    counts.push_back(count);
  }
  if (counts.empty()) counts = {2000, 10'000, 100'000};
  for (const size_t count : counts) Measure(count, &report);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
