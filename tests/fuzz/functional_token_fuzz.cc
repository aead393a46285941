// What the parser makes of generated text does not depend on the pieces in which it arrives.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "router/functional_token.h"

namespace octogate::router {
namespace {

void Check(const FunctionalTokenSyntax& syntax, std::string_view text, size_t piece_bytes) {
  constexpr size_t kMaxBytes = 4096;
  FunctionalTokenParser whole(&syntax, kMaxBytes);
  whole.Feed(text);
  FunctionalTokenParser pieces(&syntax, kMaxBytes);
  for (size_t i = 0; i < text.size(); i += piece_bytes) pieces.Feed(text.substr(i, piece_bytes));
  const FunctionalToken a = whole.Finish();
  const FunctionalToken b = pieces.Finish();
  if (a.state != b.state || a.token != b.token || a.argument != b.argument ||
      a.leading != b.leading || whole.done() != pieces.done()) {
    std::abort();
  }
  const bool named = a.state != FunctionalTokenState::kNoToken;
  if (named == a.token.empty()) std::abort();
}

}  // namespace
}  // namespace octogate::router

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octogate::router::FunctionalTokenSyntax;
  static const auto& raw = *new FunctionalTokenSyntax(*FunctionalTokenSyntax::Create(
      {"<fn:a>", "<fn:b>"}, "<fn:end>", octogate::v1::ARGUMENT_STYLE_RAW));
  static const auto& call = *new FunctionalTokenSyntax(*FunctionalTokenSyntax::Create(
      {"<nexa_1>", "<nexa_16>"}, "<nexa_end>", octogate::v1::ARGUMENT_STYLE_CALL));
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  octogate::router::Check((data[0] & 1) != 0 ? raw : call, text, 1 + (data[0] >> 1) % 16);
  return 0;
}
