// A tokenizer.json from anywhere, and after a NUL byte a text: loading ends with a tokenizer or an
// error, and a tokenizer that was loaded encodes and decodes anything.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "workers/model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octogate::workers::StreamDecoder;
  using octogate::workers::Tokenizer;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const auto tokenizer = Tokenizer::FromJson(input.substr(0, end), "fuzz.json");
  if (!tokenizer.ok()) {
    return 0;
  }
  const std::string_view text = input.substr(std::min(end + 1, size));
  for (const bool flag : {false, true}) {
    const auto ids =
        (*tokenizer)->Encode(text, {.add_special_tokens = flag, .parse_special = flag});
    std::vector<int32_t> decoded = ids.value_or(std::vector<int32_t>());
    for (const char c : text) {
      decoded.push_back(static_cast<int8_t>(c));  // Any ids at all.
    }
    StreamDecoder stream(tokenizer->get(), flag);
    std::string joined;
    for (const int32_t id : decoded) {
      joined += stream.Push(id);
    }
    joined += stream.Flush();
    if (joined != (*tokenizer)->Decode(decoded, flag)) {
      std::abort();
    }
  }
  return 0;
}
