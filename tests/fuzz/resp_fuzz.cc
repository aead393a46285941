#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/redis/resp.h"

// Whatever a server sends is an answer within the limits or refused, in whatever pieces it comes:
// the first byte says how large they are.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = 1 + data[0];
  ++data;
  --size;
  octogate::RespReader reader(/*max_bytes=*/1 << 20);
  while (size > 0) {
    size_t put = 0;
    for (const iovec& space : reader.Space()) {
      const size_t part = std::min(space.iov_len, std::min(piece, size) - put);
      if (part > 0) std::memcpy(space.iov_base, data + put, part);
      put += part;
    }
    if (put == 0) std::abort();
    data += put;
    size -= put;
    if (!reader.Came(put).ok()) return 0;
    while (reader.Next()) {
    }
  }
  return 0;
}
