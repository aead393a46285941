// What drafters have learned outlives the process, and hostile files do nothing.
#include "workers/speculation/kept_drafter.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "workers/speculation/draft_folder.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/recycling_state.h"
#include "workers/speculation/suffix.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;

class KeptDrafterTest : public ::testing::Test {
 protected:
  KeptDrafterTest() {
    std::string name = testing::TempDir() + "octogate-drafts-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~KeptDrafterTest() override { fs::remove_all(folder_); }

  std::shared_ptr<DraftKeeper> Keeper(const std::string& model,
                                      absl::Duration interval = absl::Seconds(30),
                                      size_t max_scopes = 64) const {
    auto folder = OpenDraftFolder(folder_, {.interval = interval});
    EXPECT_TRUE(folder.ok()) << folder.status();
    return std::make_shared<DraftKeeper>(DraftKeeperOptions{.model = model,
                                                            .interval = absl::Milliseconds(10),
                                                            .load_wait = absl::Minutes(2),
                                                            .max_scopes = max_scopes,
                                                            .places = {*folder}});
  }
  std::unique_ptr<Drafter> Open(const std::string& model = "model", int vocab_size = 100) const {
    return KeepDrafter(
        std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = vocab_size}}),
        Keeper(model));
  }
  std::unique_ptr<Drafter> OpenSuffix(int vocab_size = 100) const {
    return KeepDrafter(std::make_unique<SuffixDrafter>(SuffixOptions{.vocab_size = vocab_size}),
                       Keeper("model"));
  }
  std::unique_ptr<Drafter> OpenLookahead() const {
    return KeepDrafter(std::make_unique<LookaheadDrafter>(LookaheadOptions{.vocab_size = 100}),
                       Keeper("model"));
  }
  static DraftOwner Owner(const std::string& scope) {
    return {.model = "model", .drafter = "recycling", .scope = scope};
  }
  static std::unique_ptr<LearnedState> Learned() {
    RecyclingDrafter drafter({.table = {.vocab_size = 100}});
    Learn(drafter, "");
    auto state = drafter.MakeState();
    EXPECT_TRUE(state->Learned(drafter.TakeLearned("", size_t{1} << 16)).ok());
    return state;
  }
  // Whether the folder has anything of a scope.
  bool Loads(const std::string& scope, int vocab_size = 100) const {
    const auto folder = OpenDraftFolder(folder_);
    if (!folder.ok()) return false;
    RecyclingState state({.vocab_size = vocab_size});
    (*folder)->Load(Owner(scope), state);
    return state.changes() > 0;
  }
  static void Learn(Drafter& drafter, std::string_view scope) {
    const std::vector<int32_t> tokens{5, 6, 7, 5, 6, 7, 5, 6, 7};
    drafter.Begin(scope)->Append(tokens);
  }
  // Whether 6 is expected behind 5, of which a new sequence has said nothing.
  static bool Knows(Drafter& drafter, std::string_view scope) {
    const auto sequence = drafter.Begin(scope);
    const std::vector<int32_t> prompt{1, 5};
    sequence->Append(prompt);
    DraftTree tree;
    sequence->Propose(8, 4, tree);
    return tree.Child(-1, 6) >= 0;
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder_)) files.push_back(entry.path());
    return files;
  }

  fs::path folder_;
};

TEST_F(KeptDrafterTest, ARestartKnowsWhatWasLearned) {
  {
    const auto drafter = Open();
    Learn(*drafter, "tenant");
  }
  const auto drafter = Open();
  EXPECT_TRUE(Knows(*drafter, "tenant"));
  EXPECT_FALSE(Knows(*drafter, "other tenant"));
  EXPECT_FALSE(Knows(*Open("other model"), "tenant"));
}

TEST_F(KeptDrafterTest, ARestartKnowsPastOutputs) {
  const std::vector<int32_t> prompt{1, 2, 3};
  const std::vector<int32_t> output{5, 6, 7, 8, 9};
  for (const bool of_suffix : {false, true}) {
    SCOPED_TRACE(of_suffix);
    const auto open = [&] { return of_suffix ? OpenSuffix() : OpenLookahead(); };
    const auto drafts = [&](std::string_view scope) {
      const auto drafter = open();
      const auto sequence = drafter->Begin(scope);
      sequence->Append(std::vector<int32_t>{2, 5, 6});
      DraftTree tree;
      sequence->Propose(8, 4, tree);
      return tree.Child(-1, 7) >= 0;
    };
    EXPECT_FALSE(drafts("tenant"));
    {
      const auto drafter = open();
      const auto sequence = drafter->Begin("tenant");
      sequence->Append(prompt);
      sequence->Append(output);
    }
    EXPECT_TRUE(drafts("tenant"));
    EXPECT_FALSE(drafts("other tenant"));
  }
}

