#ifndef OCTOGATE_COMMON_MEMORY_STORE_H_
#define OCTOGATE_COMMON_MEMORY_STORE_H_

#include <cstddef>
#include <memory>

#include "common/clock.h"
#include "common/store.h"

namespace octogate {

struct MemoryStoreOptions {
  size_t max_value_bytes = size_t{16} << 20;
  // Keys and values together. Once reached, writes are RESOURCE_EXHAUSTED; nothing is dropped but
  // what has expired.
  size_t max_total_bytes = size_t{256} << 20;
  Clock clock = SystemClock();
};

// A store in this process's memory.
std::unique_ptr<Store> MakeMemoryStore(MemoryStoreOptions options = {});

}  // namespace octogate

#endif  // OCTOGATE_COMMON_MEMORY_STORE_H_
