// Any text is a grammar or is refused; a grammar compiles within its limits or is refused, and what
// it allows can be completed.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "workers/grammar/grammar.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octogate::workers::ParseStates;
  using octogate::workers::StateId;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto grammar = octogate::workers::ParseGrammar(
      text, {.words = {{"w", {.words = {"ab", "b"}}}, {"none", {}}}});
  if (!grammar.ok()) return 0;
  const auto network = octogate::workers::BuildRuleNetwork(*grammar);
  if (!network.ok()) return 0;
  ParseStates states(&*network, 1 << 20);
  if (states.start() == ParseStates::kFailed) return 0;
  states.BeginWork(100'000, {});
  StateId state = states.start();
  for (const char byte : text.substr(0, 64)) {
    const StateId next = states.Next(state, static_cast<uint8_t>(byte));
    if (next == ParseStates::kFailed) return 0;
    if (next == ParseStates::kDead) break;
    state = next;
  }
  const auto rest = states.ShortestCompletion(state);
  if (!rest.ok() || rest->size() > 10'000) return 0;
  for (const char byte : *rest) {
    state = states.Next(state, static_cast<uint8_t>(byte));
    if (state == ParseStates::kFailed) return 0;
    if (state == ParseStates::kDead) std::abort();
  }
  if (!states.Complete(state)) std::abort();
  return 0;
}
