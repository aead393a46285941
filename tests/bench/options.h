// What a benchmark's command line says, as `--name=value`.
#ifndef OCTOGATE_TESTS_BENCH_OPTIONS_H_
#define OCTOGATE_TESTS_BENCH_OPTIONS_H_

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace octogate::bench {

// The text behind `name`, which ends with "="; `otherwise` where it is not given.
inline std::string Option(int argc, char** argv, std::string_view name, std::string otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, name.size()) == name) return std::string(argument.substr(name.size()));
  }
  return otherwise;
}

// A number from 0 to 4096; ends the program where it is none.
template <typename Number>
Number NumberOption(int argc, char** argv, std::string_view name, std::string otherwise) {
  const std::string text = Option(argc, argv, name, std::move(otherwise));
  double number = 0;
  if (!absl::SimpleAtod(text, &number) || number < 0 || number > 4096) {
    std::cerr << name << text << " is no number from 0 to 4096\n";
    std::exit(2);
  }
  return static_cast<Number>(number);
}

// Positive integers between commas; ends the program where they are none.
inline std::vector<int> IntegersOption(int argc, char** argv, std::string_view name,
                                       std::string otherwise) {
  std::vector<int> numbers;
  for (const auto text : absl::StrSplit(Option(argc, argv, name, std::move(otherwise)), ',')) {
    int number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < 1) {
      std::cerr << name << " takes positive integers, not '" << text << "'\n";
      std::exit(2);
    }
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_OPTIONS_H_
