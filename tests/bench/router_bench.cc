// The router on public routing suites (routing_suites.h): what each head gets right beside the
// lexical head, which is the plain linear model, how well calibrated it is, what few examples
// suffice for, and what a cascade costs and keeps.
//
// OCTOGATE_TEST_DATA names the evaluation data. The encoder, all-MiniLM-L6-v2, is looked for in the
// folder that OCTOGATE_MINILM names, or where deploy/fetch-minilm.sh puts it. Arguments:
// --suite=NAME measures that one only, --cache=FILE keeps vectors, --few=off leaves the curves of
// 5, 8 and 64 examples per class out, --cascades=off the cascades. Trains on the splits for
// training and chooses the threshold of CLINC150 on its split for validation.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/decision_quality.h"
#include "tests/bench/cached_encoder.h"
#include "tests/bench/report.h"
#include "tests/bench/routing_evaluation.h"
#include "tests/bench/routing_suites.h"

namespace octogate::bench {
namespace {

constexpr int kEpochs = 12;
// In the order of HeadsToCompare.
constexpr const char* kHeads[] = {"lexical", "encoder", "encoder with ensemble"};
constexpr size_t kEnsemble = 2;

v1::Head Lexical() {
  v1::Head head;
  head.mutable_lexical()->set_epochs(kEpochs);
  return head;
}

v1::Head Encoder(bool ensemble) {
  v1::Head head;
  head.mutable_encoder()->set_model("minilm");
  head.mutable_encoder()->set_epochs(kEpochs);
  head.mutable_encoder()->set_ensemble(ensemble);
  return head;
}

std::shared_ptr<const router::RoutingSnapshot> BuildSnapshot(
    const router::RoutingExamples& examples, const std::vector<v1::Head>& heads,
    const std::shared_ptr<CachedEncoder>& encoder,
    const router::RoutingSnapshot* previous = nullptr) {
  auto snapshot = router::RoutingSnapshot::Build(
      GraphOf(examples, heads), 1,
      {.causal = nullptr,
       .embedding = [&](std::string_view)
           -> absl::StatusOr<std::shared_ptr<router::EmbeddingModel>> { return encoder; }},
      absl::InfiniteFuture(), previous);
  if (!snapshot.ok()) {
    std::cerr << snapshot.status() << "\n";
    std::exit(1);
  }
  return *std::move(snapshot);
}

std::vector<std::string_view> TextsOf(const LabelledTexts& texts) {
  std::vector<std::string_view> views;
  for (const auto& [text, label] : texts) views.push_back(text);
  return views;
}

double Accuracy(const std::vector<HeadAnswer>& answers, const LabelledTexts& texts,
                double threshold = -1) {
  double right = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (answers[i].best == texts[i].second && answers[i].confidence >= threshold) ++right;
  }
  return 100 * right / static_cast<double>(texts.size());
}

double CalibrationError(const std::vector<HeadAnswer>& answers, const LabelledTexts& texts) {
  std::vector<router::ScoredDecision> decisions;
  for (size_t i = 0; i < texts.size(); ++i) {
    decisions.push_back({answers[i].confidence, answers[i].best == texts[i].second});
  }
  return 100 * router::ExpectedCalibrationError(decisions);
}

// The threshold under which 85 % of the validation texts that are out of scope are.
double OutOfScopeThreshold(const std::vector<HeadAnswer>& answers, const LabelledTexts& texts,
                           int none) {
  std::vector<double> outside;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].second == none) outside.push_back(answers[i].confidence);
  }
  std::sort(outside.begin(), outside.end());
  return outside[outside.size() * 85 / 100];
}

std::optional<Aim> AimOf(std::string_view suite) {
  if (suite == "mmlu_pro") return AtLeast(84);
  if (suite == "mmlu_pro_options") return AtLeast(87);
  if (suite == "mmlu57") return AtLeast(90);
  return AtLeast(96);
}

