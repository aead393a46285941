// llama.cpp (Gerganov et al.) on the same weights and threads in the same run, for benchmarks of
// the engine: llama_cpp_speed.py beside the benchmark, in a process of its own.
#ifndef OCTOGATE_TESTS_BENCH_LLAMA_CPP_H_
#define OCTOGATE_TESTS_BENCH_LLAMA_CPP_H_

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace octogate::bench {

struct LlamaCppRequest {
  std::string format;  // "bf16", "q8_0" (8.5 bits a weight) or "q4_0" (4.5)
  int threads = 1;
  int batch = 1;   // equal sequences
  int prompt = 1;  // tokens of each
  int answer = 1;  // steps of greedy decoding
  int repetitions = 1;
};

struct LlamaCppSpeed {  // the least of the repetitions
  double prompt_seconds = 0;
  double decode_seconds = 0;
};

// Not thread-safe.
class LlamaCpp {
 public:
  // Null, and a line on stderr, where OCTOGATE_LLAMA_PYTHON names no interpreter with the
  // llama_cpp package (tests/bench/run.sh makes one and names it). Converted models are kept in
  // `work` as long as this object lives.
  static std::unique_ptr<LlamaCpp> Start(const std::filesystem::path& model,
                                         const std::filesystem::path& work);
  ~LlamaCpp();

  // None where the process has failed; its reason is on stderr.
  std::optional<LlamaCppSpeed> Measure(const LlamaCppRequest& request);

 private:
  LlamaCpp(pid_t pid, int input, int output) : pid_(pid), input_(input), output_(output) {}

  const pid_t pid_;
  const int input_;
  const int output_;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_LLAMA_CPP_H_
