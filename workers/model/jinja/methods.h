// Methods of texts, lists and dictionaries that do not change them.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_METHODS_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_METHODS_H_

#include <string_view>

#include "workers/model/jinja/runtime.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

// Whether Python's type has the method, so that value.name is defined. Methods
// that change their object are hidden by the sandbox, as are private ones.
bool HasMethod(const Value& value, std::string_view name);

// Fails for the few methods that HasMethod knows and nothing here implements.
Value CallMethod(Runtime& runtime, const Method& method, const Arguments& arguments);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_METHODS_H_
