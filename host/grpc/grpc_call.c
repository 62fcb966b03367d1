/* A call from armed to recycled, whatever its kind. */
#include <string.h>

#include <grpc/support/time.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/base/text.h"
#include "host/grpc/grpc_internal.h"

/* Answers shorter than this are copied into gRPC's slice: a malloc and a copy less than handing a buffer over
 * costs (guess). */
#define REPLY_COPIED_BYTES_MAX (16u << 10)
/* What clients that retry are asked to wait after RESOURCE_EXHAUSTED. */
#define RETRY_AFTER_MS "100"

static kith_grpc_call *call_of_arrived(kith_grpc_tag *tag) {
    return (kith_grpc_call *)((char *)tag - offsetof(kith_grpc_call, arrived));
}

static kith_grpc_call *call_of_closed(kith_grpc_tag *tag) {
    return (kith_grpc_call *)((char *)tag - offsetof(kith_grpc_call, closed));
}

static kith_grpc_call *call_of_finished(kith_grpc_tag *tag) {
    return (kith_grpc_call *)((char *)tag - offsetof(kith_grpc_call, finished));
}

/* --- begin --- */

static void call_list(kith_grpc_call *call) {
    call->previous = NULL;
    call->next = call->thread->calls;
    if (call->next) call->next->previous = call;
    call->thread->calls = call;
}

static void call_unlist(kith_grpc_call *call) {
    if (call->next) call->next->previous = call->previous;
    if (call->previous)
        call->previous->next = call->next;
    else
        call->thread->calls = call->next;
}

static void call_recycle(kith_grpc_call *call) {
    kith_grpc_pool *pool = &call->thread->pools[call->method_index];
    call->next = pool->free;
    pool->free = call;
    call->thread->call_count--;
}

/* The server stops: streams and watches of this thread end. Armed calls of every thread return then, which is
 * how each learns of it. */
static void thread_end_calls(kith_grpc_thread *thread) {
    if (thread->ending) return;
    thread->ending = true;
    for (kith_grpc_call *call = thread->calls, *next; call; call = next) {
        next = call->next;
        if (call->method->kind->is_long) call->method->kind->end(call);
    }
}

/* Whoever comes first asks gRPC to say when the call is closed. An answer that is given while the call begins does so in
 * its own batch: one batch and one event less. */
static bool close_claim(kith_grpc_call *call) {
    return !atomic_exchange_explicit(&call->close_is_asked, true, memory_order_relaxed);
}

static grpc_op close_op(kith_grpc_call *call) {
    return (grpc_op){
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &call->was_cancelled};
}

/* A call that is not answered yet: its client may go away first. */
void kith_grpc_call_watch(kith_grpc_call *call) {
    if (!close_claim(call)) return;
    grpc_op op = close_op(call);
    kith_grpc_call_start_batch(call, &op, 1, &call->closed);
}

static void call_arrived(kith_grpc_tag *tag, bool ok) {
    kith_grpc_call *call = call_of_arrived(tag);
    kith_grpc_thread *thread = call->thread;
    if (!ok) {
        call_recycle(call);
        thread_end_calls(thread);
        return;
    }
    kith_grpc_call_arm(thread, call->method_index);
    kith_series *series = thread->server->calls_series[call->method_index];
    if (series) kith_series_add(series, 1);
    call_list(call);
    call->method->kind->begin(call);
    if (!call->method->kind->is_brief)
        kith_grpc_call_watch(call);
    else if (!atomic_load_explicit(&call->close_is_asked, memory_order_relaxed))
        thread->has_brief = true;
    /* One that was matched before the stop can come out of the queue after what told of it. */
    if (thread->ending && call->method->kind->is_long) call->method->kind->end(call);
}

static void call_closed(kith_grpc_tag *tag, bool ok) {
    kith_grpc_call *call = call_of_closed(tag);
    call->is_closed = true;
    if ((!ok || call->was_cancelled) && call->method->kind->cancelled) call->method->kind->cancelled(call);
    kith_grpc_call_settle(call);
}

