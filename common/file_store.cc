#include "common/file_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "common/digest.h"
#include "common/local_notifier.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {
namespace {

// A file is one line of text, the key and the value:
//   octogate-store 1 EXPIRES_AT_MS KEY_BYTES VALUE_BYTES SHA256\n
// where the digest is that of everything else in the file.
constexpr std::string_view kMagic = "octogate-store 1";
constexpr std::string_view kTemporarySuffix = ".~";
constexpr std::string_view kLockName = ".lock~";
constexpr size_t kMaxHeaderBytes = 160;
constexpr size_t kMaxNameBytes = 200;
constexpr int64_t kNever = INT64_MAX;

absl::Status SystemError(std::string_view what, const std::string& path) {
  const int error = errno;
  const std::string message =
      absl::StrCat("cannot ", ToAbsl(what), " ", Quoted(path, 300), ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

class File {
 public:
  File(const std::string& path, int flags)
      : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool ok() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

// Of a name that is cut, so many bytes are left.
constexpr size_t kCutNameBytes = kMaxNameBytes - 65;

std::string Escape(std::string_view key) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string name;
  for (const char c : key) {
    // A leading dot would hide the file, or be a way out of the folder.
    if (absl::ascii_isalnum(c) || c == '_' || c == '-' || (c == '.' && !name.empty())) {
      name.push_back(c);
    } else {
      const auto byte = static_cast<uint8_t>(c);
      name.append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
  return name;
}

std::string FileName(std::string_view key) {
  std::string name = Escape(key);
  if (name.size() <= kMaxNameBytes) return name;
  return absl::StrCat(name.substr(0, kCutNameBytes), "~", Sha256Hex(key));
}

struct Record {
  std::string key;
  std::string value;
  int64_t expires_at_ms = kNever;
};

std::string Fields(const Record& record) {
  return absl::StrCat(ToAbsl(kMagic), " ", record.expires_at_ms, " ", record.key.size(), " ",
                      record.value.size());
}

std::string Encode(const Record& record) {
  const std::string fields = Fields(record);
  const std::string digest = Sha256Hex(absl::StrCat(fields, "\n", record.key, record.value));
  return absl::StrCat(fields, " ", digest, "\n", record.key, record.value);
}

absl::Status Damaged(const std::string& path, std::string_view why) {
  return absl::DataLossError(absl::StrCat("the file ", Quoted(path, 300),
                                          " is damaged: ", ToAbsl(why), "; restore or remove it"));
}

// The line at the beginning of a file, and what it says.
struct Header {
  size_t bytes = 0;  // The line feed included.
  int64_t expires_at_ms = kNever;
  uint64_t key_bytes = 0;
  uint64_t value_bytes = 0;
};

absl::StatusOr<Header> DecodeHeader(std::string_view bytes, const std::string& path) {
  const size_t line_end = bytes.find('\n');
  if (line_end == std::string_view::npos || line_end > kMaxHeaderBytes) {
    return Damaged(path, "no header");
  }
  const std::vector<std::string> words = absl::StrSplit(ToAbsl(bytes.substr(0, line_end)), ' ');
  Header header = {.bytes = line_end + 1};
  if (words.size() != 6 || absl::StrCat(words[0], " ", words[1]) != kMagic ||
      !absl::SimpleAtoi(words[2], &header.expires_at_ms) ||
      !absl::SimpleAtoi(words[3], &header.key_bytes) ||
      !absl::SimpleAtoi(words[4], &header.value_bytes)) {
    return Damaged(path, "its header is not one of ours");
  }
  return header;
}

absl::StatusOr<Record> Decode(const std::string& bytes, const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const Header header, DecodeHeader(bytes, path));
  const size_t rest = bytes.size() - header.bytes;
  if (header.key_bytes > rest || header.value_bytes != rest - header.key_bytes) {
    return Damaged(path, "it has another length than its header says");
  }
  Record record = {.key = bytes.substr(header.bytes, header.key_bytes),
                   .value = bytes.substr(header.bytes + header.key_bytes),
                   .expires_at_ms = header.expires_at_ms};
  if (Encode(record) != bytes) return Damaged(path, "its checksum does not match");
  return record;
}

class FileStore final : public Store {
 public:
  FileStore(std::string folder, FileStoreOptions options)
      : folder_(std::move(folder)),
        options_(std::move(options)),
        lock_(Path(kLockName), O_RDWR | O_CREAT) {}

  absl::Status TakeLock() {
    if (!lock_.ok()) return SystemError("open", Path(kLockName));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return SystemError("lock", Path(kLockName));
      char owner[32] = {};
      const ssize_t size = ::pread(lock_.get(), owner, sizeof(owner) - 1, 0);
      return absl::UnavailableError(absl::StrCat(
          "the store ", Quoted(folder_, 300), " is in use by the process ",
          size > 0 ? std::string(owner, static_cast<size_t>(size)) : "that has locked it",
          "; stop it, or choose another folder"));
    }
    const std::string pid = absl::StrCat(::getpid());
    if (::ftruncate(lock_.get(), 0) != 0 || ::pwrite(lock_.get(), pid.data(), pid.size(), 0) < 0) {
      return SystemError("write", Path(kLockName));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    absl::MutexLock lock(&mutex_);
    return GetLocked(key);
  }

  absl::Status Put(std::string_view key, std::string_view value, absl::Time expires_at,
                   absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    absl::MutexLock lock(&mutex_);
    return Write(key, value, expires_at);
  }

  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) override {
    std::vector<absl::Status> results;
    results.reserve(entries.size());
    // Where a key comes twice the later value must win: they are not put together.
    std::vector<size_t> together;
    std::set<std::string_view> keys;
    absl::MutexLock lock(&mutex_);
    for (size_t i = 0; i < entries.size(); ++i) {
      results.push_back(Check(entries[i].key, deadline));
      if (!results.back().ok()) continue;
      if (!keys.insert(entries[i].key).second) {
        PutTogether(entries, std::exchange(together, {}), results);
        keys = {entries[i].key};
      }
      together.push_back(i);
    }
    PutTogether(entries, together, results);
    return results;
  }

  absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                             std::string_view value, absl::Time expires_at,
                             absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    absl::MutexLock lock(&mutex_);
    const absl::StatusOr<std::string> present = GetLocked(key);
    if (!present.ok() && !absl::IsNotFound(present.status())) return present.status();
    if (present.ok() != expected.has_value() || (present.ok() && *present != *expected)) {
      return absl::AbortedError(
          absl::StrCat("the value ", Quoted(key), " is not the expected one"));
    }
    return Write(key, value, expires_at);
  }

  absl::StatusOr<std::vector<std::string>> List(std::string_view prefix, std::string_view after,
                                                size_t limit, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(CheckDeadline(deadline));
    // What the names of all files in question begin with: others are not opened.
    const std::string beginning = Escape(prefix).substr(0, kCutNameBytes);
    absl::MutexLock lock(&mutex_);
    DIR* folder = ::opendir(folder_.c_str());
    if (folder == nullptr) return SystemError("list", folder_);
    std::vector<std::string> keys;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string_view name = entry->d_name;
      if (name.front() == '.' || name.ends_with(kTemporarySuffix) || !name.starts_with(beginning)) {
        continue;
      }
      // The key itself is in the file, whose name may be cut. A damaged file is told by its name.
      const absl::StatusOr<Record> record = ReadHead(Path(name));
      std::string key = record.ok() ? record->key : Unescape(name);
      if (record.ok() && Expired(*record)) continue;
      if (std::string_view(key).starts_with(prefix) && key > after) keys.push_back(std::move(key));
    }
    ::closedir(folder);
    std::sort(keys.begin(), keys.end());
    if (keys.size() > limit) keys.resize(limit);
    return keys;
  }

  absl::Status Delete(std::string_view key, absl::Time deadline) override {
    OCTOGATE_RETURN_IF_ERROR(Check(key, deadline));
    absl::MutexLock lock(&mutex_);
    const std::string path = Path(FileName(key));
    if (::unlink(path.c_str()) != 0) {
      return errno == ENOENT ? absl::OkStatus() : SystemError("remove", path);
    }
    return FlushFolder();
  }

  absl::Status Notify(std::string_view topic, absl::Time) override {
    notifier_.Notify(topic);
    return absl::OkStatus();
  }

  std::unique_ptr<StoreWatch> Watch(std::string_view topic,
                                    std::function<void()> on_notified) override {
    return notifier_.Watch(topic, std::move(on_notified));
  }

 private:
  std::string Path(std::string_view name) const { return absl::StrCat(folder_, "/", ToAbsl(name)); }

  static std::string Unescape(std::string_view name) {
    std::string key;
    for (size_t i = 0; i < name.size(); ++i) {
      int byte = 0;
      if (name[i] == '%' && i + 2 < name.size() &&
          absl::SimpleHexAtoi(ToAbsl(name.substr(i + 1, 2)), &byte)) {
        key.push_back(static_cast<char>(byte));
        i += 2;
      } else {
        key.push_back(name[i]);
      }
    }
    return key;
  }

  absl::Status CheckDeadline(absl::Time deadline) const {
    if (options_.clock() < deadline) return absl::OkStatus();
    return absl::DeadlineExceededError("the deadline passed before the store was asked");
  }

  absl::Status Check(std::string_view key, absl::Time deadline) const {
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key has 1 to ", kMaxKeyBytes, " bytes, this one ", key.size()));
    }
    return CheckDeadline(deadline);
  }

