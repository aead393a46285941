// How many threads a process has.
#ifndef OCTOGATE_TESTS_COMMON_THREAD_COUNT_H_
#define OCTOGATE_TESTS_COMMON_THREAD_COUNT_H_

#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>

namespace octogate {

// `process`: "self" or a number. 0 where there is none.
inline int ThreadCount(const std::string& process) {
  std::error_code error;
  const std::filesystem::directory_iterator threads("/proc/" + process + "/task", error);
  return static_cast<int>(std::distance(begin(threads), end(threads)));
}

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_THREAD_COUNT_H_
