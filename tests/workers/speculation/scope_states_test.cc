// Which states of scopes are kept, by what they take, and how many are asked for that.
#include "workers/speculation/scope_states.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

struct State {
  uint64_t bytes() const {
    ++*asked;
    return size;
  }

  int* asked = nullptr;
  uint64_t size = 0;
};

// What is kept, in the plainest way.
class Model {
 public:
  struct Scope {
    std::string name;
    uint64_t size = 0;
    int users = 0;
  };

  Model(size_t max_scopes, uint64_t max_bytes) : max_scopes_(max_scopes), max_bytes_(max_bytes) {}

  Scope* Find(const std::string& name) {
    const auto found = std::find_if(scopes_.begin(), scopes_.end(),
                                    [&](const Scope& scope) { return scope.name == name; });
    return found == scopes_.end() ? nullptr : &*found;
  }
  Scope& Use(const std::string& name) {
    Scope scope{.name = name};
    if (const Scope* found = Find(name)) scope = *found;
    ++scope.users;
    scopes_.remove_if([&](const Scope& other) { return other.name == name; });
    scopes_.push_front(scope);
    for (auto last = scopes_.end(); last != scopes_.begin();) {
      --last;
      const bool too_many = scopes_.size() > max_scopes_ || bytes() > max_bytes_;
      if (too_many && last->users == 0) last = scopes_.erase(last);
    }
    return scopes_.front();
  }
  size_t size() const { return scopes_.size(); }
  uint64_t bytes() const {
    uint64_t bytes = 0;
    for (const Scope& scope : scopes_) bytes += 2 * scope.name.capacity() + scope.size;
    return bytes;
  }

 private:
  const size_t max_scopes_;
  const uint64_t max_bytes_;
  std::list<Scope> scopes_;  // the most recently begun first
};

TEST(ScopeStatesTest, KeepsTheLastBegunWithinTheirBytesAndAsksOnlyThoseInUse) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  for (int trial = 0; trial < 20; ++trial) {
    int asked = 0;
    const int max_scopes = pick(1, 30);
    const auto max_bytes = static_cast<uint64_t>(pick(1, 30000));
    ScopeStates<State> states(max_scopes, max_bytes);
    Model model(static_cast<size_t>(max_scopes), max_bytes);
    std::vector<std::pair<std::string, std::shared_ptr<State>>> in_use;
    int released = 0;  // since the last Use
    for (int i = 0; i < 500; ++i) {
      const std::string name = std::to_string(pick(0, 40));
      const auto size = static_cast<uint64_t>(pick(0, 2000));
      switch (pick(0, 4)) {
        case 0:
        case 1: {  // grows or shrinks, and is used no more
          if (in_use.empty()) break;
          const auto one = in_use.begin() + pick(0, static_cast<int>(in_use.size()) - 1);
          Model::Scope& scope = *model.Find(one->first);
          scope.size = one->second->size = size;
          --scope.users;
          in_use.erase(one);
          ++released;
          break;
        }
        case 2: {
          const auto found = states.Find(name);
          if (found == nullptr) break;
          model.Find(name)->size = found->size = size;
          ++released;
          break;
        }
        default: {
          asked = 0;
          auto state =
              states.Use(name, [&] { return std::make_unique<State>(State{.asked = &asked}); });
          EXPECT_LE(asked, static_cast<int>(in_use.size()) + released + 1);
          released = 0;
          ASSERT_EQ(state->size, model.Use(name).size);
          in_use.emplace_back(name, std::move(state));
        }
      }
      ASSERT_EQ(states.size(), model.size());
      ASSERT_EQ(states.bytes(), model.bytes());
      for (int other = 0; other <= 40; ++other) {
        ASSERT_EQ(states.Has(std::to_string(other)), model.Find(std::to_string(other)) != nullptr);
      }
    }
  }
}

}  // namespace
}  // namespace octogate::workers
