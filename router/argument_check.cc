#include "router/argument_check.h"

#include <algorithm>
#include <vector>

namespace octogate::router {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The length of the digits at `text`'s start.
size_t DigitRun(std::string_view text) {
  return static_cast<size_t>(std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin());
}

// Without leading zeros, and without trailing ones behind the point.
std::string Canonical(std::string whole, std::string fraction) {
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (whole.empty()) whole = "0";
  return fraction.empty() ? whole : whole + "." + fraction;
}

std::vector<std::string> Numbers(std::string_view text) {
  std::vector<std::string> numbers;
  while (!text.empty()) {
    const size_t digits = DigitRun(text);
    if (digits == 0) {
      text.remove_prefix(1);
      continue;
    }
    std::string whole(text.substr(0, digits));
    text.remove_prefix(digits);
    const bool may_be_grouped = digits <= 3;
    while (may_be_grouped && text.size() > 3 && text[0] == ',' && DigitRun(text.substr(1)) == 3) {
      whole += text.substr(1, 3);
      text.remove_prefix(4);
    }
    std::string fraction;
    if (text.size() > 1 && text[0] == '.') {
      fraction = text.substr(1, DigitRun(text.substr(1)));
      text.remove_prefix(fraction.empty() ? 0 : 1 + fraction.size());
    }
    numbers.push_back(Canonical(std::move(whole), std::move(fraction)));
  }
  return numbers;
}

}  // namespace

std::string WhatArgumentLost(v1::ArgumentCheck check, std::string_view query,
                             std::string_view argument) {
  if (check == v1::ARGUMENT_CHECK_EXCERPT) {
    return query.find(argument) == std::string_view::npos ? "is not a part of the query" : "";
  }
  if (check == v1::ARGUMENT_CHECK_NUMBERS) {
    const std::vector<std::string> kept = Numbers(argument);
    for (const std::string& number : Numbers(query)) {
      if (std::find(kept.begin(), kept.end(), number) == kept.end()) {
        return "lost the number " + number;
      }
    }
  }
  return "";
}

}  // namespace octogate::router
