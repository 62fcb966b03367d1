/* Private to host/grpc: a call on its way through the server.
 *
 * Every operation's tag is a struct whose first member is the function to run when a completion queue returns
 * it. A call is bound to the queue of the thread that armed it, so that all its tags run on that one thread
 * and nothing of it needs an atomic, except what the api's answer touches from another thread.
 *
 * Life of a call: armed (waits for a client) -> begun -> closed (gRPC is done with it: RECV_CLOSE_ON_SERVER
 * returned) and finished (its status went out), in either order, or as one when its answer asked gRPC for both
 * -> recycled. Calls come from a pool a thread and kind.
 *
 * An answer from another thread is sent by that thread. That it went out is told to the call's own thread without waking it:
 * it learns of it when it wakes for something else, the next call or a tick. */
#ifndef KITH_GRPC_GRPC_INTERNAL_H
#define KITH_GRPC_GRPC_INTERNAL_H

#include <stdatomic.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>

#include "host/api/api_cluster.h"
#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/limits.h"
#include "host/base/thread.h"
#include "host/codec/codec_points.h"
#include "host/grpc/grpc_server.h"

#define KITH_GRPC_CALLS_MAX            1024u
#define KITH_GRPC_REQUEST_BYTES_MAX    ((size_t)512 << 20)
#define KITH_GRPC_CONNECTION_CALLS_MAX 128u /* one connection that does not read leaves room for the others */
#define KITH_GRPC_METADATA_BYTES_MAX   (16u << 10)
#define KITH_GRPC_ANSWER_TIMEOUT_NS    UINT64_C(30000000000)
/* What a call keeps of its buffers once it is answered: enough for small calls to do without malloc. */
#define KITH_GRPC_ARENA_KEPT_BYTES_MAX ((size_t)32 << 10)
#define KITH_GRPC_REPLY_KEPT_BYTES_MAX ((size_t)32 << 10)
/* Admitted for every answer besides its own bytes: those buffers and gRPC's part of the call. */
#define KITH_GRPC_ANSWER_BYTES ((size_t)64 << 10)
#define KITH_GRPC_METHODS_MAX  24u

_Static_assert(
    KITH_GRPC_REQUEST_BYTES_MAX >= 2 * (size_t)KITH_MESSAGE_BYTES_MAX, "two of the longest requests fit");

typedef struct kith_grpc_call kith_grpc_call;
typedef struct kith_grpc_thread kith_grpc_thread;
typedef struct kith_grpc_tag kith_grpc_tag;
typedef struct kith_grpc_unary kith_grpc_unary;

struct kith_grpc_tag {
    void (*run)(kith_grpc_tag *tag, bool ok);
    /* Stored (release) before an operation is posted, loaded (acquire) before `run`: what the poster wrote is seen by the
     * thread that handles the end. gRPC's queue orders them as well, but neither its contract nor ThreadSanitizer says so. */
    _Atomic bool posted;
    kith_grpc_tag *next; /* among those that came back on another thread */
};

/* --- gRPC's library --- */

#define KITH_GRPC_EVENTS_MAX 64u

typedef struct kith_grpc_events {
    grpc_event taken[KITH_GRPC_EVENTS_MAX];
    uint32_t count;
    bool is_end; /* the queue is shut down: nothing comes after these */
} kith_grpc_events;

/* In place of grpc_init. */
void kith_grpc_core_init(void);
/* Waits for an event until `deadline` and takes with it all that can be had at once, so that requests are read one after
 * the other and then answered one after the other. gRPC's paths for the two do not fit the CPU's caches together: taking
 * turns costs a third more CPU a call (2 cores, 64 in flight, 2026-11-21). */
void kith_grpc_events_take(grpc_completion_queue *queue, gpr_timespec deadline, kith_grpc_events *events);

/* --- methods --- */

/* What calls of one kind do; all run on the call's thread, but for `went_out`. */
typedef struct kith_grpc_kind {
    size_t call_bytes; /* of the struct that begins with a kith_grpc_call */
    /* gRPC reads the first message before the call begins: a client that sends none holds no call, and a call costs 2.5 %
     * less CPU than with a read of its own (2 cores, 64 in flight, 2026-11-21). */
    bool has_payload;
    bool is_long; /* told to end when the server stops */
    /* Answered within milliseconds as a rule: only one that is not has gRPC say when its client goes away. */
    bool is_brief;
    /* Once a call object, not once a call. */
    void (*create)(kith_grpc_call *call);
    void (*destroy)(kith_grpc_call *call);
    void (*begin)(kith_grpc_call *call);
    void (*cancelled)(kith_grpc_call *call); /* the client went away; may be NULL */
    void (*end)(kith_grpc_call *call);       /* of a long one: the server stops */
    void (*tick)(kith_grpc_call *call);      /* a quarter of a second has passed; may be NULL */
    void (*recycle)(kith_grpc_call *call);   /* before it goes back to the pool */
    /* The answer went out; `recycle` comes later. On the thread that answered; may be NULL. */
    void (*went_out)(kith_grpc_call *call);
} kith_grpc_kind;