void Compare(const RoutingSuite& suite, const std::string& name,
             const router::RoutingSnapshot& snapshot, bool aims, Report* report) {
  const auto test = AskHeads(snapshot, TextsOf(suite.test));
  for (size_t h = 0; h < test.size(); ++h) {
    Figure figure{.name = absl::StrCat(name, ", ", kHeads[h], ", accuracy"),
                  .value = Accuracy(test[h], suite.test),
                  .unit = "%"};
    if (h > 0) {
      figure.beside = "lexical";
      figure.ratio = figure.value / Accuracy(test[0], suite.test);
    }
    if (h == kEnsemble && aims) figure.aim = AimOf(suite.name);
    report->Add(figure);
    report->Add({.name = absl::StrCat(name, ", ", kHeads[h], ", expected calibration error"),
                 .value = CalibrationError(test[h], suite.test),
                 .unit = "%"});
  }
  if (suite.outside.empty() || suite.validation.empty()) return;
  const auto validation = AskHeads(snapshot, TextsOf(suite.validation));
  const auto outside = AskHeads(snapshot, {suite.outside.begin(), suite.outside.end()});
  const int none = static_cast<int>(suite.train.classes.size());
  for (size_t h = 0; h < test.size(); ++h) {
    const double threshold = OutOfScopeThreshold(validation[h], suite.validation, none);
    const auto refused = std::count_if(
        outside[h].begin(), outside[h].end(),
        [threshold](const HeadAnswer& answer) { return answer.confidence < threshold; });
    const std::string at = absl::StrCat(name, ", ", kHeads[h], ", threshold of validation");
    report->Add({.name = at, .value = threshold, .unit = ""});
    report->Add({.name = at + ", in scope right and taken",
                 .value = Accuracy(test[h], suite.test, threshold),
                 .unit = "%",
                 .aim = h == kEnsemble && aims ? AimOf(suite.name) : std::nullopt});
    report->Add(
        {.name = at + ", out of scope refused",
         .value = 100.0 * static_cast<double>(refused) / static_cast<double>(outside[h].size()),
         .unit = "%",
         .aim = h == kEnsemble && aims ? std::optional<Aim>(AtLeast(80)) : std::nullopt});
  }
}

double MeanMilliseconds(const std::vector<CascadeAnswer>& answers) {
  double sum = 0;
  for (const CascadeAnswer& answer : answers) sum += answer.milliseconds;
  return sum / static_cast<double>(answers.size());
}

double Right(const std::vector<CascadeAnswer>& answers, const LabelledTexts& texts) {
  double right = 0;
  for (size_t i = 0; i < texts.size(); ++i) right += answers[i].chosen == texts[i].second ? 1 : 0;
  return 100 * right / static_cast<double>(texts.size());
}

// The cascade beside its last head alone: of all texts what is right, of some the time.
void MeasureCascade(const RoutingSuite& suite, const router::RoutingSnapshot& trained,
                    const std::shared_ptr<CachedEncoder>& encoder, Report* report) {
  v1::Head last = Encoder(true);
  last.set_threshold(0);
  const auto alone = BuildSnapshot(suite.train, {last}, encoder, &trained);
  const std::vector<std::string_view> texts = TextsOf(suite.test);
  std::vector<std::string_view> some;
  for (size_t i = 0; i < texts.size(); i += std::max<size_t>(1, texts.size() / 200)) {
    some.push_back(texts[i]);
  }
  const double alone_right = Right(AskCascade(*alone, texts), suite.test);
  encoder->set_compute_always(true);
  const double alone_time = MeanMilliseconds(AskCascade(*alone, some));
  encoder->set_compute_always(false);
  report->Add({.name = suite.name + ", ensemble alone, right", .value = alone_right, .unit = "%"});
  report->Add(
      {.name = suite.name + ", ensemble alone, mean time", .value = alone_time, .unit = "ms"});
  for (const double risk : {0.02, 0.05, 0.1, 0.15}) {
    v1::Head first = Lexical();
    first.set_risk(risk);
    const auto cascade = BuildSnapshot(suite.train, {first, last}, encoder, &trained);
    const auto answers = AskCascade(*cascade, texts);
    double taken = 0;
    double wrong = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (answers[i].head != "lexical") continue;
      ++taken;
      wrong += answers[i].chosen == suite.test[i].second ? 0 : 1;
    }
    const std::string name = absl::StrCat(suite.name, ", cascade with lexical risk ", risk);
    const double right = Right(answers, suite.test);
    encoder->set_compute_always(true);
    const double time = MeanMilliseconds(AskCascade(*cascade, some));
    encoder->set_compute_always(false);
    report->Add({.name = name + ", right",
                 .value = right,
                 .unit = "%",
                 .beside = "ensemble alone",
                 .ratio = right / alone_right,
                 .aim = AtLeast(0.95, Aim::kRatio)});
    report->Add({.name = name + ", mean time",
                 .value = time,
                 .unit = "ms",
                 .beside = "ensemble alone",
                 .ratio = time / alone_time,
                 .aim = AtMost(1.0 / 3, Aim::kRatio)});
    report->Add({.name = name + ", taken by lexical",
                 .value = 100 * taken / static_cast<double>(texts.size()),
                 .unit = "%"});
    report->Add({.name = name + ", wrong of those",
                 .value = taken == 0 ? 0 : 100 * wrong / taken,
                 .unit = "%"});
  }
}

