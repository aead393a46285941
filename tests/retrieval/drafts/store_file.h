// Draft stores of test documents, in a folder of their own.
#ifndef OCTOGATE_TESTS_RETRIEVAL_DRAFTS_STORE_FILE_H_
#define OCTOGATE_TESTS_RETRIEVAL_DRAFTS_STORE_FILE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "retrieval/drafts/draft_store_writer.h"

namespace octogate::retrieval {

using Document = std::vector<int32_t>;

inline constexpr Hash128 kTestTokenizer = {.high = 0x0123456789abcdef, .low = 42};

class StoreFile {
 public:
  StoreFile() {
    std::string name = (std::filesystem::temp_directory_path() / "octogate-drafts-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "cannot make " << name;
    folder_ = name;
  }
  ~StoreFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  StoreFile(const StoreFile&) = delete;
  StoreFile& operator=(const StoreFile&) = delete;

  std::string path() const { return folder_ / "store"; }
  const std::filesystem::path& folder() const { return folder_; }

  absl::Status Write(const std::vector<Document>& documents, const DraftStoreWriterOptions& options,
                     bool append = false) const {
    auto writer = append ? DraftStoreWriter::Append(path(), options)
                         : DraftStoreWriter::Create(path(), options);
    if (!writer.ok()) return writer.status();
    for (const Document& document : documents) {
      if (absl::Status status = (*writer)->Add(document); !status.ok()) return status;
    }
    return (*writer)->Finish();
  }

  std::unique_ptr<const DraftStore> Open() const {
    auto store = DraftStore::Open(path());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

 private:
  std::filesystem::path folder_;
};

// Words below `vocab_size`, with repetitions within and between documents.
inline std::vector<Document> RandomDocuments(std::mt19937_64& random, int count, int max_length,
                                             int vocab_size) {
  std::vector<Document> documents;
  for (int i = 0; i < count; ++i) {
    Document document;
    const auto length = static_cast<size_t>(random() % static_cast<uint64_t>(max_length + 1));
    while (document.size() < length) {
      const Document& from = documents.empty() || random() % 3 == 0
                                 ? document
                                 : documents[random() % documents.size()];
      if (from.empty() || random() % 4 == 0) {
        document.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size)));
        continue;
      }
      const size_t begin = random() % from.size();
      const size_t end = std::min(from.size(), begin + 1 + random() % 12);
      const Document part(from.begin() + static_cast<std::ptrdiff_t>(begin),
                          from.begin() + static_cast<std::ptrdiff_t>(end));
      document.insert(document.end(), part.begin(), part.end());
    }
    documents.push_back(document);
  }
  return documents;
}

}  // namespace octogate::retrieval

#endif  // OCTOGATE_TESTS_RETRIEVAL_DRAFTS_STORE_FILE_H_
