// What edges between small models earn: accuracy of answers to multiple-choice questions and what
// they cost in calls and tokens, measured end to end over gRPC on a gateway whose nodes replay
// recorded answers of 14 models of at most 9 billion parameters.
//
// The questions and answers are those of MMLU-Pro in the folder that OCTOGATE_TEST_DATA names.
// Everything that is fitted or chosen is fitted on and chosen by the train split: the best model,
// the expected accuracy of each model by the length of its answer (and by domain, where a lexical
// head trained on train questions says the domain), and the pairs of models of each domain.
// Everything that is reported is of the test split. The standard error of a difference between two
// policies on the same 1,500 questions is about 0.01.
//
// Policies, all at most two calls a query unless they say otherwise:
// - best single: the model with the most right answers in train.
// - pair, weighed: both models, and the answer with the greater expected accuracy.
// - cascade: the first model; the second only where the first answer's expected accuracy is below a
//   threshold; then the same weighing. A curve over thresholds.
// - routed pairs: the lexical head chooses the domain, whose pair and accuracies are its own.
// - majority of 3, 5: plain votes, three and five calls.
// - pairs of known domains, cross-validated: the routed pairs where the domain is given, on the
// train
//   split, each fifth of it answered with what the other four say.
// - choice: a choice node that learned from the outcomes of the train split, with one call, and
// with
//   up to two: a second model where the first answer's probability of being right is below `sure`.
//   Also computed without a gateway (choice_curve.h), which has to give the same; and on the train
//   split, cross-validated.
// - random and oracle bound the scale: a model drawn for each question, and a judge that always
//   picks a right answer among all 14, or among the pair's two.
//
// --validate measures only what is cross-validated on the train split: for choosing between rules.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/bench/answer_pairs.h"
#include "tests/bench/answers_validation.h"
#include "tests/bench/choice_curve.h"
#include "tests/bench/edge_overhead.h"
#include "tests/bench/recorded_answers.h"
#include "tests/bench/replay_gateway.h"
#include "tests/bench/report.h"

namespace octogate::bench {
namespace {

// At most 9 billion parameters, as their names say; the two Gemini models of the data have no
// published size.
const std::vector<std::string> kModels = {
    "Llama-2-7b-hf_5shots",
    "Meta-Llama-3-8B_5shots",
    "Meta-Llama-3_1-8B-Instruct_5shots",
    "Meta-Llama-3_1-8B_5shots",
    "Mistral-7B-Instruct-v0.1_5shots",
    "Mistral-7B-Instruct-v0.2_5shots",
    "Mistral-7B-v0.1_5shots",
    "Mistral-7B-v0.2-hf_5shots",
    "Phi-3-mini-4k-instruct_5shots",
    "Qwen1.5-7B-Chat_5shots",
    "Yi-6B_5shots",
    "Yi-6b-Chat_5shots",
    "gemma-7b_5shots",
    "mathstral-7B_5shots",
};
constexpr int kExamplesPerDomain = 400;

std::string DomainName(const std::string& domain) {
  return absl::StrReplaceAll(domain, {{" ", "-"}});
}

// Text in double quotes as YAML reads it.
std::string YamlQuoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte == 0x7F ? ' ' : c;
  }
  return quoted + "\"";
}

class Answers {
 public:
  Answers(const RecordedAnswers& answers, ReplayGateway* gateway, Report* report)
      : answers_(answers), gateway_(*gateway), report_(*report) {
    const auto in_train = [&](size_t i) { return !answers.questions[i].is_test; };
    for (size_t m = 0; m < answers.models.size(); ++m) {
      by_train_.push_back(m);
      train_.push_back(Accuracy(answers, answers.models[m], in_train));
      bins_.push_back(FitBins(answers, answers.models[m], ""));
    }
    std::stable_sort(by_train_.begin(), by_train_.end(),
                     [&](size_t a, size_t b) { return train_[a] > train_[b]; });
  }

