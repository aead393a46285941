// A model that has its answers prepared: what a benchmark of everything around a model needs.
//
// It is no model and has no skill. To a grammar it keeps as far as it can without being one: what
// the grammar does not hold, it cannot write.
#ifndef OCTOGATE_TESTS_BENCH_SQL_PLAYER_H_
#define OCTOGATE_TESTS_BENCH_SQL_PLAYER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "gateway/model_client.h"
#include "workers/grammar/compiled_grammar.h"

namespace octogate::bench {

// One answer of the player.
struct PlayedAnswer {
  size_t prompt_bytes = 0;  // of the last message
  bool limited = false;     // there was a grammar
  // Of the first text that it wanted to write: whether the grammar holds it.
  bool held = true;
  std::string text;
};

// Thread-safe.
class SqlPlayer : public std::enable_shared_from_this<SqlPlayer> {
 public:
  // For each of a query's answers in turn the texts that it would write, the likeliest first; the
  // last answer is repeated. The first text that the grammar holds as a whole is written; where it
  // holds none, the first text as far as it goes: then the answer is cut, as by its length.
  using Script = std::vector<std::vector<std::string>>;

  // What comes next; forgets the answers before.
  void Play(Script script) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<PlayedAnswer> played() const ABSL_LOCKS_EXCLUDED(mutex_);

  // A client of this player, which may outlive it.
  std::unique_ptr<gateway::ModelClient> NewClient();

  absl::Status Answer(const v1::WorkerGenerateRequest& request,
                      v1::WorkerGenerateResponse* response) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<std::shared_ptr<const workers::CompiledGrammar>> Compile(
      const v1::WorkerGrammar& grammar) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  Script script_ ABSL_GUARDED_BY(mutex_);
  std::vector<PlayedAnswer> played_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const workers::CompiledGrammar>> grammars_
      ABSL_GUARDED_BY(mutex_);
};

// How many bytes of the text the grammar follows: all of them where it holds the whole text, one
// less where more would have to come.
size_t FollowedBytes(const std::shared_ptr<const workers::CompiledGrammar>& grammar,
                     const std::string& text);

// The grammar over bytes.
absl::StatusOr<std::shared_ptr<const workers::CompiledGrammar>> CompileForBytes(
    const v1::WorkerGrammar& grammar);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_PLAYER_H_
