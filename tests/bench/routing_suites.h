// The routing suites: labelled texts with their official or stored splits, without test texts that
// training has seen.
#ifndef OCTOGATE_TESTS_BENCH_ROUTING_SUITES_H_
#define OCTOGATE_TESTS_BENCH_ROUTING_SUITES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/routing_examples.h"

namespace octogate::bench {

using LabelledTexts = std::vector<std::pair<std::string, int>>;  // Text and class.

struct RoutingSuite {
  std::string name;
  router::RoutingExamples train;
  // For thresholds. A class of classes.size(): out of scope. Empty where the suite has none.
  LabelledTexts validation;
  LabelledTexts test;
  std::vector<std::string> outside;  // Test texts of no class.
  size_t dropped = 0;                // Test texts left out because training has them.
};

// clinc150: official splits. mmlu_pro: questions, 14 domains; mmlu_pro_options: with their options.
// mmlu57: prompts with options, 57 subjects as the 17 functional tokens of Octopus v4.
// Test texts (of both forms of MMLU-Pro: questions) equal to one of train after Normalised are
// dropped. Files of the data folder are trusted; what is amiss ends the program.
std::vector<std::string_view> RoutingSuiteNames();
RoutingSuite ReadRoutingSuite(std::string_view name, const std::string& folder);

// Letters and digits of ASCII in lower case and all other bytes over 127; the rest is one space.
std::string Normalised(std::string_view text);

// The first `count` training examples of each class, and as many of "none".
RoutingSuite WithFewExamples(const RoutingSuite& suite, size_t count);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_ROUTING_SUITES_H_