  void Measure(bool validate_only) {
    if (validate_only) return CrossValidate(answers_, &report_);
    Flat();
    Choices();
    Domains();
    CrossValidate(answers_, &report_);
    std::vector<std::string> queries;
    for (const RecordedQuestion& question : answers_.questions) {
      if (question.is_test) queries.push_back(question.text);
    }
    MeasureEdges(&gateway_, by_train_[0], by_train_[1], queries, &report_);
  }

 private:
  void Add(const std::string& name, const Outcome& outcome) {
    const bool is_baseline = name == "best single";
    if (is_baseline) best_ = outcome;
    report_.Add({.name = name + ", accuracy",
                 .value = outcome.accuracy,
                 .unit = "share right",
                 .beside = is_baseline ? "" : "best single",
                 .ratio = is_baseline ? std::nullopt
                                      : std::optional<double>(outcome.accuracy / best_.accuracy)});
    report_.Add({.name = name + ", calls", .value = outcome.calls, .unit = "per query"});
    report_.Add({.name = name + ", output", .value = outcome.tokens, .unit = "tokens per query"});
    std::cerr << absl::StrFormat("%-34s %.4f  %.2f calls  %6.1f tokens\n", name, outcome.accuracy,
                                 outcome.calls, outcome.tokens);
  }

  void Flat() {
    const Pair pair = BestPair(answers_, "", bins_);
    std::cerr << "best single by train: " << answers_.models[by_train_[0]].name
              << "; pair: " << answers_.models[pair.first].name << ", "
              << answers_.models[pair.second].name << "\n";
    const std::string two = absl::StrCat("n", pair.first, ", n", pair.second);
    const std::vector<double> thresholds = {0.2, 0.3, 0.4, 0.45, 0.5, 0.55};
    std::string nodes;
    std::vector<std::string> reached;
    for (size_t m = 0; m < bins_.size(); ++m) {
      nodes += ReplayNode(absl::StrCat("n", m), m, bins_[m]);
      reached.push_back(absl::StrCat("n", m));
    }
    const auto members = [&](int count) {
      std::string names;
      for (int i = 0; i < count; ++i) {
        absl::StrAppend(&names, i == 0 ? "" : ", ", "n", by_train_[i]);
      }
      return names;
    };
    nodes += VoteNode("majority-3", members(3), "");
    nodes += VoteNode("majority-5", members(5), "");
    nodes += VoteNode("weighed-5", members(5), ", weight: expectedAccuracy");
    nodes += VoteNode("pair", two, ", weight: expectedAccuracy");
    for (const char* name : {"majority-3", "majority-5", "weighed-5", "pair"}) {
      reached.emplace_back(name);
    }
    for (const double threshold : thresholds) {
      reached.push_back(absl::StrFormat("cascade-%02.0f", threshold * 100));
      nodes += VoteNode(
          reached.back(), two,
          absl::StrFormat(", weight: expectedAccuracy, parallel: 1, sure: %.2f", threshold));
    }
    // Every node has to be reached from the entry; queries enter where they want to.
    nodes += "    - {name: start, tool: {tool: reply, parameters: {text: none}}}\n";
    std::string edges = "  edges:\n";
    for (const std::string& name : reached) {
      absl::StrAppend(&edges, "    - {from: start, to: ", name, ", on: error}\n");
    }
    gateway_.Apply(absl::StrCat("  entry: start\n  nodes:\n", nodes, edges));

    Add("best single", gateway_.Run(absl::StrCat("n", by_train_[0])));
    Outcome random;
    const auto in_test = [&](size_t i) { return answers_.questions[i].is_test; };
    std::vector<size_t> all;
    for (size_t m = 0; m < bins_.size(); ++m) {
      all.push_back(m);
      random.accuracy +=
          Accuracy(answers_, answers_.models[m], in_test) / static_cast<double>(bins_.size());
    }
    report_.Add(
        {.name = "random model, accuracy", .value = random.accuracy, .unit = "share right"});
    const double oracle = OracleAccuracy(answers_, all);
    report_.Add(
        {.name = "oracle over 14 models, accuracy", .value = oracle, .unit = "share right"});
    report_.Add({.name = "oracle over the pair, accuracy",
                 .value = OracleAccuracy(answers_, {pair.first, pair.second}),
                 .unit = "share right"});
    std::cerr << "random " << random.accuracy << ", oracle " << oracle << "\n";
    oracle_ = oracle;
    Add("second best single", gateway_.Run(absl::StrCat("n", by_train_[1])));
    Add("third best single", gateway_.Run(absl::StrCat("n", by_train_[2])));
    Add("majority of 3 (3 calls)", gateway_.Run("majority-3"));
    Add("majority of 5 (5 calls)", gateway_.Run("majority-5"));
    Add("weighed vote of 5 (5 calls)", gateway_.Run("weighed-5"));
    for (const double threshold : thresholds) {
      Add(absl::StrFormat("cascade at %.2f", threshold),
          gateway_.Run(absl::StrFormat("cascade-%02.0f", threshold * 100)));
    }
    pair_ = gateway_.Run("pair");
    Add("pair, weighed", pair_);
  }

