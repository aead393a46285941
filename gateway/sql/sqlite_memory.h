// Bounds on the memory that SQLite takes for one call.
//
// SQLite's own limits are for the whole process. This library puts an allocator in front of
// SQLite's (before main, through SQLITE_CONFIG_MALLOC) that counts for each thread: a connection
// works on the thread that calls it, and on no other.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_MEMORY_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace octogate::gateway {

// While it lives, SQLite's allocations on this thread fail (SQLITE_NOMEM) where they would take
// more than `bytes` beyond what the thread frees. Threads without one are not limited. Lives on one
// thread; the innermost one counts.
class SqliteMemoryLimit {
 public:
  explicit SqliteMemoryLimit(size_t bytes);
  ~SqliteMemoryLimit();
  SqliteMemoryLimit(const SqliteMemoryLimit&) = delete;
  SqliteMemoryLimit& operator=(const SqliteMemoryLimit&) = delete;

  bool exceeded() const { return exceeded_; }
  int64_t peak_bytes() const { return peak_; }

  // False where the allocator could not be put in place.
  static bool Works();

 private:
  friend struct SqliteAllocator;

  SqliteMemoryLimit* const outer_;
  const int64_t limit_;
  int64_t used_ = 0;
  int64_t peak_ = 0;
  bool exceeded_ = false;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_MEMORY_H_