static void call_finished(kith_grpc_tag *tag, bool ok) {
    (void)ok; /* the client is gone: nothing is left to tell it */
    kith_grpc_call *call = call_of_finished(tag);
    call->is_finished = true;
    if (call->closes_with_answer) call->is_closed = true;
    kith_grpc_call_sent(call);
    kith_grpc_call_settle(call);
}

static kith_grpc_call *call_create(kith_grpc_thread *thread, uint32_t method_index) {
    const kith_grpc_method *method = &kith_grpc_methods[method_index];
    kith_grpc_call *call = kith_alloc_zero(method->kind->call_bytes);
    call->arrived.run = call_arrived;
    call->closed.run = call_closed;
    call->finished.run = call_finished;
    call->thread = thread;
    call->method = method;
    call->method_index = method_index;
    call->message = grpc_empty_slice();
    grpc_metadata_array_init(&call->metadata);
    grpc_call_details_init(&call->details);
    method->kind->create(call);
    return call;
}

void kith_grpc_call_arm(kith_grpc_thread *thread, uint32_t method_index) {
    if (thread->ending) return;
    kith_grpc_server *server = thread->server;
    kith_grpc_call *call = thread->pools[method_index].free;
    if (call)
        thread->pools[method_index].free = call->next;
    else
        call = call_create(thread, method_index);
    grpc_call_error error;
    if (call->method->path) {
        error =
            grpc_server_request_registered_call(server->core, server->registered[method_index], &call->core,
                &call->deadline, &call->metadata, call->method->kind->has_payload ? &call->payload : NULL,
                thread->queue, thread->queue, &call->arrived);
    } else {
        error = grpc_server_request_call(server->core, &call->core, &call->details, &call->metadata,
            thread->queue, thread->queue, &call->arrived);
    }
    kith_assert(error == GRPC_CALL_OK);
    thread->call_count++;
}

/* --- end --- */

void kith_grpc_call_start_batch(kith_grpc_call *call, const grpc_op *ops, size_t count, kith_grpc_tag *tag) {
    grpc_call *core = call->core; /* once it is posted, the call may be gone */
    atomic_store_explicit(&tag->posted, true, memory_order_release);
    /* Fails only when an operation is used against the rules, which is a fault of ours. */
    kith_assert(grpc_call_start_batch(core, ops, count, tag, NULL) == GRPC_CALL_OK);
}

/* gRPC escapes what is not printable ASCII; the text must be UTF-8 for clients to show it, and a message that
 * was cut may end inside a character. */
static grpc_slice message_slice(const char *message) {
    size_t bytes = strlen(message), bad_offset = bytes;
    if (kith_text_utf8_check(message, bytes, &bad_offset)) bad_offset = bytes;
    return grpc_slice_from_copied_buffer(message, bad_offset);
}

typedef struct carried_tag {
    kith_grpc_tag tag;
    kith_grpc_tag *carried;
    bool ok;
} carried_tag;

static void carried_run(kith_grpc_tag *tag, bool ok) {
    carried_tag *carrier = (carried_tag *)tag;
    (void)ok;
    (void)atomic_load_explicit(&carrier->carried->posted, memory_order_acquire);
    carrier->carried->run(carrier->carried, carrier->ok);
    kith_free(carrier);
}

void kith_grpc_call_carry(grpc_call *core, kith_grpc_tag *tag, bool ok) {
    carried_tag *carrier = kith_alloc_zero(sizeof *carrier);
    *carrier = (carried_tag){.tag.run = carried_run, .carried = tag, .ok = ok};
    atomic_store_explicit(&carrier->tag.posted, true, memory_order_release);
    kith_assert(grpc_call_start_batch(core, NULL, 0, carrier, NULL) == GRPC_CALL_OK);
}

/* The answer went out: of the call only its memory is left to be taken back. */
static void end_unseen(kith_grpc_call *call) {
    kith_grpc_call_sent(call);
    if (call->method->kind->went_out) call->method->kind->went_out(call);
    kith_grpc_thread_give_back(call->thread, &call->finished);
}