  // The accuracy-cost curve.
  void Choices() {
    const ChoiceCurve curve(answers_);
    std::vector<std::string> members;
    std::string nodes;
    for (size_t m = 0; m < answers_.models.size(); ++m) {
      members.push_back(absl::StrCat("n", m));
      absl::StrAppend(&nodes, "    - {name: n", m, ", replay: {recording: m", m,
                      ".jsonl, maxTokens: 5000, price: {output: 1}}}\n");
    }
    WriteOutcomes(TrainOutcomes(answers_), members, (gateway_.root() / "outcomes.jsonl").string());
    const std::string names = absl::StrJoin(members, ", ");
    const auto choice = [&](const std::string& name, const std::string& rest) {
      absl::StrAppend(&nodes, "    - {name: ", name, ", choice: {members: [", names,
                      "], outcomes: outcomes.jsonl, same: choice, ", rest, "}}\n");
    };
    const std::vector<double> sures = {0.4, 0.5, 0.6, 0.7, 1};
    const std::vector<double> tolerances = {0.3, 0.4, 0.5, 0.6};
    choice("one", "policy: bestUnder, budget: 1000");
    for (const double sure : sures) {
      choice(absl::StrFormat("two-%.0f", 100 * sure),
             absl::StrFormat("policy: bestUnder, budget: 1000, maxCalls: 2, sure: %.2f", sure));
    }
    for (const double tolerance : tolerances) {
      choice(absl::StrFormat("cheap-%.0f", 100 * tolerance),
             absl::StrFormat("policy: cheapestAbove, tolerance: %.2f", tolerance));
    }
    nodes += "    - {name: start, tool: {tool: reply, parameters: {text: none}}}\n";
    std::string edges = "  edges:\n    - {from: start, to: one, on: error}\n";
    for (const double sure : sures) {
      absl::StrAppendFormat(&edges, "    - {from: start, to: two-%.0f, on: error}\n", 100 * sure);
    }
    for (const double tolerance : tolerances) {
      absl::StrAppendFormat(&edges, "    - {from: start, to: cheap-%.0f, on: error}\n",
                            100 * tolerance);
    }
    gateway_.Apply(absl::StrCat("  entry: start\n  nodes:\n", nodes, edges));

    Outcome two;
    const auto both = [&](const CurvePoint& computed, const std::string& node) {
      const Outcome outcome = gateway_.Run(node);
      Add(computed.name, outcome);
      if (std::abs(outcome.accuracy - computed.accuracy) > 1e-9 ||
          std::abs(outcome.calls - computed.calls) > 1e-9) {
        Fail(absl::StrFormat("%s: %.6f with %.4f calls without a gateway", computed.name,
                             computed.accuracy, computed.calls));
      }
      return outcome;
    };
    both(curve.OneCall(), "one");
    for (const double sure : sures) {
      two = both(curve.TwoCalls(sure), absl::StrFormat("two-%.0f", 100 * sure));
    }
    for (const double tolerance : tolerances) {
      both(curve.CheapestAbove(tolerance), absl::StrFormat("cheap-%.0f", 100 * tolerance));
    }
    report_.Add({.name = "choice of up to 2 calls, gain over the best single",
                 .value = 100 * (two.accuracy - best_.accuracy),
                 .unit = "points",
                 .aim = AtLeast(3)});
    report_.Add({.name = "choice of up to 2 calls, headroom to the oracle over 14 captured",
                 .value = 100 * (two.accuracy - best_.accuracy) / (oracle_ - best_.accuracy),
                 .unit = "%",
                 .aim = AtLeast(10)});
    const absl::Time begin = absl::Now();
    for (const RecordedQuestion& question : answers_.questions) {
      if (question.is_test) curve.predictor().Logits(question.text);
    }
    report_.Add({.name = "predicting all 14 members for a question",
                 .value = absl::ToDoubleMicroseconds(absl::Now() - begin) /
                          static_cast<double>(curve.test_questions()),
                 .unit = "us, mean"});
  }

