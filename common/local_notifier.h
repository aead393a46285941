// Notifications inside one process, for stores that have no others.
#ifndef OCTOGATE_COMMON_LOCAL_NOTIFIER_H_
#define OCTOGATE_COMMON_LOCAL_NOTIFIER_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/store.h"

namespace octogate {

// What Store::Notify and Store::Watch do. Thread-safe; outlives what Watch returns.
class LocalNotifier {
 public:
  void Notify(std::string_view topic) {
    absl::MutexLock lock(&mutex_);
    for (const Watcher& watcher : watchers_) {
      if (watcher.topic == topic) watcher.on_notified();
    }
  }

  std::unique_ptr<StoreWatch> Watch(std::string_view topic, std::function<void()> on_notified) {
    absl::MutexLock lock(&mutex_);
    const auto place =
        watchers_.insert(watchers_.end(), {std::string(topic), std::move(on_notified)});
    return std::make_unique<Registration>(this, place);
  }

 private:
  struct Watcher {
    std::string topic;
    std::function<void()> on_notified;
  };
  using Place = std::list<Watcher>::iterator;

  class Registration final : public StoreWatch {
   public:
    Registration(LocalNotifier* notifier, Place place) : notifier_(*notifier), place_(place) {}
    ~Registration() override {
      absl::MutexLock lock(&notifier_.mutex_);
      notifier_.watchers_.erase(place_);
    }

   private:
    LocalNotifier& notifier_;
    const Place place_;
  };

  absl::Mutex mutex_;
  std::list<Watcher> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_LOCAL_NOTIFIER_H_
