// Jinja's filters, as far as chat templates can use them.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_FILTERS_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_FILTERS_H_

#include <string_view>

#include "workers/model/jinja/runtime.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

bool IsFilter(std::string_view name);

// value | name(arguments)
Value ApplyFilter(Runtime& runtime, std::string_view name, const Value& value,
                  const Arguments& arguments);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_FILTERS_H_
