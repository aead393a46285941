// How fast an engine reads prompts and writes answers, and how fast memory could let it.
#ifndef OCTOGATE_TESTS_BENCH_ENGINE_SPEED_H_
#define OCTOGATE_TESTS_BENCH_ENGINE_SPEED_H_

#include <filesystem>
#include <string>

#include "workers/engine/engine.h"

namespace octogate::bench {

// Bytes per second at which `threads` threads together read memory that is in no cache; the best
// of three.
double MeasureReadBandwidth(int threads);
// The same where it is read in runs of so many bytes, a multiple of 64, which follow one another at
// random, as the pages of keys and values do.
double MeasureRunBandwidth(int threads, size_t run_bytes);

// Everything that disturbs makes it slower, so the best of the repetitions counts.
struct EngineSpeed {
  double tokens_per_second = 0;    // after the last of the first tokens
  double first_token_seconds = 0;  // until the last of the first tokens
};

// `batch` requests at once, each of `prompt` tokens and answered with `answer` ids. The engine must
// not share prefixes: the prompts are the same each time.
EngineSpeed MeasureEngine(workers::Engine& engine, int batch, int prompt, int answer,
                          int repetitions);

// A folder under the system's temporary one, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// "1 thread", "2 threads".
std::string Threads(int threads);

// The text after `--only`, which the names of what is measured must hold; empty without.
std::string OnlyOf(int argc, char** argv);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_ENGINE_SPEED_H_