// The prediction sets of one head: how often the right candidate is in them, how large they are
// (names of 64 at most), and how many texts they decide.
void MeasureCoverage(const RoutingSuite& suite, const std::string& name, v1::Head head,
                     const router::RoutingSnapshot& trained,
                     const std::shared_ptr<CachedEncoder>& encoder, Report* report) {
  for (const double coverage : {0.9, 0.95, 0.99}) {
    head.set_coverage(coverage);
    const auto snapshot = BuildSnapshot(suite.train, {head}, encoder, &trained);
    const auto answers = AskSets(*snapshot, TextsOf(suite.test));
    double covered = 0;
    double candidates = 0;
    double decided = 0;
    double decided_right = 0;
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::vector<int>& set = answers[i].set;
      const bool right = std::count(set.begin(), set.end(), suite.test[i].second) > 0;
      covered += right ? 1 : 0;
      candidates += static_cast<double>(set.size());
      decided += answers[i].decided ? 1 : 0;
      decided_right += answers[i].decided && right ? 1 : 0;
    }
    const auto count = static_cast<double>(answers.size());
    const std::string at =
        absl::StrCat(suite.name, ", ", name, ", coverage ", 100 * coverage, " %");
    report->Add({.name = at + ", kept",
                 .value = 100 * covered / count,
                 .unit = "%",
                 .aim = AtLeast(100 * coverage)});
    report->Add({.name = at + ", mean set size", .value = candidates / count, .unit = ""});
    report->Add({.name = at + ", decided", .value = 100 * decided / count, .unit = "%"});
    report->Add({.name = at + ", right of those",
                 .value = decided == 0 ? 0 : 100 * decided_right / decided,
                 .unit = "%"});
    if (suite.outside.empty()) continue;
    const auto outside = AskSets(*snapshot, {suite.outside.begin(), suite.outside.end()});
    double none = 0;
    double taken = 0;
    for (const SetAnswer& answer : outside) {
      none += std::count(answer.set.begin(), answer.set.end(), -1) > 0 ? 1 : 0;
      taken += answer.decided && answer.set.size() == 1 && answer.set[0] >= 0 ? 1 : 0;
    }
    const auto texts = static_cast<double>(outside.size());
    report->Add({.name = at + ", kept for out of scope", .value = 100 * none / texts, .unit = "%"});
    report->Add({.name = at + ", decided wrongly of out of scope",
                 .value = 100 * taken / texts,
                 .unit = "%"});
  }
}

std::string ArgumentOr(int argc, char** argv, std::string_view name, std::string value) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string prefix = "--" + std::string(name) + "=";
    if (argument.starts_with(prefix)) value = argument.substr(prefix.size());
  }
  return value;
}

int Main(int argc, char** argv) {
  Report report("router", argc, argv);
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  const char* named = std::getenv("OCTOGATE_MINILM");
  const std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(OCTOGATE_MODELS) / "all-MiniLM-L6-v2";
  if (data == nullptr || !std::filesystem::exists(folder / "model.safetensors")) {
    std::cerr << "OCTOGATE_TEST_DATA is not set, or " << folder
              << " holds no model (deploy/fetch-minilm.sh brings it). Nothing is measured.\n";
    return report.Print();
  }
  const auto encoder =
      std::make_shared<CachedEncoder>(folder, ArgumentOr(argc, argv, "cache", ""), /*threads=*/1);
  const std::string only = ArgumentOr(argc, argv, "suite", "");
  for (const std::string_view name : RoutingSuiteNames()) {
    if (!only.empty() && only != name) continue;
    std::cerr << name << "\n";
    const RoutingSuite suite = ReadRoutingSuite(name, data);
    report.Add({.name = suite.name + ", test texts",
                .value = static_cast<double>(suite.test.size()),
                .unit = ""});
    report.Add({.name = suite.name + ", test texts dropped, being in train",
                .value = static_cast<double>(suite.dropped),
                .unit = ""});
    const std::vector<v1::Head> heads = {Lexical(), Encoder(false), Encoder(true)};
    const absl::Time start = absl::Now();
    const auto snapshot = BuildSnapshot(suite.train, heads, encoder);
    std::cerr << "  trained: " << absl::Now() - start << "\n";
    Compare(suite, suite.name, *snapshot, /*aims=*/true, &report);
    std::cerr << "  compared: " << absl::Now() - start << "\n";
    if (ArgumentOr(argc, argv, "cascades", "on") != "off") {
      MeasureCascade(suite, *snapshot, encoder, &report);
      std::cerr << "  cascades: " << absl::Now() - start << "\n";
    }
    if (suite.name == "clinc150" || suite.name == "mmlu_pro") {
      MeasureCoverage(suite, "lexical", Lexical(), *snapshot, encoder, &report);
      MeasureCoverage(suite, "encoder with ensemble", Encoder(true), *snapshot, encoder, &report);
      std::cerr << "  coverage: " << absl::Now() - start << "\n";
    }
    if (ArgumentOr(argc, argv, "few", "on") == "off") continue;
    for (const size_t count : {5, 8, 64}) {
      const RoutingSuite few = WithFewExamples(suite, count);
      Compare(few, absl::StrCat(suite.name, ", ", count, " examples per class"),
              *BuildSnapshot(few.train, heads, encoder), /*aims=*/false, &report);
    }
    std::cerr << "  few examples: " << absl::Now() - start << "\n";
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
