#include "gateway/sql/sqlite_memory.h"

#include <sqlite3.h>

#include <algorithm>

namespace octogate::gateway {
namespace {

thread_local SqliteMemoryLimit* current_limit = nullptr;
sqlite3_mem_methods system_methods;

}  // namespace

struct SqliteAllocator {
  static bool Fits(int64_t more) {
    SqliteMemoryLimit* limit = current_limit;
    if (limit == nullptr || limit->used_ + more <= limit->limit_) return true;
    limit->exceeded_ = true;
    return false;
  }
  static void Count(int64_t change) {
    SqliteMemoryLimit* limit = current_limit;
    if (limit == nullptr) return;
    limit->used_ += change;
    limit->peak_ = std::max(limit->peak_, limit->used_);
  }

  static void* Malloc(int bytes) {
    if (!Fits(bytes)) return nullptr;
    void* memory = system_methods.xMalloc(bytes);
    if (memory != nullptr) Count(system_methods.xSize(memory));
    return memory;
  }
  static void Free(void* memory) {
    if (memory != nullptr) Count(-int64_t{system_methods.xSize(memory)});
    system_methods.xFree(memory);
  }
  static void* Realloc(void* memory, int bytes) {
    const int64_t before = memory == nullptr ? 0 : system_methods.xSize(memory);
    if (!Fits(bytes - before)) return nullptr;
    void* moved = system_methods.xRealloc(memory, bytes);
    if (moved != nullptr) Count(system_methods.xSize(moved) - before);
    return moved;
  }

  static bool Install() {
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_methods) != SQLITE_OK) return false;
    sqlite3_mem_methods methods = system_methods;
    methods.xMalloc = &Malloc;
    methods.xFree = &Free;
    methods.xRealloc = &Realloc;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK;
  }
};

namespace {
// SQLite takes another allocator only before its first use.
const bool installed = SqliteAllocator::Install();
}  // namespace

SqliteMemoryLimit::SqliteMemoryLimit(size_t bytes)
    : outer_(current_limit), limit_(static_cast<int64_t>(bytes)) {
  current_limit = this;
}

SqliteMemoryLimit::~SqliteMemoryLimit() { current_limit = outer_; }

bool SqliteMemoryLimit::Works() { return installed; }

}  // namespace octogate::gateway
