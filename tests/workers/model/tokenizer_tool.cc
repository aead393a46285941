// tokenizer_tool FOLDER: answers JSON lines on stdin, for comparison with another implementation.
//
//   {"text": "…", "add_special_tokens": true, "parse_special": true}  ->  {"ids": […]}
//   {"ids": […], "skip_special_tokens": false}                        ->  {"text": "…"}
//   anything that fails                                              ->  {"error": "…"}
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "workers/model/tokenizer.h"

namespace {

using octogate::workers::Tokenizer;

nlohmann::json Answer(const Tokenizer& tokenizer, const nlohmann::json& request) {
  if (request.contains("ids")) {
    return {{"text", tokenizer.Decode(request.at("ids").get<std::vector<int32_t>>(),
                                      request.value("skip_special_tokens", false))}};
  }
  const auto ids =
      tokenizer.Encode(request.at("text").get<std::string>(),
                       {.add_special_tokens = request.value("add_special_tokens", true),
                        .parse_special = request.value("parse_special", true)});
  if (!ids.ok()) {
    return {{"error", std::string(ids.status().message())}};
  }
  return {{"ids", *ids}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenizer_tool FOLDER\n";
    return 2;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    nlohmann::json answer;
    try {
      answer = Answer(**tokenizer, nlohmann::json::parse(line));
    } catch (const nlohmann::json::exception& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump() << "\n";
  }
  return 0;
}
