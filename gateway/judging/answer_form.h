// What two answers have to share to be the same.
#ifndef OCTOGATE_GATEWAY_JUDGING_ANSWER_FORM_H_
#define OCTOGATE_GATEWAY_JUDGING_ANSWER_FORM_H_

#include <string>
#include <string_view>

#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// The answer in its normal form; empty where it has none. The forms are defined at v1::AnswerForm.
// Of a longer answer the last 64 KiB are looked at. Deterministic, whatever the bytes.
std::string NormalizeAnswer(std::string_view answer, v1::AnswerForm form);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_ANSWER_FORM_H_
