// Grammars of the worker protocol as grammars of the library.

#ifndef OCTOGATE_WORKERS_SERVER_WORKER_GRAMMAR_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_GRAMMAR_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "octogate/v1/worker.pb.h"
#include "workers/grammar/grammar.h"

namespace octogate::workers {

inline constexpr size_t kMaxGrammarBytes = size_t{256} << 10;  // of a schema, of rules
inline constexpr size_t kMaxSqlNameBytes = size_t{1} << 20;    // of all tables and columns

// Reads a grammar. INVALID_ARGUMENT for one that says nothing or is malformed, with the line and
// column or the place in the schema, and for what of JSON Schema is not supported;
// RESOURCE_EXHAUSTED for one that is too large. That it matches any text is not checked.
absl::StatusOr<Grammar> ParseWorkerGrammar(const v1::WorkerGrammar& grammar);

// Equal for grammars that mean the same by their form: the order of identifiers does not count.
std::string WorkerGrammarKey(const v1::WorkerGrammar& grammar);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_GRAMMAR_H_
