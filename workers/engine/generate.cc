#include "workers/engine/generate.h"

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace octogate::workers {

absl::StatusOr<GeneratedText> Generate(Engine& engine, GenerateRequest request) {
  struct Result {
    absl::Mutex mutex;
    GeneratedText text ABSL_GUARDED_BY(mutex);
    absl::Status status ABSL_GUARDED_BY(mutex);
    bool done ABSL_GUARDED_BY(mutex) = false;
  };
  auto result = std::make_shared<Result>();
  const absl::Time deadline = request.deadline;
  absl::StatusOr<std::shared_ptr<Generation>> generation =
      engine.Submit(std::move(request), [result](const GenerateEvent& event) {
        absl::MutexLock lock(&result->mutex);
        GeneratedText& text = result->text;
        text.text += event.text;
        text.ids.insert(text.ids.end(), event.ids.begin(), event.ids.end());
        if (event.finish == FinishReason::kNone) return;
        text.finish = event.finish;
        text.usage = event.usage;
        text.timings = event.timings;
        result->status = event.status;
        result->done = true;
      });
  if (!generation.ok()) return generation.status();
  absl::MutexLock lock(&result->mutex);
  if (!result->mutex.AwaitWithDeadline(absl::Condition(&result->done), deadline)) {
    (*generation)->Cancel();
    return absl::DeadlineExceededError(
        absl::StrCat("the deadline passed after ", result->text.ids.size(), " tokens"));
  }
  if (!result->status.ok()) return result->status;
  return std::move(result->text);
}

}  // namespace octogate::workers
