// Tells ThreadSanitizer about gRPC's completion queues. Debian's libgrpc is not instrumented, and
// hands operations from thread to thread with atomics that ThreadSanitizer does not see.
//
// Linked into every program of a ThreadSanitizer build that may use gRPC. The definitions here take
// the place of the library's; each calls the one that it has displaced, and states the order that
// gRPC promises: what came before an operation was started happened before what comes after its tag
// has been handed out.
#include <dlfcn.h>
#include <grpc/grpc.h>

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}

namespace {

template <typename Function>
Function* Displaced(const char* symbol) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, symbol));
}

// Before `tag` is given to the library, or to its queue.
void GiveTag(void* tag) {
  if (tag != nullptr) __tsan_release(tag);
}

// After the library has handed `tag` out.
void TakeTag(void* tag) {
  if (tag != nullptr) __tsan_acquire(tag);
}

}  // namespace

#define OCTOGATE_STRING(name) #name
#define DISPLACED(name) \
  static auto* const displaced = Displaced<decltype(::name)>(OCTOGATE_STRING(name))

extern "C" {

grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t nops, void* tag,
                                      void* reserved) {
  DISPLACED(grpc_call_start_batch);
  GiveTag(tag);
  return displaced(call, ops, nops, tag, reserved);
}

grpc_call_error grpc_server_request_call(grpc_server* server, grpc_call** call,
                                         grpc_call_details* details, grpc_metadata_array* metadata,
                                         grpc_completion_queue* queue,
                                         grpc_completion_queue* notified, void* tag) {
  DISPLACED(grpc_server_request_call);
  GiveTag(tag);
  return displaced(server, call, details, metadata, queue, notified, tag);
}

grpc_call_error grpc_server_request_registered_call(grpc_server* server, void* method,
                                                    grpc_call** call, gpr_timespec* deadline,
                                                    grpc_metadata_array* metadata,
                                                    grpc_byte_buffer** payload,
                                                    grpc_completion_queue* queue,
                                                    grpc_completion_queue* notified, void* tag) {
  DISPLACED(grpc_server_request_registered_call);
  GiveTag(tag);
  return displaced(server, method, call, deadline, metadata, payload, queue, notified, tag);
}

void grpc_server_shutdown_and_notify(grpc_server* server, grpc_completion_queue* queue, void* tag) {
  DISPLACED(grpc_server_shutdown_and_notify);
  GiveTag(tag);
  displaced(server, queue, tag);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline,
                                      void* reserved) {
  DISPLACED(grpc_completion_queue_next);
  const grpc_event event = displaced(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) TakeTag(event.tag);
  return event;
}

grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag,
                                       gpr_timespec deadline, void* reserved) {
  DISPLACED(grpc_completion_queue_pluck);
  const grpc_event event = displaced(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) TakeTag(event.tag);
  return event;
}

}  // extern "C"

// Member functions: functions whose first argument is `this` (Itanium C++ ABI).
#define SET_ALARM "_ZN4grpc5Alarm11SetInternalEPNS_15CompletionQueueE12gpr_timespecPv"
#define ASYNC_NEXT "_ZN4grpc15CompletionQueue17AsyncNextInternalEPPvPb12gpr_timespec"
#define END_OP                                                               \
  "_Z14grpc_cq_end_opP21grpc_completion_queuePvN4absl7debian36StatusEPFvS1_" \
  "P18grpc_cq_completionES1_S6_b"
#define CALL_ON_CANCEL "_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE"
#define SCHEDULE_ON_DONE "_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb"

extern "C" {

void OctogateTsanSetAlarm(void* alarm, void* queue, gpr_timespec deadline,
                          void* tag) __asm__(SET_ALARM);
void OctogateTsanSetAlarm(void* alarm, void* queue, gpr_timespec deadline, void* tag) {
  static auto* const displaced = Displaced<void(void*, void*, gpr_timespec, void*)>(SET_ALARM);
  GiveTag(tag);
  displaced(alarm, queue, deadline, tag);
}

// Hands out the tags of C++, which are not those of the functions above.
int OctogateTsanAsyncNext(void* queue, void** tag, bool* ok,
                          gpr_timespec deadline) __asm__(ASYNC_NEXT);
int OctogateTsanAsyncNext(void* queue, void** tag, bool* ok, gpr_timespec deadline) {
  static auto* const displaced = Displaced<int(void*, void**, bool*, gpr_timespec)>(ASYNC_NEXT);
  constexpr int kGotEvent = 1;  // grpc::CompletionQueue::GOT_EVENT
  const int result = displaced(queue, tag, ok, deadline);
  if (result == kGotEvent) TakeTag(*tag);
  return result;
}

// Called by the library's own thread when an operation has ended: what that thread has received
// happened before the tag is handed out. The status is an object, so that its address is passed.
void OctogateTsanEndOp(void* queue, void* tag, void* status, void* done, void* argument,
                       void* storage, bool internal) __asm__(END_OP);
void OctogateTsanEndOp(void* queue, void* tag, void* status, void* done, void* argument,
                       void* storage, bool internal) {
  static auto* const displaced =
      Displaced<void(void*, void*, void*, void*, void*, void*, bool)>(END_OP);
  GiveTag(tag);
  displaced(queue, tag, status, done, argument, storage, internal);
}

// A ServerCallbackCall counts what has to happen before OnCancel and before OnDone, in two atomics
// behind its table of virtual functions. The last one to count may do so inside the library.
struct ServerCallbackCallCounts {
  void* virtual_functions;
  int before_cancel;
  int before_done;
};

void OctogateTsanCallOnCancel(ServerCallbackCallCounts* call,
                              void* reactor) __asm__(CALL_ON_CANCEL);
void OctogateTsanCallOnCancel(ServerCallbackCallCounts* call, void* reactor) {
  static auto* const displaced = Displaced<void(ServerCallbackCallCounts*, void*)>(CALL_ON_CANCEL);
  __tsan_acquire(&call->before_cancel);
  displaced(call, reactor);
}

void OctogateTsanScheduleOnDone(ServerCallbackCallCounts* call,
                                bool inlined) __asm__(SCHEDULE_ON_DONE);
void OctogateTsanScheduleOnDone(ServerCallbackCallCounts* call, bool inlined) {
  static auto* const displaced = Displaced<void(ServerCallbackCallCounts*, bool)>(SCHEDULE_ON_DONE);
  __tsan_acquire(&call->before_done);
  displaced(call, inlined);
}

}  // extern "C"
