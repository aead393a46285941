// What a drafter may draft next, the most probable first.
//
// Thread safety: none.
#ifndef OCTOGATE_WORKERS_SPECULATION_BEST_FIRST_H_
#define OCTOGATE_WORKERS_SPECULATION_BEST_FIRST_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace octogate::workers {

// Of all that is offered, as many as can still be taken. In order, since almost everything that is
// offered has less than what is there: it is dropped at once, or comes near the end.
template <typename T>
class BestFirst {
 public:
  struct Item {
    float path = 0;  // its probability
    T what;
  };

  // `takes`: how often Take is called at most.
  explicit BestFirst(int takes) : takes_(static_cast<size_t>(takes)) { items_.reserve(takes_); }

  bool empty() const { return first_ == items_.size(); }

  void Offer(float path, const T& what) {
    if (items_.size() - first_ == takes_) {
      if (takes_ == 0 || path <= items_.back().path) return;
      items_.pop_back();
    }
    const auto place =
        std::upper_bound(items_.begin() + static_cast<std::ptrdiff_t>(first_), items_.end(), path,
                         [](float value, const Item& item) { return value > item.path; });
    items_.insert(place, Item{path, what});
  }

  // The one with the largest path, of equals the one that was offered first. Not of none.
  Item Take() {
    --takes_;
    return items_[first_++];
  }

 private:
  size_t takes_;  // that are left
  std::vector<Item> items_;
  size_t first_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_BEST_FIRST_H_
