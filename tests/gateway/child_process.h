// Another program, run beside a test.
#ifndef OCTOGATE_TESTS_GATEWAY_CHILD_PROCESS_H_
#define OCTOGATE_TESTS_GATEWAY_CHILD_PROCESS_H_

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace octogate::gateway {

// Dies with the test, and at the latest with this object.
class ChildProcess {
 public:
  // arguments[0] is the program's path. `descriptor`: its output that is read.
  explicit ChildProcess(const std::vector<std::string>& arguments, int descriptor = STDOUT_FILENO) {
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(ends[1], descriptor);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      Kill(SIGKILL);
      Wait();
    }
    close(output_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next line that it prints; empty at the end.
  std::string ReadLine() {
    std::string line;
    char c = 0;
    while (read(output_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }

  void Kill(int signal) { kill(pid_, signal); }
  // Returns when none of its threads runs any more: the signal alone leaves those running that
  // have not yet seen it.
  void Freeze() {
    Kill(SIGSTOP);
    siginfo_t information;
    waitid(P_PID, pid_, &information, WSTOPPED | WNOWAIT);
  }
  pid_t pid() const { return pid_; }

  // Its exit status, or minus the signal that ended it.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  int output_ = -1;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_CHILD_PROCESS_H_
