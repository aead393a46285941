#include "workers/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "workers/model/json_file.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = 64 << 20;

absl::Status ErrnoStatus(int error, const char* action, const fs::path& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", action, " ", path.string()));
}

// The length field and the JSON of the file, read rather than mapped: nothing
// that another process does to the file meanwhile can fault here.
absl::StatusOr<std::vector<std::byte>> ReadPrefix(int fd, uint64_t file_size,
                                                  const fs::path& path) {
  std::vector<std::byte> prefix;
  size_t wanted = static_cast<size_t>(std::min<uint64_t>(file_size, 8));
  for (int round = 0; round < 2; ++round) {
    size_t have = prefix.size();
    prefix.resize(wanted);
    while (have < wanted) {
      const ssize_t got =
          ::pread(fd, prefix.data() + have, wanted - have, static_cast<off_t>(have));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, "read", path);
      if (got == 0) {
        prefix.resize(have);
        return prefix;
      }
      have += static_cast<size_t>(got);
    }
    if (wanted < 8) break;
    uint64_t length = 0;
    for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(prefix[i]) << (8 * i);
    if (length > kMaxSafetensorsHeaderBytes || length > file_size - 8) break;
    wanted = 8 + static_cast<size_t>(length);
  }
  return prefix;
}

// Only a plain name stays inside the folder.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\\') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name.ends_with(".safetensors");
}

absl::Status NoWeightsError(const fs::path& directory) {
  std::string other;
  std::error_code ignored;
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json",
                           "consolidated.00.pth", "tf_model.h5", "flax_model.msgpack"}) {
    if (fs::exists(directory / name, ignored)) other = name;
  }
  std::string message = absl::StrCat(directory.string(),
                                     " holds neither model.safetensors nor "
                                     "model.safetensors.index.json");
  if (!other.empty()) {
    absl::StrAppend(&message, "; it holds ", other,
                    ": convert it with transformers' save_pretrained(safe_serialization=True)");
  }
  return absl::NotFoundError(message);
}

// Shard name by tensor name.
absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const fs::path& index_path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(index_path, kMaxIndexBytes);
  if (!text.ok()) return text.status();
  const absl::StatusOr<nlohmann::json> index = ParseJson(*text, index_path.string());
  if (!index.ok()) return index.status();
  const nlohmann::json* entry =
      index->is_object() && index->contains("weight_map") ? &index->at("weight_map") : nullptr;
  if (entry == nullptr || !entry->is_object() || entry->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        index_path.string(), ": expected {\"weight_map\": {tensor name: file name, ...}}"));
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [name, file] : entry->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path.string(), ": weight_map of tensor ", QuotedForError(name),
                       " must name a .safetensors file in the same folder, without any path"));
    }
    weight_map.emplace(name, file.get<std::string>());
  }
  return weight_map;
}

