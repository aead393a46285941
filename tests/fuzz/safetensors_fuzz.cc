// A safetensors header either is refused or describes bytes inside the file.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "workers/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octogate::workers::ParseSafetensorsHeader;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = ParseSafetensorsHeader(bytes, size, "fuzz");
  if (!header.ok()) return 0;
  uint64_t next = 0;
  for (const auto& entry : header->entries) {
    if (entry.begin != next || entry.end < entry.begin) std::abort();
    next = entry.end;
  }
  if (header->data_offset + next != size) std::abort();
  return 0;
}
