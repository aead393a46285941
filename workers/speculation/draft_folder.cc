#include "workers/speculation/draft_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/hash128.h"
#include "common/strings.h"

namespace octogate::workers {
namespace {

using Steady = std::chrono::steady_clock;

// A file is a header, an export and the digest of the export.
constexpr std::string_view kMark = "octogate drafts 1\n";
// A table of the largest vocabularies takes less.
constexpr uintmax_t kMaxFileBytes = uintmax_t{64} << 20;
// While it is written, a file has a name that ends so. Of a process that has died, it stays.
constexpr std::string_view kUnfinished = ".new";
constexpr std::chrono::hours kUnfinishedFor{1};
constexpr absl::Duration kLockPoll = absl::Milliseconds(5);

std::string Digest(std::string_view bytes) {
  const Hash128 hash = HashBytes(std::as_bytes(std::span(bytes.data(), bytes.size())), 0);
  return absl::StrFormat("%016x%016x", hash.high, hash.low);
}

std::string HeaderOf(const DraftOwner& owner) {
  return absl::StrCat(ToAbsl(kMark), owner.model, "\n", owner.drafter, "\n", owner.scope.size(),
                      "\n", owner.scope);
}

// Whether a name may be that of a file of this folder's: a digest, a dot and a drafter, and where
// it is not whole yet, a dot, a random number and kUnfinished.
enum class Named { kForeign, kWhole, kUnfinished };
Named NamedAs(std::string_view name) {
  constexpr std::string_view kHex = "0123456789abcdef";
  const size_t dot = Digest("").size();
  if (name.find_first_not_of(kHex) != dot || name[dot] != '.') return Named::kForeign;
  name.remove_prefix(dot + 1);
  const size_t end = std::min(name.find('.'), name.size());
  const std::string_view drafter = name.substr(0, end);
  if (drafter.empty() ||
      drafter.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string_view::npos) {
    return Named::kForeign;
  }
  name.remove_prefix(end);
  if (name.empty()) return Named::kWhole;
  if (!name.ends_with(kUnfinished) || name.size() <= kUnfinished.size() + 1) return Named::kForeign;
  name.remove_prefix(1);
  name.remove_suffix(kUnfinished.size());
  const bool is_number = name.find_first_not_of(kHex) == std::string_view::npos;
  return is_number ? Named::kUnfinished : Named::kForeign;
}

// Others may give their files such names, too.
bool HasOurMark(const std::filesystem::path& path) {
  std::string mark(kMark.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  return file.read(mark.data(), static_cast<std::streamsize>(mark.size())) && mark == kMark;
}

// Removes leftovers, and those files that were written longest ago until there are `count` at most.
void Tidy(const std::filesystem::path& folder, size_t count) {
  using Time = std::filesystem::file_time_type;
  const Time now = Time::clock::now();
  std::vector<std::pair<Time, std::filesystem::path>> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::error_code gone;
    const Time time = std::filesystem::last_write_time(entry->path(), gone);
    if (gone) continue;
    const Named named = NamedAs(name);
    if (named == Named::kWhole) files.emplace_back(time, entry->path());
    if (named == Named::kUnfinished && time < now - kUnfinishedFor) {
      std::filesystem::remove(entry->path(), gone);
    }
  }
  if (files.size() <= count) return;
  std::erase_if(files, [](const auto& file) { return !HasOurMark(file.second); });
  if (files.size() <= count) return;
  std::sort(files.begin(), files.end());
  files.resize(files.size() - count);
  for (const auto& [_, path] : files) std::filesystem::remove(path, error);
}

// A lock of a folder, which other processes ask for, too.
class FolderLock {
 public:
  // Waits at most so long. Where locks cannot be had at all, it is as if it were held.
  FolderLock(const std::filesystem::path& folder, absl::Duration wait)
      : file_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    const Steady::time_point until = Steady::now() + absl::ToChronoNanoseconds(wait);
    while (file_ >= 0 && ::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return;
      is_held_ = Steady::now() < until;
      if (!is_held_) return;
      absl::SleepFor(kLockPoll);
    }
  }
  ~FolderLock() {
    if (file_ >= 0) ::close(file_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  bool is_held() const { return is_held_; }

 private:
  const int file_;
  bool is_held_ = true;
};

class DraftFolder : public DraftPlace {
 public:
  DraftFolder(std::filesystem::path folder, const DraftFolderOptions& options)
      : folder_(std::move(folder)), options_(options) {
    std::random_device random;
    unfinished_ = absl::StrFormat(".%08x%08x%s", random(), random(), std::string(kUnfinished));
    Tidy(folder_, options_.max_files);
  }

  void Load(const DraftOwner& owner, LearnedState& state) override {
    const std::string header = HeaderOf(owner);
    const std::filesystem::path path = FileOf(owner, header);
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    const bool is_unread = !error && size > options_.max_loaded_bytes;
    if (!is_unread) Read(path, header, state);
    absl::MutexLock lock(&mutex_);
    files_[path] = {.changes = state.changes(), .time = Steady::now(), .is_unread = is_unread};
  }

  absl::Status Sync(const DraftOwner& owner, bool last, LearnedState& state) override {
    const std::string header = HeaderOf(owner);
    const std::filesystem::path path = FileOf(owner, header);
    bool has_news = true;
    {
      absl::MutexLock lock(&mutex_);
      const auto found = files_.find(path);
      const File file = found == files_.end() ? File{} : found->second;
      if (last && found != files_.end()) files_.erase(found);
      has_news = file.changes != state.changes();
      if (!has_news && !file.is_unread) return absl::OkStatus();
      if (!file.is_unread && !last &&
          Steady::now() < file.time + absl::ToChronoNanoseconds(options_.interval)) {
        return absl::OkStatus();
      }
    }
    const FolderLock folder_lock(folder_, options_.lock_wait);
    if (!folder_lock.is_held() && !last) {
      return absl::UnavailableError(
          absl::StrCat("another process has held the lock of ", folder_.string(),
                       ", where drafters are kept, for ", absl::FormatDuration(options_.lock_wait),
                       "; what was learned is written later"));
    }
    Read(path, header, state);  // what others have written meanwhile
    const uint64_t changes = state.changes();
    const absl::Status written = has_news ? Write(path, header, state.Export()) : absl::OkStatus();
    if (last) return written;
    // What could not be written is not tried again at once either.
    absl::MutexLock lock(&mutex_);
    File& file = files_[path];
    file.time = Steady::now();
    file.is_unread = false;
    if (written.ok()) file.changes = changes;
    return written;
  }

 private:
  struct File {
    uint64_t changes = 0;  // of the state that was read or written
    Steady::time_point time;
    bool is_unread = false;  // it was too large for Load
  };

  std::filesystem::path FileOf(const DraftOwner& owner, std::string_view header) const {
    return folder_ / absl::StrCat(Digest(header), ".", owner.drafter);
  }

  static void Read(const std::filesystem::path& path, std::string_view header,
                   LearnedState& state) {
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    if (error || size > kMaxFileBytes) return;
    std::string bytes(size, '\0');
    std::ifstream file(path, std::ios::binary);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) return;
    const size_t digest = Digest("").size();
    if (!bytes.starts_with(header) || bytes.size() < header.size() + digest) return;
    const std::string_view learned =
        std::string_view(bytes).substr(header.size(), bytes.size() - header.size() - digest);
    if (Digest(learned) != std::string_view(bytes).substr(bytes.size() - digest)) return;
    // What does not fit is refused whole.
    state.Heard(learned).IgnoreError();
  }

  absl::Status Write(const std::filesystem::path& path, const std::string& header,
                     const std::string& learned) const {
    if (std::error_code error; !std::filesystem::exists(path, error)) {
      Tidy(folder_, std::max<size_t>(options_.max_files, 1) - 1);
    }
    std::filesystem::path beside = path;
    beside += unfinished_;
    ::unlink(beside.c_str());
    const std::string bytes = absl::StrCat(header, learned, Digest(learned));
    const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t written = 0;
    bool whole = file >= 0;
    while (whole && written < bytes.size()) {
      const ssize_t count = ::write(file, bytes.data() + written, bytes.size() - written);
      whole = count > 0;
      if (whole) written += static_cast<size_t>(count);
    }
    whole = whole && ::fsync(file) == 0;
    if (file >= 0) ::close(file);
    std::error_code error;
    if (whole) {
      std::filesystem::rename(beside, path, error);
      if (!error) return absl::OkStatus();
    }
    std::filesystem::remove(beside, error);
    return absl::UnavailableError(
        absl::StrCat("what drafters have learned cannot be written to ", path.string()));
  }

  const std::filesystem::path folder_;
  const DraftFolderOptions options_;
  std::string unfinished_;  // end of names of files that are being written
  absl::Mutex mutex_;
  std::map<std::filesystem::path, File> files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::shared_ptr<DraftPlace>> OpenDraftFolder(const std::filesystem::path& folder,
                                                            DraftFolderOptions options) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot make the folder ", folder.string(),
                                                   " for what drafters learn: ", error.message()));
  }
  if (::access(folder.c_str(), W_OK) != 0) {
    return absl::PermissionDeniedError(absl::StrCat("cannot write to ", folder.string(),
                                                    ", where what drafters learn is to be kept"));
  }
  return std::make_shared<DraftFolder>(folder, options);
}

}  // namespace octogate::workers