  bool Expired(const Record& record) const {
    return record.expires_at_ms != kNever &&
           absl::FromUnixMillis(record.expires_at_ms) <= options_.clock();
  }

  absl::StatusOr<Record> Read(const std::string& path) const {
    const File file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file.ok()) return SystemError("open", path);
    struct stat status = {};
    if (::fstat(file.get(), &status) != 0) return SystemError("read", path);
    const size_t limit = kMaxHeaderBytes + kMaxKeyBytes + options_.max_value_bytes;
    if (!S_ISREG(status.st_mode) || static_cast<size_t>(status.st_size) > limit) {
      return absl::DataLossError(absl::StrCat("the file ", Quoted(path, 300),
                                              " is damaged: no file, or over ", limit, " bytes"));
    }
    std::string bytes(static_cast<size_t>(status.st_size), '\0');
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t size = ::read(file.get(), &bytes[done], bytes.size() - done);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return SystemError("read", path);
      if (size == 0) bytes.resize(done);
      done += static_cast<size_t>(size);
    }
    return Decode(bytes, path);
  }

  // Key and expiry alone, unproven.
  static absl::StatusOr<Record> ReadHead(const std::string& path) {
    const File file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file.ok()) return SystemError("open", path);
    std::string bytes(kMaxHeaderBytes + kMaxKeyBytes, '\0');
    const ssize_t size = ::pread(file.get(), bytes.data(), bytes.size(), 0);
    if (size < 0) return SystemError("read", path);
    bytes.resize(static_cast<size_t>(size));
    OCTOGATE_ASSIGN_OR_RETURN(const Header header, DecodeHeader(bytes, path));
    if (header.key_bytes > bytes.size() - header.bytes) return Damaged(path, "its key is cut");
    return Record{.key = bytes.substr(header.bytes, header.key_bytes),
                  .value = "",
                  .expires_at_ms = header.expires_at_ms};
  }

  absl::StatusOr<std::string> GetLocked(std::string_view key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string path = Path(FileName(key));
    absl::StatusOr<Record> record = Read(path);
    if (!record.ok() && !absl::IsNotFound(record.status())) return record.status();
    if (!record.ok() || Expired(*record)) {
      return absl::NotFoundError(absl::StrCat("no value ", Quoted(key)));
    }
    if (record->key != key) {
      return absl::DataLossError(absl::StrCat("the file ", Quoted(path, 300), " is damaged: it ",
                                              "holds the value ", Quoted(record->key)));
    }
    return std::move(record->value);
  }

  absl::Status Write(std::string_view key, std::string_view value, absl::Time expires_at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    OCTOGATE_RETURN_IF_ERROR(WriteBeside(key, value, expires_at));
    OCTOGATE_RETURN_IF_ERROR(TakePlace(key));
    return FlushFolder();
  }

  // Puts those of the entries that `which` names, each of another key, and notes their results: the
  // folder is flushed once for all of them.
  void PutTogether(std::span<const Entry> entries, const std::vector<size_t>& which,
                   std::vector<absl::Status>& results) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (which.empty()) return;
    for (const size_t i : which) {
      const Entry& entry = entries[i];
      results[i] = WriteBeside(entry.key, entry.value, entry.expires_at);
    }
    for (const size_t i : which) {
      if (results[i].ok()) results[i] = TakePlace(entries[i].key);
    }
    const absl::Status kept = FlushFolder();
    for (const size_t i : which) results[i].Update(kept);
  }

  std::string Beside(std::string_view key) const {
    return absl::StrCat(Path(FileName(key)), ToAbsl(kTemporarySuffix));
  }

  // Writes the value to a file of its own beside its place, and flushes it.
  absl::Status WriteBeside(std::string_view key, std::string_view value, absl::Time expires_at) {
    if (value.size() > options_.max_value_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the value ", Quoted(key), " has ",
                                                       value.size(), " bytes; at most ",
                                                       options_.max_value_bytes, " are allowed"));
    }
    const std::string beside = Beside(key);
    const std::string bytes =
        Encode({std::string(key), std::string(value),
                expires_at == absl::InfiniteFuture() ? kNever : absl::ToUnixMillis(expires_at)});
    absl::Status written = WriteFile(beside, bytes);
    if (!written.ok()) ::unlink(beside.c_str());
    return written;
  }

  absl::Status TakePlace(std::string_view key) const {
    const std::string beside = Beside(key);
    if (::rename(beside.c_str(), Path(FileName(key)).c_str()) == 0) return absl::OkStatus();
    absl::Status status = SystemError("rename", beside);
    ::unlink(beside.c_str());
    return status;
  }

  static absl::Status WriteFile(const std::string& path, const std::string& bytes) {
    const File file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (!file.ok()) return SystemError("create", path);
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t size = ::write(file.get(), &bytes[done], bytes.size() - done);
      if (size < 0 && errno != EINTR) return SystemError("write", path);
      done += size < 0 ? 0 : static_cast<size_t>(size);
    }
    return ::fsync(file.get()) == 0 ? absl::OkStatus() : SystemError("flush", path);
  }

  absl::Status FlushFolder() const {
    const File folder(folder_, O_RDONLY | O_DIRECTORY);
    if (!folder.ok()) return SystemError("open", folder_);
    return ::fsync(folder.get()) == 0 ? absl::OkStatus() : SystemError("flush", folder_);
  }

  const std::string folder_;
  const FileStoreOptions options_;
  LocalNotifier notifier_;  // this process alone has the folder
  const File lock_;
  // What orders the calls of this process; it is held across I/O, which is what it guards.
  absl::Mutex mutex_;
};

absl::Status MakeFolders(const std::string& path) {
  for (size_t i = 1; i <= path.size(); ++i) {
    if (i < path.size() && path[i] != '/') continue;
    const std::string part = path.substr(0, i);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return SystemError("make", part);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenFileStore(const std::string& folder,
                                                     FileStoreOptions options) {
  if (folder.empty()) return absl::InvalidArgumentError("the store's folder has no name");
  OCTOGATE_RETURN_IF_ERROR(MakeFolders(folder));
  auto store = std::make_unique<FileStore>(folder, std::move(options));
  OCTOGATE_RETURN_IF_ERROR(store->TakeLock());
  return store;
}

}  // namespace octogate
