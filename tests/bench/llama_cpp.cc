#include "tests/bench/llama_cpp.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "nlohmann/json.hpp"

namespace octogate::bench {

std::unique_ptr<LlamaCpp> LlamaCpp::Start(const std::filesystem::path& model,
                                          const std::filesystem::path& work) {
  const char* const python = std::getenv("OCTOGATE_LLAMA_PYTHON");
  if (python == nullptr || *python == '\0') {
    std::cerr << "OCTOGATE_LLAMA_PYTHON is not set: nothing is measured beside llama.cpp\n";
    return nullptr;
  }
  int input[2];
  int output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) std::abort();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execl(python, python, OCTOGATE_LLAMA_CPP_SPEED, model.c_str(), work.c_str(), nullptr);
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  signal(SIGPIPE, SIG_IGN);  // a process that has failed is noticed when its answer is read
  return std::unique_ptr<LlamaCpp>(new LlamaCpp(pid, input[1], output[0]));
}

LlamaCpp::~LlamaCpp() {
  close(input_);
  close(output_);
  waitpid(pid_, nullptr, 0);
}

std::optional<LlamaCppSpeed> LlamaCpp::Measure(const LlamaCppRequest& request) {
  const nlohmann::json fields = {{"format", request.format}, {"threads", request.threads},
                                 {"batch", request.batch},   {"prompt", request.prompt},
                                 {"answer", request.answer}, {"repetitions", request.repetitions}};
  const std::string line = fields.dump() + '\n';
  if (write(input_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return std::nullopt;
  }
  std::string reply;
  char c = 0;
  while (read(output_, &c, 1) == 1 && c != '\n') reply += c;
  const auto json = nlohmann::json::parse(reply, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  return LlamaCppSpeed{.prompt_seconds = json.value("prompt_seconds", 0.0),
                       .decode_seconds = json.value("decode_seconds", 0.0)};
}

}  // namespace octogate::bench
