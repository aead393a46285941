// What a grammar adds to the steps of an engine on the CPU.
#ifndef OCTOGATE_TESTS_BENCH_GRAMMAR_SHARE_H_
#define OCTOGATE_TESTS_BENCH_GRAMMAR_SHARE_H_

#include <memory>
#include <string>

#include "tests/bench/report.h"
#include "workers/grammar/compiled_grammar.h"

namespace octogate::bench {

// Adds, for random models of two sizes with the grammar's vocabulary, the share of the time of
// decoding that masks, their application and the matcher's steps take. Texts are sampled, and
// `grammar` may have seen nothing before.
void MeasureShareOfSteps(const std::string& name,
                         const std::shared_ptr<const workers::CompiledGrammar>& grammar,
                         Report& report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_GRAMMAR_SHARE_H_
