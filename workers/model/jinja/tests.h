// Jinja's tests: "value is name(arguments)".
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_TESTS_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_TESTS_H_

#include <string_view>

#include "workers/model/jinja/runtime.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

bool IsTest(std::string_view name);

// False after a failure.
bool ApplyTest(Runtime& runtime, std::string_view name, const Value& value,
               const Arguments& arguments);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_TESTS_H_