// Every tensor of the map in its shard, and no tensor besides.
absl::Status CheckWeightMap(const std::map<std::string, std::string>& weight_map,
                            const std::vector<SafetensorsFile>& files, const fs::path& index_path) {
  size_t num_tensors = 0;
  for (const SafetensorsFile& file : files) {
    const std::string file_name = file.path().filename().string();
    num_tensors += file.num_tensors();
    for (size_t i = 0; i < file.num_tensors(); ++i) {
      const std::string name(file.tensor(i).name);
      const auto it = weight_map.find(name);
      if (it == weight_map.end() || it->second != file_name) {
        return absl::InvalidArgumentError(
            absl::StrCat(index_path.string(), ": ", file_name, " holds tensor ",
                         QuotedForError(name), ", which weight_map ",
                         it == weight_map.end() ? std::string("does not list")
                                                : absl::StrCat("places in ", it->second)));
      }
    }
  }
  if (num_tensors == weight_map.size()) return absl::OkStatus();
  for (const auto& entry : weight_map) {
    const auto file = std::find_if(files.begin(), files.end(), [&](const SafetensorsFile& f) {
      return f.path().filename() == entry.second;
    });
    if (file == files.end() || !file->Find(entry.first).ok()) {
      return absl::InvalidArgumentError(absl::StrCat(index_path.string(), ": weight_map places ",
                                                     QuotedForError(entry.first), " in ",
                                                     entry.second, ", which does not hold it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const fs::path& path) {
  SafetensorsFile file;
  file.path_ = path;
  // Without O_NONBLOCK, opening a FIFO would wait for its writer.
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return ErrnoStatus(errno, "open", path);
  struct stat info;
  if (::fstat(file.fd_, &info) != 0) return ErrnoStatus(errno, "stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path.string(), " is not a regular file"));
  }
  const uint64_t file_size = static_cast<uint64_t>(info.st_size);

  const absl::StatusOr<std::vector<std::byte>> prefix = ReadPrefix(file.fd_, file_size, path);
  if (!prefix.ok()) return prefix.status();
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(*prefix, file_size, path.string());
  if (!header.ok()) return header.status();
  file.header_ = *std::move(header);

  void* mapping = ::mmap(nullptr, file_size, PROT_READ, MAP_PRIVATE, file.fd_, 0);
  if (mapping == MAP_FAILED) return ErrnoStatus(errno, "map", path);
  file.mapping_ = static_cast<const std::byte*>(mapping);
  file.mapping_size_ = file_size;

  file.index_.reserve(file.header_.entries.size());
  for (size_t i = 0; i < file.header_.entries.size(); ++i) {
    file.index_.emplace(file.header_.entries[i].name, i);
  }
  return file;
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept { *this = std::move(other); }

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_size_, other.mapping_size_);
  std::swap(header_, other.header_);
  std::swap(index_, other.index_);
  return *this;
}

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) ::munmap(const_cast<std::byte*>(mapping_), mapping_size_);
  if (fd_ >= 0) ::close(fd_);
}

TensorView SafetensorsFile::tensor(size_t index) const {
  const SafetensorsHeader::Entry& entry = header_.entries[index];
  return {entry.name, entry.dtype, entry.shape,
          std::span(mapping_ + header_.data_offset + entry.begin,
                    static_cast<size_t>(entry.end - entry.begin))};
}

absl::StatusOr<TensorView> SafetensorsFile::Find(std::string_view name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) {
    return absl::NotFoundError(
        absl::StrCat(path_.string(), " holds no tensor ", QuotedForError(name)));
  }
  return tensor(it->second);
}

absl::Status SafetensorsFile::CheckSize() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) return ErrnoStatus(errno, "stat", path_);
  if (static_cast<uint64_t>(info.st_size) != mapping_size_) {
    return absl::DataLossError(absl::StrCat(path_.string(), " was ", mapping_size_,
                                            " bytes when opened and is ", info.st_size,
                                            " now; replace checkpoints by renaming, not in place"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsCheckpoint> SafetensorsCheckpoint::Open(const fs::path& directory) {
  SafetensorsCheckpoint checkpoint;
  std::error_code error;
  const fs::path single = directory / "model.safetensors";
  const fs::path index_path = directory / "model.safetensors.index.json";
  if (!fs::is_directory(directory, error)) {
    return absl::NotFoundError(absl::StrCat(directory.string(), " is not a folder"));
  }
  if (fs::exists(single, error)) {
    absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(single);
    if (!file.ok()) return file.status();
    checkpoint.files_.push_back(*std::move(file));
  } else if (fs::exists(index_path, error)) {
    const auto weight_map = ReadWeightMap(index_path);
    if (!weight_map.ok()) return weight_map.status();
    std::set<std::string> names;
    for (const auto& [tensor, file] : *weight_map) names.insert(file);
    if (names.size() > kMaxSafetensorsShards) {
      return absl::ResourceExhaustedError(absl::StrCat(index_path.string(), ": names ",
                                                       names.size(), " files; at most ",
                                                       kMaxSafetensorsShards, " are accepted"));
    }
    for (const std::string& name : names) {
      absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(directory / name);
      if (!file.ok()) return file.status();
      checkpoint.files_.push_back(*std::move(file));
    }
    absl::Status status = CheckWeightMap(*weight_map, checkpoint.files_, index_path);
    if (!status.ok()) return status;
  } else {
    return NoWeightsError(directory);
  }

  for (const SafetensorsFile& file : checkpoint.files_) {
    for (size_t i = 0; i < file.num_tensors(); ++i) {
      checkpoint.tensors_.push_back(file.tensor(i));
      checkpoint.total_bytes_ += checkpoint.tensors_.back().data.size();
    }
  }
  std::sort(checkpoint.tensors_.begin(), checkpoint.tensors_.end(),
            [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
  return checkpoint;
}

const TensorView* SafetensorsCheckpoint::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorView& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace octogate::workers
