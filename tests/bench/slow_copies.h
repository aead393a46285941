// A backend whose pages lie behind a link of limited speed: copies of pages take at least as long
// as the link would, everything else is the backend's that it was made of. So a machine without a
// device shows what is worth copying where copying costs something.
#ifndef OCTOGATE_TESTS_BENCH_SLOW_COPIES_H_
#define OCTOGATE_TESTS_BENCH_SLOW_COPIES_H_

#include <memory>

#include "kernels/backend.h"

namespace octogate::bench {

// `backend` is one whose memory is the host's.
std::unique_ptr<kernels::Backend> MakeSlowCopies(std::unique_ptr<kernels::Backend> backend,
                                                 double bytes_per_second);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SLOW_COPIES_H_
