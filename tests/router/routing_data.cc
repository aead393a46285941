#include "tests/router/routing_data.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace octogate::router {
namespace {

using nlohmann::json;

class Labels {
 public:
  size_t operator()(const std::string& name) {
    return labels_.try_emplace(name, labels_.size()).first->second;
  }

 private:
  std::map<std::string, size_t> labels_;
};

void AddTraining(size_t label, std::string text, RoutingData* data) {
  data->train.classes.resize(std::max(data->train.classes.size(), label + 1));
  data->train.classes[label].push_back(std::move(text));
}

}  // namespace

RoutingData ReadClinc150(const std::string& folder) {
  const json all = json::parse(std::ifstream(folder + "/routing/clinc150/data_full.json"));
  RoutingData data;
  Labels labels;
  for (const json& row : all.at("train")) AddTraining(labels(row.at(1)), row.at(0), &data);
  for (const json& row : all.at("oos_train")) data.train.none.push_back(row.at(0));
  for (const json& row : all.at("test")) {
    data.test.emplace_back(row.at(0), static_cast<int>(labels(row.at(1))));
  }
  for (const json& row : all.at("oos_test")) data.outside.push_back(row.at(0));
  return data;
}

RoutingData ReadMmluPro(const std::string& folder) {
  std::ifstream file(folder + "/routing/mmlu_pro/questions.jsonl");
  RoutingData data;
  Labels labels;
  for (std::string line; std::getline(file, line);) {
    const json row = json::parse(line);
    const size_t label = labels(row.at("category"));
    if (row.at("split") == "train") {
      AddTraining(label, row.at("question"), &data);
    } else {
      data.test.emplace_back(row.at("question"), static_cast<int>(label));
    }
  }
  return data;
}

RoutingData ReadMmlu57(const std::string& folder) {
  std::ifstream file(folder + "/routing/mmlu57/mmlu57.jsonl");
  RoutingData data;
  Labels labels;
  for (std::string line; std::getline(file, line);) {
    const json row = json::parse(line);
    const size_t label = labels(row.at("subject"));
    if (row.at("split") == "train") {
      AddTraining(label, row.at("prompt"), &data);
    } else {
      data.test.emplace_back(row.at("prompt"), static_cast<int>(label));
    }
  }
  return data;
}

RoutingData EveryNthClass(const RoutingData& data, size_t step) {
  RoutingData some = {
      .train = {.classes = {}, .none = data.train.none}, .test = {}, .outside = data.outside};
  for (size_t c = 0; c < data.train.classes.size(); c += step) {
    some.train.classes.push_back(data.train.classes[c]);
  }
  for (const auto& [text, label] : data.test) {
    const auto c = static_cast<size_t>(label);
    if (c % step == 0) some.test.emplace_back(text, static_cast<int>(c / step));
  }
  return some;
}

std::optional<std::string> TestDataFolder() {
  const char* folder = std::getenv("OCTOGATE_TEST_DATA");
  return folder == nullptr || *folder == '\0' ? std::nullopt : std::optional<std::string>(folder);
}

RoutingQuality Measure(const LexicalHead& head, const RoutingData& data, double threshold) {
  return Measure(ScoreText([&head](const std::string& text, const std::vector<bool>& live,
                                   HeadScores* scores) { head.Score(text, live, scores); }),
                 data, threshold);
}

RoutingQuality Measure(const ScoreText& score, const RoutingData& data, double threshold) {
  const std::vector<bool> live(data.train.classes.size(), true);
  HeadScores scores;
  const auto ask = [&](const std::string& text) {
    score(text, live, &scores);
    const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
    return std::pair(static_cast<int>(best - scores.probabilities.begin()),
                     *best * scores.live_probability);
  };
  RoutingQuality quality;
  struct Bin {
    double confidence = 0, right = 0;
  };
  std::array<Bin, 10> bins;
  const double count = static_cast<double>(data.test.size());
  for (const auto& [text, label] : data.test) {
    const auto [best, confidence] = ask(text);
    const double right = best == label ? 1 : 0;
    quality.accuracy += right / count;
    quality.accepted_right += (confidence >= threshold ? right : 0) / count;
    Bin& bin = bins[std::min<size_t>(9, static_cast<size_t>(confidence * 10))];
    bin.confidence += confidence;
    bin.right += right;
  }
  for (const Bin& bin : bins) quality.calibration_error += std::abs(bin.confidence - bin.right);
  quality.calibration_error /= count;
  for (const std::string& text : data.outside) {
    quality.outside_refused +=
        (ask(text).second < threshold ? 1.0 : 0.0) / static_cast<double>(data.outside.size());
  }
  return quality;
}

}  // namespace octogate::router
