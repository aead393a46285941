// A store of pages that does what a test says.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_SCRIPTED_STORE_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_SCRIPTED_STORE_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/page_store.h"

namespace octogate::workers {

// What the store says, and what was asked of it.
struct Script {
  double fetch = 0.1;     // seconds of any fetch
  double fetch_page = 0;  // and of each page
  double miss = 0.001;
  std::vector<SharedPage> come;  // with the next Take
  bool done = false;
  int fetches = 0;
  int first_asked = 0;
  int pages_asked = 0;
  int room = 1000;  // for pages
  int given_up = 0;
  PageOrder order = PageOrder::kForward;
  int first_needed = 0;
};

class ScriptedStore final : public PageStore {
 public:
  explicit ScriptedStore(Script* script) : script_(script) {}

  std::unique_ptr<PageFetch> Fetch(const PageChain& chain, PageOrder order,
                                   std::function<void()>) override {
    ++script_->fetches;
    script_->order = order;
    script_->first_asked = chain.first;
    script_->pages_asked = chain.count;
    if (script_->room == 0) return nullptr;
    return std::make_unique<ScriptedFetch>(script_, std::min(chain.count, script_->room));
  }
  double FetchSeconds(int pages) const override {
    return script_->fetch + pages * script_->fetch_page;
  }
  double MissSeconds() const override { return script_->miss; }
  void Write(const PageChain&, const ReadPages&) override {}
  absl::StatusOr<int> CountStored(const PageChain&, absl::Time) override { return 0; }
  absl::Status Flush(const PageFlush&, absl::Time) override { return absl::OkStatus(); }
  ContextFilter TakeFlushed() override { return nullptr; }
  PageStoreStats stats() const override { return {}; }

 private:
  class ScriptedFetch final : public PageFetch {
   public:
    ScriptedFetch(Script* script, int pages) : script_(script), pages_(pages) {}
    ~ScriptedFetch() override { script_->given_up += script_->done ? 0 : 1; }
    int pages() const override { return pages_; }
    bool Take(int first_needed, std::vector<SharedPage>& pages) override {
      script_->first_needed = first_needed;
      for (SharedPage& page : script_->come) pages.push_back(std::move(page));
      script_->come.clear();
      return script_->done;
    }

   private:
    Script* const script_;
    const int pages_;
  };
  Script* const script_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_SCRIPTED_STORE_H_
