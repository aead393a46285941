// What linking saves of prompts, on the schemas of BIRD's mini-dev.
#ifndef OCTOGATE_TESTS_BENCH_SQL_PROMPTS_H_
#define OCTOGATE_TESTS_BENCH_SQL_PROMPTS_H_

#include <filesystem>

#include "absl/status/status.h"
#include "tests/bench/report.h"

namespace octogate::bench {

// Links every question, alone and with its evidence, and reports the mean tokens of links beside
// those of whole schemas. `text2sql`: of the evaluation data. NOT_FOUND for files that are not
// there.
absl::Status MeasurePrompts(const std::filesystem::path& text2sql, Report* report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_PROMPTS_H_
