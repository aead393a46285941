#include "workers/speculation/recycling_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/hash128.h"
#include "common/strings.h"

namespace octogate::workers {
namespace {

constexpr std::string_view kMark = "octogate recycling 1\n";
// A table of the largest vocabularies takes less.
constexpr uintmax_t kMaxFileBytes = uintmax_t{64} << 20;

std::string Digest(std::string_view bytes) {
  const Hash128 hash = HashBytes(std::as_bytes(std::span(bytes.data(), bytes.size())), 0);
  return absl::StrFormat("%016x%016x", hash.high, hash.low);
}

class StoredRecycling : public Drafter {
 public:
  StoredRecycling(std::unique_ptr<RecyclingDrafter> drafter, std::filesystem::path folder,
                  std::string model)
      : drafter_(std::move(drafter)), folder_(std::move(folder)), model_(std::move(model)) {}

  ~StoredRecycling() override {
    for (const auto& [scope, version] : read_) {
      // A scope that was dropped meanwhile has no version.
      if (drafter_->Version(scope) <= version) continue;
      Read(scope);  // what others have written meanwhile
      Write(scope);
    }
  }

  std::string_view name() const override { return drafter_->name(); }
  int candidates() const override { return drafter_->candidates(); }
  uint64_t bytes() const override { return drafter_->bytes(); }

  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override {
    std::unique_ptr<SequenceDrafter> sequence = drafter_->Begin(scope);
    if (drafter_->Version(scope) == 0) {
      // Those that the drafter has forgotten meanwhile.
      absl::erase_if(read_,
                     [this](const auto& entry) { return drafter_->Version(entry.first) == 0; });
      Read(scope);
    }
    read_.try_emplace(std::string(scope), drafter_->Version(scope));
    return sequence;
  }

 private:
  std::string HeaderOf(std::string_view scope) const {
    return absl::StrCat(ToAbsl(kMark), model_, "\n", scope.size(), "\n", ToAbsl(scope));
  }
  std::filesystem::path FileOf(std::string_view scope) const {
    return folder_ / absl::StrCat(Digest(HeaderOf(scope)), ".recycling");
  }

  void Read(std::string_view scope) {
    const std::filesystem::path path = FileOf(scope);
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    if (error || size > kMaxFileBytes) return;
    std::string bytes(size, '\0');
    std::ifstream file(path, std::ios::binary);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) return;
    const std::string header = HeaderOf(scope);
    const size_t digest = Digest("").size();
    if (!bytes.starts_with(header) || bytes.size() < header.size() + digest) return;
    const std::string_view table =
        std::string_view(bytes).substr(header.size(), bytes.size() - header.size() - digest);
    if (Digest(table) != std::string_view(bytes).substr(bytes.size() - digest)) return;
    // What does not fit this table is refused whole.
    drafter_->Merge(scope, table).status().IgnoreError();
  }

  // Failures are none of an answer's: there is a table less at the next start.
  void Write(std::string_view scope) const {
    const std::filesystem::path path = FileOf(scope);
    std::filesystem::path beside = path;
    beside += absl::StrCat(".", ::getpid(), ".new");
    ::unlink(beside.c_str());
    const std::string table = drafter_->Export(scope, 0);
    const std::string bytes = absl::StrCat(HeaderOf(scope), table, Digest(table));
    const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return;
    size_t written = 0;
    while (written < bytes.size()) {
      const ssize_t count = ::write(file, bytes.data() + written, bytes.size() - written);
      if (count <= 0) break;
      written += static_cast<size_t>(count);
    }
    const bool whole = written == bytes.size() && ::fsync(file) == 0;
    ::close(file);
    std::error_code error;
    if (whole) {
      std::filesystem::rename(beside, path, error);
    } else {
      std::filesystem::remove(beside, error);
    }
  }

  const std::unique_ptr<RecyclingDrafter> drafter_;
  const std::filesystem::path folder_;
  const std::string model_;
  absl::flat_hash_map<std::string, uint64_t> read_;  // version that a scope's file had
};

}  // namespace

absl::StatusOr<std::unique_ptr<Drafter>> KeepRecyclingTables(
    std::unique_ptr<RecyclingDrafter> drafter, const std::filesystem::path& folder,
    const std::string& model) {
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
  return std::make_unique<StoredRecycling>(std::move(drafter), folder, model);
}

}  // namespace octogate::workers