/* The first event that this thread causes stays with it: as a rule, that the answer went out. gRPC would wake the call's
 * thread for it, which has nothing to do then but to recycle the call. */
static void finish_unseen(kith_grpc_call *call, const grpc_op *ops, size_t count) {
    grpc_completion_queue *queue = call->thread->queue;
    grpc_call *core = call->core;
    void *tag, *own = &call->finished;
    int ok;
    grpc_call_ref(core); /* once it is posted, the call may be gone */
    grpc_completion_queue_thread_local_cache_init(queue);
    kith_grpc_call_start_batch(call, ops, count, own);
    bool is_here = grpc_completion_queue_thread_local_cache_flush(queue, &tag, &ok);
    if (is_here && tag == own)
        end_unseen(call);
    else if (is_here)
        kith_grpc_call_carry(core, tag, ok != 0);
    grpc_call_unref(core);
}

/* One whose thread waits for events. While the server stops it is to learn of every end. */
static bool is_for_another_thread(const kith_grpc_call *call) {
    return !kith_grpc_thread_is_own(call->thread) &&
           !atomic_load_explicit(&call->thread->server->is_stopping, memory_order_relaxed);
}

void kith_grpc_call_finish(kith_grpc_call *call, kith_status status, const char *message, kith_buf *reply) {
    grpc_metadata retry; /* copied before start_batch returns */
    memset(&retry, 0, sizeof retry);
    grpc_op ops[4];
    size_t count = 0;
    bool is_short = !reply || reply->bytes <= REPLY_COPIED_BYTES_MAX;
    memset(ops, 0, sizeof ops);
    if (!call->has_sent_metadata) ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (reply) {
        call->reply = kith_grpc_message_of(reply);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = call->reply;
    }
    if (status != KITH_OK) call->message = message_slice(message);
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = (grpc_status_code)kith_status_grpc(status);
    ops[count].data.send_status_from_server.status_details = status == KITH_OK ? NULL : &call->message;
    if (status == KITH_BUSY) {
        retry.key = grpc_slice_from_static_string("grpc-retry-pushback-ms");
        retry.value = grpc_slice_from_static_string(RETRY_AFTER_MS);
        ops[count].data.send_status_from_server.trailing_metadata_count = 1;
        ops[count].data.send_status_from_server.trailing_metadata = &retry;
    }
    count++;
    call->closes_with_answer = close_claim(call);
    if (call->closes_with_answer) ops[count++] = close_op(call);
    bool may_end_unseen = is_short && call->closes_with_answer && is_for_another_thread(call);
    kith_grpc_call_sending(call);
    if (may_end_unseen)
        finish_unseen(call, ops, count);
    else
        kith_grpc_call_start_batch(call, ops, count, &call->finished);
}

void kith_grpc_call_sending(kith_grpc_call *call) {
    uint64_t now_ns = kith_env_now_ns(call->thread->server->options.env);
    atomic_store_explicit(&call->sending_since_ns, now_ns, memory_order_relaxed);
}

void kith_grpc_call_sent(kith_grpc_call *call) {
    atomic_store_explicit(&call->sending_since_ns, 0, memory_order_relaxed);
}

/* A client that does not read would keep the answer in memory for as long as it likes. */
void kith_grpc_call_expire(kith_grpc_call *call, uint64_t now_ns) {
    uint64_t since_ns = atomic_load_explicit(&call->sending_since_ns, memory_order_relaxed);
    uint64_t timeout_ns = call->thread->server->options.answer_timeout_ns;
    if (since_ns == 0 || now_ns < since_ns + timeout_ns) return;
    kith_grpc_call_sent(call); /* not cancelled twice */
    kith_log_warn("grpc_answer_not_read",
        kith_kv_text("method", call->method->path ? call->method->path : "unknown"),
        kith_kv_u64("waited_ms", (now_ns - since_ns) / 1000000));
    (void)grpc_call_cancel(call->core, NULL);
}

static void slice_reset(grpc_slice *slice) {
    grpc_slice_unref(*slice);
    *slice = grpc_empty_slice();
}

