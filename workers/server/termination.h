// Waiting for SIGINT or SIGTERM without a signal handler.

#ifndef OCTOGATE_WORKERS_SERVER_TERMINATION_H_
#define OCTOGATE_WORKERS_SERVER_TERMINATION_H_

namespace octogate::workers {

// Blocks SIGINT and SIGTERM in this thread and in those it starts from now on.
// Call it first in main, before anything starts a thread (gRPC does).
void BlockTerminationSignals();

// Waits for one of both and returns its number.
int WaitForTermination();

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_TERMINATION_H_