  void Domains() {
    std::set<std::string> domains;
    for (const RecordedQuestion& question : answers_.questions) domains.insert(question.domain);
    std::string nodes;
    std::string members;
    std::string fallback;
    for (const std::string& domain : domains) {
      std::vector<std::vector<LengthBin>> bins;
      for (const RecordedModel& model : answers_.models) {
        bins.push_back(FitBins(answers_, model, domain));
      }
      const Pair pair = BestPair(answers_, domain, bins);
      const std::string name = DomainName(domain);
      nodes += ReplayNode(name + "-1", pair.first, bins[pair.first]);
      nodes += ReplayNode(name + "-2", pair.second, bins[pair.second]);
      std::string examples;
      int count = 0;
      for (const RecordedQuestion& question : answers_.questions) {
        if (question.is_test || question.domain != domain || count == kExamplesPerDomain) continue;
        ++count;
        absl::StrAppend(&examples, "        - ", YamlQuoted(question.text), "\n");
      }
      absl::StrAppend(&nodes, "    - name: ", name, "\n      vote: {members: [", name, "-1, ", name,
                      "-2], same: choice, weight: expectedAccuracy}\n      examples:\n", examples);
      absl::StrAppend(&members, members.empty() ? "" : ", ", name);
      if (fallback.empty() || domain == "other") fallback = name;
    }
    gateway_.Apply(
        absl::StrCat("  entry: main\n  nodes:\n    - name: main\n      router:\n"
                     "        members: [",
                     members, "]\n        fallback: ", fallback,
                     "\n        heads: [{threshold: 0, lexical: {hashBits: 18}}]\n", nodes));
    const Outcome routed = gateway_.Run("");
    Add("routed pairs", routed);
    const Outcome& best = routed.accuracy > pair_.accuracy ? routed : pair_;
    report_.Add({.name = "gain of the better of both pairs over the best single",
                 .value = 100 * (best.accuracy - best_.accuracy),
                 .unit = "points"});
  }

  const RecordedAnswers& answers_;
  ReplayGateway& gateway_;
  Report& report_;
  std::vector<size_t> by_train_;
  std::vector<double> train_;
  std::vector<std::vector<LengthBin>> bins_;
  Outcome best_;
  Outcome pair_;
  double oracle_ = 0;
};

int Main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const char* const data = std::getenv("OCTOGATE_TEST_DATA");
  Report report("answers", argc, argv);
  if (data == nullptr || *data == 0) {
    std::cerr << "answers_bench: SKIPPED: OCTOGATE_TEST_DATA names no folder with the recorded "
                 "answers (routing/mmlu_pro); nothing was measured\n";
    return report.Print();
  }
  const RecordedAnswers answers =
      ReadRecordedAnswers(std::string(data) + "/routing/mmlu_pro", kModels);
  std::cerr << answers.questions.size() << " questions, " << answers.left_out
            << " left out for having an earlier one's text\n";
  char folder[] = "/tmp/octogate-answers-XXXXXX";
  if (mkdtemp(folder) == nullptr) Fail("cannot make a folder");
  {
    ReplayGateway gateway(answers, folder);
    const bool validate_only = std::any_of(argv + 1, argv + argc, [](const char* argument) {
      return std::string_view(argument) == "--validate";
    });
    Answers(answers, &gateway, &report).Measure(validate_only);
  }
  std::filesystem::remove_all(folder);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
