// Runs a vote node: several answers to one query, and the one that most of them agree on.
#ifndef OCTOGATE_GATEWAY_JUDGING_VOTE_CALL_H_
#define OCTOGATE_GATEWAY_JUDGING_VOTE_CALL_H_

#include <memory>

#include "gateway/judging/judged_answer.h"
#include "gateway/model_client.h"

namespace octogate::gateway {

// The ballots are the members in their order, each with its samples one after the other. They run
// in waves of `parallel`; a wave gets an equal share of the time that is left for those still to
// come, and begins only where the waves before have not settled the vote (tally.h). Ballots are
// counted in their order, whatever the order in which they end, so the outcome is a function of the
// answers alone. Calls under way when the vote is settled are cancelled and waited for.
//
// A ballot that fails, whose node is drained or whose answer has no normal form counts as one
// without answer. The answer is the text of the winning ballot, the confidence its share. Where no
// ballot has a normal form, the first text counts, with confidence 0; where all failed, the vote
// fails as the first did. Sample i of a member with a seed runs with seed + i.
//
// `on_done` comes once, possibly before the function returns, on any thread.
std::shared_ptr<ModelCall> StartVote(const v1::VoteNode& vote, JudgingContext context,
                                     JudgedCallback on_done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_VOTE_CALL_H_
