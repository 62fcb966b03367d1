/* What is in flight at once: calls by number, their requests and the answers that clients have not read by bytes.
 *
 * One budget of bytes holds requests and answers. A call's place is free once the api has answered, so that clients which do
 * not read keep nobody from asking; what they cost is memory, and that is counted until it is gone. */
#include "host/base/assert.h"
#include "host/grpc/grpc_internal.h"

/* A short answer is never refused: it may be of a write, which has happened: a token of three varints a shard. It counts all the same, so that the next
 * requests are refused; that is how far calls_max of them can pass the limit. Long answers leave an eighth of the bytes to
 * others: a few clients that do not read long ones do not stop those that ask for little. */
#define ANSWER_SHORT_BYTES_MAX ((size_t)160 << 10)

_Static_assert(
    ANSWER_SHORT_BYTES_MAX >= KITH_SHARDS_MAX * 36u + KITH_ERR_BYTES_MAX, "answers of writes are short");

static void call_leave(kith_grpc_server *server, size_t bytes) {
    atomic_fetch_sub_explicit(&server->call_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&server->admitted_bytes, bytes, memory_order_relaxed);
}

kith_status kith_grpc_room_enter(
    kith_grpc_server *server, kith_grpc_room *room, size_t bytes, kith_err *err) {
    uint32_t calls = atomic_fetch_add_explicit(&server->call_count, 1, memory_order_relaxed);
    size_t used_bytes = atomic_fetch_add_explicit(&server->admitted_bytes, bytes, memory_order_relaxed);
    if (calls >= server->options.calls_max) {
        call_leave(server, bytes);
        return kith_err_set(
            err, KITH_BUSY, "%u calls are in flight, as many as are allowed; retry later", calls);
    }
    if (used_bytes + bytes > server->options.request_bytes_max) {
        call_leave(server, bytes);
        return kith_err_set(err, KITH_BUSY,
            "requests in flight have %zu bytes, with this one's %zu more than the %zu allowed; retry later",
            used_bytes, bytes, server->options.request_bytes_max);
    }
    *room = (kith_grpc_room){.bytes = bytes, .is_call = true};
    return KITH_OK;
}

kith_status kith_grpc_room_answer(
    kith_grpc_server *server, kith_grpc_room *room, size_t bytes, kith_err *err) {
    if (!room->is_call) return KITH_OK;
    size_t taken_bytes = KITH_GRPC_ANSWER_BYTES + bytes;
    size_t bytes_max = server->options.request_bytes_max - server->options.request_bytes_max / 8;
    call_leave(server, room->bytes);
    size_t used_bytes = atomic_fetch_add_explicit(&server->admitted_bytes, taken_bytes, memory_order_relaxed);
    *room = (kith_grpc_room){.bytes = taken_bytes, .is_answer = true};
    if (bytes <= ANSWER_SHORT_BYTES_MAX || used_bytes + taken_bytes <= bytes_max) return KITH_OK;
    atomic_fetch_sub_explicit(&server->admitted_bytes, bytes, memory_order_relaxed);
    room->bytes = KITH_GRPC_ANSWER_BYTES;
    return kith_err_set(err, KITH_BUSY,
        "the answer has %zu bytes; with the %zu of requests in flight and of answers that clients have not "
        "read these are "
        "more than the %zu allowed; retry later",
        bytes, used_bytes, bytes_max);
}

void kith_grpc_room_leave(kith_grpc_server *server, kith_grpc_room *room) {
    kith_assert(!room->is_call);
    if (room->is_answer)
        atomic_fetch_sub_explicit(&server->admitted_bytes, room->bytes, memory_order_relaxed);
    *room = (kith_grpc_room){0};
}
