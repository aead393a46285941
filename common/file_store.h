#ifndef OCTOGATE_COMMON_FILE_STORE_H_
#define OCTOGATE_COMMON_FILE_STORE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/store.h"

namespace octogate {

struct FileStoreOptions {
  size_t max_value_bytes = size_t{16} << 20;
  Clock clock = SystemClock();
};

// A store in `folder`, which is made if need be: one file per key, for tens of thousands of keys at
// most.
//
// - A value survives a crash of the process or the machine once its call has returned: it is
//   written beside its place, flushed, renamed, and the folder flushed (by PutMany once for all).
// - A file holds a header, the key, the value and a checksum. One that is cut, altered or another
//   key's is DATA_LOSS, and the message names the file; it is never deleted.
// - A key is the file's name with every byte outside [A-Za-z0-9._-] as %XX; names that would be
//   too long end in a digest. No key can leave the folder.
// - The folder is locked for as long as the store lives: a second process gets UNAVAILABLE with
//   the first one's process id.
absl::StatusOr<std::unique_ptr<Store>> OpenFileStore(const std::string& folder,
                                                     FileStoreOptions options = {});

}  // namespace octogate

#endif  // OCTOGATE_COMMON_FILE_STORE_H_
