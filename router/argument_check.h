// Whether a rewritten query has kept what it must.
//
// A language model that writes the argument of a functional token may change
// what it should copy. These checks find the changes that would give a wrong
// answer without anybody noticing.

#ifndef OCTOGATE_ROUTER_ARGUMENT_CHECK_H_
#define OCTOGATE_ROUTER_ARGUMENT_CHECK_H_

#include <string>
#include <string_view>

#include "octogate/v1/graph.pb.h"

namespace octogate::router {

// What `argument` lost of `query`, as the end of a sentence that begins with
// "the argument"; empty if it kept what `check` asks for.
//
// A number is a run of ASCII digits, with thousands separated by commas and a
// decimal point: "1,880.50" has the value of "1880.5". Sign and unit are not
// part of it.
std::string WhatArgumentLost(v1::ArgumentCheck check, std::string_view query,
                             std::string_view argument);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ARGUMENT_CHECK_H_
