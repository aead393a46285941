// Recorded answers of models to multiple-choice questions, read from a folder with questions.jsonl,
// preds.csv and output_chars.csv, and what the train split says of them.
#ifndef OCTOGATE_TESTS_BENCH_RECORDED_ANSWERS_H_
#define OCTOGATE_TESTS_BENCH_RECORDED_ANSWERS_H_

#include <cstddef>
#include <string>
#include <vector>

namespace octogate::bench {

struct RecordedQuestion {
  std::string id;
  std::string text;  // The question and its options, as a model would be asked.
  std::string domain;
  char right = 0;  // The letter of the right option.
  bool is_test = false;
};

struct RecordedModel {
  std::string name;
  // Per question; 0: no answer could be found in what the model wrote.
  std::vector<char> letters;
  std::vector<int> tokens;  // Four characters count as one, at least one.
};

struct RecordedAnswers {
  std::vector<RecordedQuestion> questions;
  std::vector<RecordedModel> models;
  int left_out = 0;  // Questions with the same text as an earlier one of their split.

  const RecordedModel& Find(const std::string& name) const;  // Aborts for an unknown one.
};

// Of the models named, in that order. Aborts with a message on standard error where the folder is
// not as expected.
RecordedAnswers ReadRecordedAnswers(const std::string& folder,
                                    const std::vector<std::string>& models);

// The train questions alone, with every `folds`th one from number `fold` on as the test split.
RecordedAnswers HoldOut(const RecordedAnswers& answers, int fold, int folds);

// Share of right answers among the questions that `use` picks by index.
template <typename Use>
double Accuracy(const RecordedAnswers& answers, const RecordedModel& model, const Use& use) {
  double right = 0;
  double all = 0;
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (!use(i)) continue;
    all += 1;
    right += model.letters[i] == answers.questions[i].right ? 1 : 0;
  }
  return all == 0 ? 0 : right / all;
}

// Shares of right answers by length, from the train split: of all questions, or of one domain's,
// whose few are drawn towards those of all.
struct LengthBin {
  int up_to_tokens = 0;
  double accuracy = 0;
};
std::vector<LengthBin> FitBins(const RecordedAnswers& answers, const RecordedModel& model,
                               const std::string& domain);

// What the bins say of an answer of that length.
double BinAccuracy(const std::vector<LengthBin>& bins, int tokens);

// Writes what a model has said of the test questions as a recording for replay nodes.
void WriteRecording(const RecordedAnswers& answers, const RecordedModel& model,
                    const std::string& file);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_RECORDED_ANSWERS_H_
