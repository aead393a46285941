// Filters over sequences; internal to filters.cc.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_SEQUENCE_FILTERS_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_SEQUENCE_FILTERS_H_

#include "workers/model/jinja/runtime.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

using Filter = Value (*)(Runtime&, const Value& value, const Arguments& arguments);

Value BatchFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value DictSortFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value FirstFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value ItemsFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value JoinFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value LastFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value LengthFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value ListFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value MapFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value MaxFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value MinFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value RejectAttributeFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value RejectFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value ReverseFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value SelectAttributeFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value SelectFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value SortFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value SumFilter(Runtime& runtime, const Value& value, const Arguments& arguments);
Value UniqueFilter(Runtime& runtime, const Value& value, const Arguments& arguments);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_SEQUENCE_FILTERS_H_
