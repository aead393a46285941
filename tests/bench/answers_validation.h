// What policies earn on the train questions of recorded answers, cross-validated.
#ifndef OCTOGATE_TESTS_BENCH_ANSWERS_VALIDATION_H_
#define OCTOGATE_TESTS_BENCH_ANSWERS_VALIDATION_H_

#include "tests/bench/recorded_answers.h"
#include "tests/bench/report.h"

namespace octogate::bench {

// Without a gateway: each fifth of the train split is answered with what the other four say, the
// choice of models included. Six times the questions of the test split.
void CrossValidate(const RecordedAnswers& answers, Report* report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_ANSWERS_VALIDATION_H_
