#include "workers/speculation/rank_tree.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <queue>
#include <string>
#include <string_view>
#include <utility>

namespace octogate::workers {
namespace {

using Path = std::vector<int32_t>;

// Shallow first, then by ranks: a breadth-first order.
bool ComesBefore(const Path& a, const Path& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

// All prefixes of a path are there, too.
RankTree FromPaths(std::vector<Path> paths) {
  std::sort(paths.begin(), paths.end(), ComesBefore);
  std::map<Path, int32_t> places;
  RankTree tree;
  for (Path& path : paths) {
    const int32_t rank = path.back();
    const Path parent(path.begin(), path.end() - 1);
    tree.push_back({parent.empty() ? -1 : places.at(parent), rank});
    places.emplace(std::move(path), static_cast<int32_t>(tree.size()) - 1);
  }
  return tree;
}

}  // namespace

RankTree PaperRankTree() {
  // Each digit is a rank.
  constexpr std::string_view kPaths[] = {
      "0",     "1",     "2",     "3",     "4",     "5",     "6",     "7",      "00",     "01",
      "02",    "03",    "04",    "05",    "06",    "07",    "10",    "11",     "12",     "13",
      "20",    "21",    "22",    "30",    "31",    "40",    "50",    "60",     "70",     "000",
      "001",   "002",   "003",   "004",   "005",   "006",   "007",   "010",    "011",    "012",
      "020",   "021",   "030",   "040",   "050",   "060",   "070",   "100",    "101",    "110",
      "200",   "300",   "400",   "500",   "0000",  "0001",  "0002",  "0003",   "0004",   "0010",
      "0011",  "0020",  "0030",  "0040",  "0100",  "0200",  "1000",  "2000",   "3000",   "00000",
      "00001", "00002", "00010", "00020", "00100", "01000", "10000", "000000", "000001", "000100"};
  std::vector<Path> paths;
  for (std::string_view digits : kPaths) {
    Path path;
    for (char digit : digits) path.push_back(digit - '0');
    paths.push_back(std::move(path));
  }
  return FromPaths(std::move(paths));
}

RankTree PlanRankTree(std::span<const std::vector<float>> rates, int nodes) {
  struct Candidate {
    double expected = 0;
    Path path;
  };
  const auto is_worse = [](const Candidate& a, const Candidate& b) {
    return a.expected != b.expected ? a.expected < b.expected : ComesBefore(b.path, a.path);
  };
  std::priority_queue<Candidate, std::vector<Candidate>, decltype(is_worse)> open(is_worse);
  const auto open_children = [&](double expected, const Path& path) {
    if (path.size() >= rates.size()) return;
    const std::vector<float>& ranks = rates[path.size()];
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (!(ranks[rank] > 0)) continue;
      Candidate child{expected * double{std::min(ranks[rank], 1.0F)}, path};
      child.path.push_back(static_cast<int32_t>(rank));
      open.push(std::move(child));
    }
  };
  open_children(1, {});
  std::vector<Path> paths;
  while (static_cast<int>(paths.size()) < nodes && !open.empty()) {
    const Candidate best = open.top();
    open.pop();
    open_children(best.expected, best.path);
    paths.push_back(best.path);
  }
  return FromPaths(std::move(paths));
}

}  // namespace octogate::workers