extern const kith_grpc_kind kith_grpc_kind_unary;
extern const kith_grpc_kind kith_grpc_kind_upsert_stream;
extern const kith_grpc_kind kith_grpc_kind_watch;
extern const kith_grpc_kind kith_grpc_kind_reflection;
extern const kith_grpc_kind kith_grpc_kind_unknown;

typedef struct kith_grpc_method {
    const char *path; /* NULL: every path that is not in the table */
    const kith_grpc_kind *kind;
    uint32_t
        armed_count; /* calls that wait for a client, a thread; each is armed again as soon as it begins */
    /* Of a unary method: decodes and starts the request. Its status, if not OK, is the answer; otherwise
     * kith_grpc_unary_answer is called once, now or later. */
    kith_status (*start)(kith_grpc_unary *unary, const void *data, size_t bytes, kith_err *err);
} kith_grpc_method;

/* Every method, the unknown one last. */
extern const kith_grpc_method kith_grpc_methods[];
extern const uint32_t kith_grpc_method_count;

/* --- server --- */

typedef struct kith_grpc_pool {
    kith_grpc_call *free; /* linked by `next` */
} kith_grpc_pool;

struct kith_grpc_thread {
    kith_grpc_server *server;
    grpc_completion_queue *queue;
    kith_thread *thread;
    kith_grpc_pool pools[KITH_GRPC_METHODS_MAX]; /* by method */
    kith_grpc_call *calls;                       /* begun and not yet recycled, doubly linked */
    _Atomic(kith_grpc_tag *) returned;           /* by other threads, to be run; newest first */
    bool has_brief;                              /* brief calls that are to be looked at */
    uint64_t look_ns;                            /* when that is due */
    uint64_t tick_ns;
    uint32_t call_count; /* armed or not yet recycled */
    bool ending;         /* the server stops */
    bool is_idle;        /* it stops and the last call was recycled */
};

struct kith_grpc_server {
    kith_grpc_server_options options; /* defaults filled in */
    grpc_server *core;
    grpc_completion_queue *stop_queue;
    uint32_t port;
    void *registered[KITH_GRPC_METHODS_MAX];
    kith_series *calls_series[KITH_GRPC_METHODS_MAX];
    /* Admission, over all threads; relaxed: nothing is published through them. */
    _Atomic uint32_t call_count;   /* admitted and not yet answered */
    _Atomic size_t admitted_bytes; /* of their requests, and of answers that have not gone out */
    kith_grpc_thread *threads;     /* [thread_count] */
    _Atomic bool is_stopping;
    /* Threads that are idle, for stop to wait for: a lock, because stop's thread has no queue to send a message to. */
    kith_mutex idle_mutex;
    kith_cond idle_changed;
    uint32_t idle_count; /* guarded by idle_mutex */
};

/* What a call, or a batch of a stream, holds of the server's room: a place and its request's bytes until the api has
 * answered, then its answer's bytes until they went out. All zero: nothing. */
typedef struct kith_grpc_room {
    size_t bytes;
    bool is_call, is_answer;
} kith_grpc_room;

/* Room for a request of `bytes`, or why not (BUSY). */
KITH_CHECK kith_status kith_grpc_room_enter(
    kith_grpc_server *server, kith_grpc_room *room, size_t bytes, kith_err *err);
/* The api has answered: gives the request's room back for that of an answer of `bytes` (0: an error), or says why there is
 * none (BUSY), and then takes room for that error. A short answer always has room. A call that was not admitted stays
 * without. */
KITH_CHECK kith_status kith_grpc_room_answer(
    kith_grpc_server *server, kith_grpc_room *room, size_t bytes, kith_err *err);
void kith_grpc_room_leave(kith_grpc_server *server, kith_grpc_room *room);
kith_status kith_grpc_thread_start(kith_grpc_thread *thread, uint32_t index, kith_err *err);
/* Handles events until the queue is shut down. */
void kith_grpc_thread_run(void *ctx);
/* From any thread: whether it is this one. */
bool kith_grpc_thread_is_own(const kith_grpc_thread *thread);
/* From any thread: `tag` is run when the thread wakes for something else. */
void kith_grpc_thread_give_back(kith_grpc_thread *thread, kith_grpc_tag *tag);

/* --- calls --- */

struct kith_grpc_call {
    kith_grpc_tag arrived, closed, finished;
    kith_grpc_thread *thread;
    const kith_grpc_method *method;
    uint32_t method_index;
    grpc_call *core;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_call_details details; /* of an unknown method */
    grpc_byte_buffer *payload; /* the first message, where the kind wants it */
    grpc_byte_buffer *reply;
    grpc_slice message; /* of an error */
    int was_cancelled;
    bool is_closed, is_finished;
    bool is_seen; /* by a look: the next one has it watched */
    /* Relaxed: an answer from another thread and the end of `begin` only agree on which of them asks. */
    _Atomic bool close_is_asked;
    bool closes_with_answer; /* `finished` stands for `closed` too */
    bool has_sent_metadata;  /* a stream's, before its first message */
    /* Since when something waits to go out; 0: nothing does. Relaxed: written by who sends, read by ticks. */
    _Atomic uint64_t sending_since_ns;
    uint32_t pending_count; /* other operations that the queue will return */
    kith_grpc_call *next, *previous;
};

