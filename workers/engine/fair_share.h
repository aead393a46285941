// Who has had how much: shares the rows of steps between tenants that want more than there are
// (virtual token counters: Sheng et al. 2024, "Fairness in Serving Large Language Models", OSDI).
//
// Every tenant has an account of the rows it was charged. The tenant with the least is served next.
// An idle tenant saves nothing up: when it comes back, its account is raised to the least of those
// that were there in the meantime.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_ENGINE_FAIR_SHARE_H_
#define OCTOGATE_WORKERS_ENGINE_FAIR_SHARE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

namespace octogate::workers {

class FairShare {
 public:
  // Accounts of idle tenants that are remembered at most; with more all of them are forgotten.
  static constexpr size_t kMaxIdle = 4096;

  struct Account {
    int64_t rows = 0;  // charged, or granted by Enter
    int sequences = 0;
  };

  // One sequence more of a tenant. The account stays where it is until its last sequence leaves.
  Account* Enter(const std::string& tenant);
  void Leave(const std::string& tenant);

  size_t accounts() const { return accounts_.size(); }

 private:
  std::unordered_map<std::string, Account> accounts_;
  size_t idle_ = 0;    // of these
  int64_t floor_ = 0;  // what a new account begins with: never falls
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_FAIR_SHARE_H_
