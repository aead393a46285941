#ifndef OCTOGATE_TESTS_ROUTER_ROUTING_DATA_H_
#define OCTOGATE_TESTS_ROUTER_ROUTING_DATA_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/calibration.h"
#include "router/lexical_head.h"

namespace octogate::router {

// Labelled texts to learn from and to measure on.
struct RoutingData {
  RoutingExamples train;
  std::vector<std::pair<std::string, int>> test;  // Text and class.
  std::vector<std::string> outside;               // Texts of no class.
};

// CLINC150 (Larson et al. 2019) with its official splits: 150 intents, out-of-scope texts as
// "none".
RoutingData ReadClinc150(const std::string& folder);

// The questions of MMLU-Pro (Wang et al. 2024), without their options: 14 subjects.
RoutingData ReadMmluPro(const std::string& folder);

// The prompts of MMLU (Hendrycks et al. 2021) with their options: 57 subjects.
RoutingData ReadMmlu57(const std::string& folder);

// Every `step`-th class alone, with its texts; the texts of no class stay. Training takes about
// 1 / step^2 of the time.
RoutingData EveryNthClass(const RoutingData& data, size_t step);

// The evaluation data's folder, where OCTOGATE_TEST_DATA names one.
std::optional<std::string> TestDataFolder();

// How a head does on the data.
struct RoutingQuality {
  double accuracy = 0;           // Of the test texts, whose best class is right.
  double accepted_right = 0;     // Of the test texts, confident and right.
  double outside_refused = 0;    // Of the texts of no class, not confident.
  double calibration_error = 0;  // Expected calibration error in 10 bins.
};
using ScoreText =
    std::function<void(const std::string& text, const std::vector<bool>& live, HeadScores* scores)>;
RoutingQuality Measure(const ScoreText& score, const RoutingData& data, double threshold);
RoutingQuality Measure(const LexicalHead& head, const RoutingData& data, double threshold);

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_ROUTING_DATA_H_