// A process that is killed runs no destructor: what it has learned is in the folder before.
TEST_F(KeptDrafterTest, FilesAreWrittenWhileTheProcessRuns) {
  const auto drafter = KeepDrafter(
      std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = 100}}),
      Keeper("model", absl::Milliseconds(10)));
  Learn(*drafter, "tenant");
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  const auto is_written = [&] {
    const std::vector<fs::path> files = Files();
    return files.size() == 1 && files[0].extension() == ".recycling";
  };
  while (!is_written() && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(10));
  ASSERT_TRUE(is_written());
  EXPECT_TRUE(Knows(*Open(), "tenant"));
}

// A scope that the drafter had to drop is there again when it is asked for.
TEST_F(KeptDrafterTest, DroppedScopesComeBack) {
  const auto keeper = Keeper("model");
  const auto drafter = KeepDrafter(std::make_unique<RecyclingDrafter>(RecyclingOptions{
                                       .table = {.vocab_size = 100}, .max_scopes = 1}),
                                   keeper);
  Learn(*drafter, "tenant");
  EXPECT_FALSE(Knows(*drafter, "other tenant"));
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  bool known = false;
  while (!known && absl::Now() < give_up) {
    known = Knows(*drafter, "tenant");
    if (!known) absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(known);
}

TEST_F(KeptDrafterTest, FilesAreTheirOwnersAlone) {
  Learn(*Open(), "tenant");
  ASSERT_EQ(Files().size(), 1U);
  struct stat info {};
  ASSERT_EQ(::stat(Files()[0].c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(KeptDrafterTest, DamagedAndForeignFilesAreNone) {
  Learn(*Open(), "tenant");
  ASSERT_EQ(Files().size(), 1U);
  const fs::path file = Files()[0];
  std::string good;
  {
    std::ifstream in(file, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto known = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    return Loads("tenant");
  };
  EXPECT_TRUE(known(good));
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(known(bad)) << i;
    EXPECT_FALSE(known(good.substr(0, i))) << i;
  }
  EXPECT_FALSE(known(good + "x"));
  EXPECT_FALSE(known(""));
  // A table of another shape, under the right name.
  std::ofstream(file, std::ios::binary) << good;
  EXPECT_TRUE(Loads("tenant"));
  EXPECT_FALSE(Loads("tenant", 50));
}

TEST_F(KeptDrafterTest, AFolderHasSoManyFilesAtMost) {
  const auto folder = OpenDraftFolder(folder_, {.max_files = 3});
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto write = [&](const std::string& scope) {
    const auto state = Learned();
    EXPECT_TRUE((*folder)->Sync(Owner(scope), /*last=*/true, *state).ok());
  };
  for (const char* scope : {"a", "b", "c"}) write(scope);
  ASSERT_EQ(Files().size(), 3U);
  const fs::path oldest = Files()[1];
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(2);
  fs::last_write_time(oldest, long_ago);
  // Leftovers of those that died while they wrote are removed, and what is not the folder's stays.
  const fs::path leftover = oldest.string() + ".0123.new";
  const fs::path foreign = folder_ / "notes";
  for (const fs::path& path : {leftover, foreign}) {
    std::ofstream(path) << "x";
    fs::last_write_time(path, long_ago);
  }
  write("d");
  EXPECT_FALSE(fs::exists(oldest));
  EXPECT_FALSE(fs::exists(leftover));
  EXPECT_TRUE(fs::exists(foreign));
  EXPECT_TRUE(Loads("d"));
  for (int i = 0; i < 20; ++i) write(std::to_string(i));
  EXPECT_EQ(Files().size(), 4U);
  write("19");  // is there already
  EXPECT_EQ(Files().size(), 4U);
}

// The engine's thread does not wait for a large file.
TEST_F(KeptDrafterTest, LargeFilesAreReadByTheFirstSync) {
  Learn(*Open(), "tenant");
  const auto folder = OpenDraftFolder(folder_, {.max_loaded_bytes = 1});
  ASSERT_TRUE(folder.ok()) << folder.status();
  RecyclingState state({.vocab_size = 100});
  (*folder)->Load(Owner("tenant"), state);
  EXPECT_EQ(state.changes(), 0U);
  EXPECT_TRUE((*folder)->Sync(Owner("tenant"), /*last=*/false, state).ok());
  EXPECT_GT(state.changes(), 0U);
}

TEST_F(KeptDrafterTest, AKeeperHasSoManyScopesAtMost) {
  DraftKeeper keeper({.model = "model", .interval = absl::Milliseconds(10), .max_scopes = 2});
  const auto open = [&](std::string_view scope) {
    return keeper.Open("recycling", scope,
                       std::make_unique<RecyclingState>(RecyclingTableOptions{.vocab_size = 100}));
  };
  auto first = open("first");
  const auto second = open("second");
  EXPECT_NE(first, nullptr);
  EXPECT_NE(second, nullptr);
  EXPECT_EQ(open("third"), nullptr);
  EXPECT_EQ(open("second"), second);
  first.reset();
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  std::shared_ptr<KeptScope> third;
  while ((third = open("third")) == nullptr && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_NE(third, nullptr);
}

TEST_F(KeptDrafterTest, AScopeWithoutRoomIsKeptWhenThereIs) {
  const auto drafter = KeepDrafter(std::make_unique<RecyclingDrafter>(RecyclingOptions{
                                       .table = {.vocab_size = 100}, .max_scopes = 1}),
                                   Keeper("model", absl::Milliseconds(10), /*max_scopes=*/1));
  {
    const auto running = drafter->Begin("tenant");
    Learn(*drafter, "other tenant");
    EXPECT_TRUE(Knows(*drafter, "other tenant"));
  }
  EXPECT_TRUE(Files().empty());
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  while (!Loads("other tenant") && absl::Now() < give_up) {
    Learn(*drafter, "other tenant");
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(Loads("other tenant"));
}

// Neither by what their names are like, nor by their age.
TEST_F(KeptDrafterTest, FilesOfOthersAreLeftAlone) {
  const auto folder = OpenDraftFolder(folder_, {.max_files = 1});
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string digest(32, 'a');
  std::vector<fs::path> foreign;
  for (const std::string& name :
       {digest, digest + ".recycling", digest + ".txt", digest + ".new",
        digest + ".recycling.notes.new", digest + ".recycling..new", digest + ".Recycling",
        digest + "a.recycling", "b" + digest.substr(1) + ".recycling.bak", std::string("x.new")}) {
    foreign.push_back(folder_ / name);
    std::ofstream(foreign.back()) << "octogate drafts of somebody else\n";
    fs::last_write_time(foreign.back(), fs::file_time_type::clock::now() - std::chrono::hours(9));
  }
  for (int i = 0; i < 3; ++i) {
    const auto state = Learned();
    EXPECT_TRUE((*folder)->Sync(Owner(std::to_string(i)), /*last=*/true, *state).ok());
  }
  for (const fs::path& path : foreign) EXPECT_TRUE(fs::exists(path)) << path;
  EXPECT_TRUE(Loads("2"));
  EXPECT_FALSE(Loads("0"));
}

// A state that knows one pair of tokens.
std::unique_ptr<LearnedState> LearnedPair(int32_t token) {
  RecyclingDrafter drafter({.table = {.vocab_size = 100}});
  drafter.Begin("")->Append(std::vector<int32_t>{token, token + 1});
  auto state = drafter.MakeState();
  EXPECT_TRUE(state->Learned(drafter.TakeLearned("", size_t{1} << 16)).ok());
  return state;
}

// Two that share a folder read, merge and replace the same file at the same time.
TEST_F(KeptDrafterTest, NothingThatTwoProcessesWriteAtOnceIsLost) {
  constexpr int32_t kPairs = 20;
  const auto write = [&](int32_t first) {
    const auto folder = OpenDraftFolder(folder_, {.lock_wait = absl::Minutes(2)});
    ASSERT_TRUE(folder.ok()) << folder.status();
    for (int32_t i = 0; i < kPairs; ++i) {
      const auto state = LearnedPair(first + 2 * i);
      EXPECT_TRUE((*folder)->Sync(Owner("tenant"), /*last=*/true, *state).ok());
    }
  };
  std::thread other([&] { write(50); });
  write(1);
  other.join();
  const auto drafter = Open();
  for (const int32_t first : {1, 50}) {
    for (int32_t i = 0; i < kPairs; ++i) {
      const int32_t token = first + 2 * i;
      const auto sequence = drafter->Begin("tenant");
      sequence->Append(std::vector<int32_t>{0, token});
      DraftTree tree;
      sequence->Propose(8, 1, tree);
      EXPECT_GE(tree.Child(-1, token + 1), 0) << token;
    }
  }
}

// As of a process that was stopped in the middle.
TEST_F(KeptDrafterTest, ALockThatIsNotGivenBackHoldsNobodyUpForLong) {
  const auto folder = OpenDraftFolder(
      folder_, {.interval = absl::ZeroDuration(), .lock_wait = absl::Milliseconds(10)});
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto state = Learned();
  {
    const int held = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(::flock(held, LOCK_EX), 0);
    const absl::Status status = (*folder)->Sync(Owner("tenant"), /*last=*/false, *state);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(status.message().find("lock"), std::string::npos) << status;
    EXPECT_TRUE(Files().empty());
    // What would be lost otherwise is written all the same.
    const auto other = Learned();
    EXPECT_TRUE((*folder)->Sync(Owner("other tenant"), /*last=*/true, *other).ok());
    EXPECT_TRUE(Loads("other tenant"));
    ::close(held);
  }
  EXPECT_TRUE((*folder)->Sync(Owner("tenant"), /*last=*/false, *state).ok());
  EXPECT_TRUE(Loads("tenant"));
}

// A place whose disk does not answer until it is told to.
class StuckPlace : public DraftPlace {
 public:
  void Load(const DraftOwner& /*owner*/, LearnedState& state) override {
    answers.WaitForNotification();
    RecyclingDrafter drafter({.table = {.vocab_size = 100}});
    drafter.Begin("")->Append(std::vector<int32_t>{5, 6});
    EXPECT_TRUE(state.Heard(drafter.TakeLearned("", size_t{1} << 16)).ok());
    thread = std::this_thread::get_id();
  }
  absl::Status Sync(const DraftOwner& /*owner*/, bool /*last*/, LearnedState& /*state*/) override {
    return absl::OkStatus();
  }

  absl::Notification answers;
  std::thread::id thread;
};

TEST_F(KeptDrafterTest, APlaceThatDoesNotAnswerHoldsNoSequenceUp) {
  const auto place = std::make_shared<StuckPlace>();
  const auto keeper = std::make_shared<DraftKeeper>(
      DraftKeeperOptions{.model = "model", .interval = absl::Milliseconds(10), .places = {place}});
  const auto drafter = KeepDrafter(
      std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = 100}}), keeper);
  EXPECT_FALSE(Knows(*drafter, "tenant"));
  place->answers.Notify();
  // What comes late is heard late.
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  bool known = false;
  while (!known && absl::Now() < give_up) {
    known = Knows(*drafter, "tenant");
    if (!known) absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(known);
  EXPECT_NE(place->thread, std::this_thread::get_id());
}

TEST_F(KeptDrafterTest, AKeeperWhosePlacesAreSlowHasSoManyClosedScopesAtMost) {
  const auto place = std::make_shared<StuckPlace>();
  DraftKeeper keeper({.model = "model",
                      .interval = absl::Milliseconds(10),
                      .max_closed_scopes = 2,
                      .places = {place}});
  const auto open = [&](std::string_view scope) {
    return keeper.Open("recycling", scope,
                       std::make_unique<RecyclingState>(RecyclingTableOptions{.vocab_size = 100}));
  };
  std::vector<std::shared_ptr<KeptScope>> scopes = {open("a"), open("b"), open("c")};
  EXPECT_EQ(std::count(scopes.begin(), scopes.end(), nullptr), 0);
  scopes.clear();
  EXPECT_EQ(open("d"), nullptr);
  scopes = {open("a"), open("b")};  // those that it has are opened again
  EXPECT_EQ(std::count(scopes.begin(), scopes.end(), nullptr), 0);
  EXPECT_NE(open("d"), nullptr);  // closed at once, as c is
  EXPECT_EQ(open("e"), nullptr);

  place->answers.Notify();
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  std::shared_ptr<KeptScope> last;
  while ((last = open("e")) == nullptr && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_NE(last, nullptr);
}

// Of a drafter whose sequences want hidden states, which a keeper must not hide.
TEST_F(KeptDrafterTest, WhatADrafterWantsIsKnownThroughTheKeeper) {
  class Wanting : public RecyclingDrafter {
   public:
    Wanting() : RecyclingDrafter({.table = {.vocab_size = 100}}) {}
    bool wants_hidden() const override { return true; }
    bool has_distribution() const override { return true; }
    bool is_retrieved() const override { return true; }
  };
  const auto drafter = KeepDrafter(std::make_unique<Wanting>(), Keeper("model"));
  EXPECT_TRUE(drafter->wants_hidden());
  EXPECT_TRUE(drafter->has_distribution());
  EXPECT_TRUE(drafter->is_retrieved());
  EXPECT_EQ(drafter->candidates(), Wanting().candidates());
  const auto sequence = drafter->Begin("tenant");
  EXPECT_GT(sequence->bytes(), 0U);
}

TEST_F(KeptDrafterTest, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(folder_ / "file") << "x";
  EXPECT_FALSE(OpenDraftFolder(folder_ / "file" / "below").ok());
}

}  // namespace
}  // namespace octogate::workers