static void message_reset(grpc_byte_buffer **message) {
    if (*message) grpc_byte_buffer_destroy(*message);
    *message = NULL;
}

void kith_grpc_call_settle(kith_grpc_call *call) {
    if (!call->is_closed || !call->is_finished || call->pending_count > 0) return;
    call->method->kind->recycle(call);
    call_unlist(call);
    grpc_call_unref(call->core);
    call->core = NULL;
    message_reset(&call->payload);
    message_reset(&call->reply);
    slice_reset(&call->message);
    slice_reset(&call->details.method);
    slice_reset(&call->details.host);
    call->metadata.count = 0; /* its slices were the call's; the array is kept */
    call->is_closed = call->is_finished = call->has_sent_metadata = call->is_seen = false;
    call->closes_with_answer = false;
    atomic_store_explicit(&call->close_is_asked, false, memory_order_relaxed);
    call->was_cancelled = 0;
    call_recycle(call);
}

void kith_grpc_call_destroy(kith_grpc_call *call) {
    call->method->kind->destroy(call);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    kith_free(call);
}

/* What is left of the client's time is not all ours: an answer that says what is missing, or why, must reach it before it
 * gives up by itself. A sixteenth, at most 50 ms, is above the way back and the wake-up of a busy client; a sixty-fourth
 * more, because clients built on gRPC's core round what they send up to two digits: 10 s may be 10.1. */
#define ANSWER_NS_MAX UINT64_C(50000000)

static uint64_t less_the_answer_ns(uint64_t left_ns) {
    uint64_t answer_ns = left_ns / 16;
    return left_ns - (answer_ns < ANSWER_NS_MAX ? answer_ns : ANSWER_NS_MAX) - left_ns / 64;
}

uint64_t kith_grpc_call_deadline_ns(const kith_grpc_call *call) {
    if (gpr_time_cmp(call->deadline, gpr_inf_future(call->deadline.clock_type)) == 0) return 0;
    gpr_timespec left = gpr_time_sub(call->deadline, gpr_now(call->deadline.clock_type));
    uint64_t now_ns = kith_env_now_ns(call->thread->server->options.env);
    if (left.tv_sec < 0) return now_ns;
    /* Beyond 30 years no timer cares, and nothing overflows. */
    uint64_t seconds = left.tv_sec > 1000000000 ? 1000000000u : (uint64_t)left.tv_sec;
    return now_ns + less_the_answer_ns(seconds * 1000000000u + (uint64_t)left.tv_nsec);
}

/* --- messages --- */

kith_grpc_bytes kith_grpc_bytes_open(grpc_byte_buffer *message) {
    kith_grpc_bytes bytes = {.slice = grpc_empty_slice()};
    grpc_byte_buffer_reader reader;
    if (!message || !grpc_byte_buffer_reader_init(&reader, message)) return bytes;
    size_t all_bytes = grpc_byte_buffer_length(message);
    /* Requests that fit one frame lie in one slice and are read where they are. */
    if (grpc_byte_buffer_reader_next(&reader, &bytes.slice) && GRPC_SLICE_LENGTH(bytes.slice) < all_bytes) {
        slice_reset(&bytes.slice);
        grpc_byte_buffer_reader_destroy(&reader);
        kith_assert(grpc_byte_buffer_reader_init(&reader, message));
        bytes.slice = grpc_byte_buffer_reader_readall(&reader);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    bytes.bytes = GRPC_SLICE_LENGTH(bytes.slice);
    return bytes;
}

void kith_grpc_bytes_close(kith_grpc_bytes *bytes) {
    grpc_slice_unref(bytes->slice);
}

grpc_byte_buffer *kith_grpc_message_of(kith_buf *buf) {
    grpc_slice slice;
    if (buf->bytes <= REPLY_COPIED_BYTES_MAX) {
        slice = grpc_slice_from_copied_buffer((const char *)buf->data, buf->bytes);
        kith_buf_clear(buf);
    } else {
        size_t bytes;
        uint8_t *data = kith_buf_take(buf, &bytes);
        slice = grpc_slice_new(data, bytes, kith_free);
    }
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return message;
}