/* Waits for a client to call `method`. */
void kith_grpc_call_arm(kith_grpc_thread *thread, uint32_t method_index);
/* Sends the status, and before it the bytes of `reply` (taken when long, else copied) unless it is NULL. Once
 * a call, from any thread; the call may be gone when it returns. */
void kith_grpc_call_finish(kith_grpc_call *call, kith_status status, const char *message, kith_buf *reply);
void kith_grpc_call_start_batch(kith_grpc_call *call, const grpc_op *ops, size_t count, kith_grpc_tag *tag);
/* From any thread that holds `core`, a call of the same queue: `tag`, whose event came to a thread that is not its own, is run
 * where it belongs, at once. */
void kith_grpc_call_carry(grpc_call *core, kith_grpc_tag *tag, bool ok);
/* Around a message of a stream, so that one which the client does not read is noticed. */
void kith_grpc_call_sending(kith_grpc_call *call);
void kith_grpc_call_sent(kith_grpc_call *call);
/* Once a tick: cancels the call when what it sends has waited for too long. */
void kith_grpc_call_expire(kith_grpc_call *call, uint64_t now_ns);
/* Has gRPC say when the client goes away, unless the answer does so. */
void kith_grpc_call_watch(kith_grpc_call *call);
/* After any tag of the call has run: recycles it when nothing will touch it any more. */
void kith_grpc_call_settle(kith_grpc_call *call);
/* Of a pooled one. */
void kith_grpc_call_destroy(kith_grpc_call *call);
/* By the env's clock; 0 when the client gave none. */
uint64_t kith_grpc_call_deadline_ns(const kith_grpc_call *call);

/* A message's bytes in one piece. */
typedef struct kith_grpc_bytes {
    grpc_slice slice;
    size_t bytes;
} kith_grpc_bytes;

/* Small slices hold their bytes inside themselves: asked for where the struct lies, not kept in it. */
static inline const uint8_t *kith_grpc_bytes_data(const kith_grpc_bytes *bytes) {
    return GRPC_SLICE_START_PTR(bytes->slice);
}

kith_grpc_bytes kith_grpc_bytes_open(grpc_byte_buffer *message);
void kith_grpc_bytes_close(kith_grpc_bytes *bytes);
/* A message of `buf`'s bytes: long ones are taken from it, short ones copied; `buf` is empty afterwards. */
grpc_byte_buffer *kith_grpc_message_of(kith_buf *buf);

/* --- unary calls --- */

struct kith_grpc_unary {
    kith_grpc_call base;
    kith_arena arena;
    kith_buf reply;
    kith_grpc_room room;
    kith_api_refresh refresh;
    kith_grpc_tag refresh_ended; /* brings the call back to its thread */
    bool refreshed;              /* once is enough */
    union {
        kith_api_call call; /* the others begin with it */
        kith_api_search_call search;
        kith_api_write_call write;
        kith_api_points_call points;
        kith_api_count_call count;
        kith_api_collection_call collection;
        kith_api_cluster_call cluster;
    } api;
};

/* From any thread; sends `unary->reply` when status is OK. `err` may be NULL. Frees what is in the arena. */
void kith_grpc_unary_answer(kith_grpc_unary *unary, kith_status status, const kith_err *err);
/* The call that `api_call` (a member of its union) belongs to. */
kith_grpc_unary *kith_grpc_unary_of(void *api_call);
/* What every api call of a unary starts with. */
kith_api_call kith_grpc_unary_api_call(kith_grpc_unary *unary);

#define KITH_GRPC_START(name)                                                                                \
    kith_status kith_grpc_start_##name(kith_grpc_unary *unary, const void *data, size_t bytes, kith_err *err)
KITH_GRPC_START(create_collection);
KITH_GRPC_START(update_collection);
KITH_GRPC_START(get_collection);
KITH_GRPC_START(list_collections);
KITH_GRPC_START(delete_collection);
KITH_GRPC_START(upsert);
KITH_GRPC_START(delete_points);
KITH_GRPC_START(get_points);
KITH_GRPC_START(search);
KITH_GRPC_START(count);
KITH_GRPC_START(scroll);
KITH_GRPC_START(cluster_status);
KITH_GRPC_START(cluster_shards);
KITH_GRPC_START(cluster_join);
KITH_GRPC_START(cluster_leave);
KITH_GRPC_START(cluster_drain);
KITH_GRPC_START(cluster_accept_loss);
KITH_GRPC_START(health_check);

/* Shared by the unary upsert and the stream: decodes an UpsertRequest into `write`, all but `done`. */
KITH_CHECK kith_status kith_grpc_upsert_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_api_write_call *write, kith_err *err);

/* The tokens of an answer in codec's terms, in `arena`. */
void kith_grpc_tokens_copy(const kith_api_token *tokens, uint32_t count, uint32_t points, kith_arena *arena,
    kith_codec_write_response *response_out);

#endif
