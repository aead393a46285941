// Measures the heads of a router on labelled texts, by the decisions of a RoutingSnapshot.
#ifndef OCTOGATE_TESTS_BENCH_ROUTING_EVALUATION_H_
#define OCTOGATE_TESTS_BENCH_ROUTING_EVALUATION_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/router.h"
#include "router/routing_examples.h"

namespace octogate::bench {

// A graph whose one router, "router", has a node for each class, named "n" and the class, and the
// given heads; its fallback's examples are those of none. With defaults.
v1::Graph GraphOf(const router::RoutingExamples& examples, const std::vector<v1::Head>& heads);

// What one head said about a text.
struct HeadAnswer {
  int best = 0;           // The most probable class.
  double confidence = 0;  // Its probability, "none" taken into account.
};

// answers[h][i]: head h about texts[i], all heads asked. A failure ends the program.
std::vector<std::vector<HeadAnswer>> AskHeads(const router::RoutingSnapshot& snapshot,
                                              const std::vector<std::string_view>& texts);

// What the cascade decided about a text: a class, or -1 for the fallback.
struct CascadeAnswer {
  int chosen = -1;
  std::string head;
  double milliseconds = 0;  // Of the whole call.
};
std::vector<CascadeAnswer> AskCascade(const router::RoutingSnapshot& snapshot,
                                      const std::vector<std::string_view>& texts);

// What the first head's prediction set holds: classes, -1 for "none of these".
struct SetAnswer {
  std::vector<int> set;
  bool decided = false;  // For the one class in it, or for the fallback.
};
std::vector<SetAnswer> AskSets(const router::RoutingSnapshot& snapshot,
                               const std::vector<std::string_view>& texts);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_ROUTING_EVALUATION_H_
