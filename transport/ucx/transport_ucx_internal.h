/* What the files of the UCX transport share.
 *
 *   transport_ucx.c        options, create, destroy, the table of operations
 *   transport_ucx_setup.c  UCX itself: environment, context, worker, listener
 *   transport_ucx_loop.c   the I/O thread: its queue, whose turn it is, when it sleeps, what it does at which time
 *   transport_ucx_call.c   calls: numbers, bounds, deadlines, ends (transport_ucx_heap.c: deadlines in order)
 *   transport_ucx_peer.c   addresses: dialling, back-off, which connection (transport_ucx_resolve.c: names)
 *   transport_ucx_link.c   connections: open, send a frame, receive one, silence, close
 *   transport_ucx_hello.c  what comes first on a connection (transport_ucx_tls.c: handshake, keys, MAC)
 *   transport_ucx_serve.c  requests that arrive, and their replies
 *   transport_ucx_local.c  calls to this very process
 *   transport_ucx_pool.c   memory for long bodies
 *   transport_ucx_certs.c  making certificates
 *
 * Threads: all state below belongs to whoever has the turn, except what says otherwise: the I/O thread while it is awake;
 * while it sleeps, any other thread that takes the turn for one short message (ucx_turn_take). Other work they hand it as
 * items. UCX is never called from inside one of its callbacks: those note what is to be done (links to cut, items), and the
 * loop does it. */
#ifndef KITH_TRANSPORT_UCX_TRANSPORT_UCX_INTERNAL_H
#define KITH_TRANSPORT_UCX_TRANSPORT_UCX_INTERNAL_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <ucp/api/ucp.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/base/map.h"
#include "host/base/rng.h"
#include "host/base/thread.h"
#include "transport/am_frame.h"
#include "transport/ucx/transport_ucx.h"

#define UCX_AM_ID 1u
/* Up to here a message goes eagerly, above by rendezvous: the receiver then says where to. */
#define UCX_EAGER_BYTES_MAX     (64u << 10)
#define UCX_UUID_TEXT_BYTES     37u
#define UCX_LINKS_ACCEPTED_MAX  4096u
#define UCX_LINKS_STRANGERS_MAX 64u /* accepted, hello not done */
#define UCX_SPARE_SENDS_MAX     16u
#define NS_PER_MS               1000000ULL
#define NS_PER_S                1000000000ULL

typedef struct ucx_transport ucx_transport;
typedef struct ucx_link ucx_link;
typedef struct ucx_peer ucx_peer;
typedef struct ucx_tls ucx_tls;
typedef struct ucx_tls_context ucx_tls_context;

/* Whose turn it is to call UCX and to touch what has no other owner. */
typedef enum ucx_turn {
    UCX_TURN_LOOP = 0,     /* the I/O thread's: it is awake */
    UCX_TURN_FREE = 1,     /* nobody's: the I/O thread sleeps */
    UCX_TURN_BORROWED = 2, /* another thread's; the I/O thread sleeps */
    UCX_TURN_WANTED = 3,   /* another thread's, and the I/O thread waits for it to be handed over */
} ucx_turn;

/* Work for the I/O thread, embedded in what it works on. */
typedef struct ucx_item {
    struct ucx_item *next;
    void (*run)(ucx_transport *transport, struct ucx_item *item);
} ucx_item;

#define UCX_POOL_CLASSES 40u

typedef struct ucx_pool {
    kith_mutex mutex;
    struct ucx_block *kept[UCX_POOL_CLASSES];
    uint64_t kept_bytes;
    bool was_used; /* since the last trim */
} ucx_pool;

typedef struct ucx_handler {
    kith_executor *executor;
    void (*run)(void *ctx, kith_transport_request *request);
    void *ctx;
} ucx_handler;

#define UCX_HEAP_NONE UINT32_MAX

/* A call on its way to another process: lives in kith_transport_call.impl. */
typedef struct ucx_call {
    ucx_item item;
    uint64_t id; /* 0: not in the table of calls */
    ucx_peer *peer;
    ucx_link *link; /* NULL while it waits for a connection */
    uint32_t heap_index;
    bool is_sending; /* UCX still reads the request's bytes */
    bool is_ended;   /* the outcome is known, only `is_sending` keeps it */
    /* The outcome, while it is kept. */
    kith_status end_status;
    void *end_reply;
    size_t end_reply_bytes;
    kith_err *end_err;
} ucx_call;

/* A call to this process: lives there too. The task is first: the executor hands it back. */
typedef struct ucx_local_call {
    kith_task task;
    ucx_transport *transport;
    kith_transport_request request; /* impl[0] is NULL: that is how a reply knows it */
} ucx_local_call;

_Static_assert(sizeof(ucx_call) <= sizeof(((kith_transport_call *)0)->impl), "a call embeds its state");
_Static_assert(
    sizeof(ucx_local_call) <= sizeof(((kith_transport_call *)0)->impl), "a call embeds its request");
_Static_assert(_Alignof(ucx_local_call) <= _Alignof(void *), "impl is an array of pointers");

/* A message on its way out. */
typedef struct ucx_send {
    struct ucx_send *next; /* among the spare ones */
    ucx_link *link;
    ucx_call *call; /* whose bytes `body` is, or NULL */
    kith_am_frame frame;
    const void *body; /* `room`, or borrowed from `call` */
    size_t room_bytes;
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    char text[KITH_ERR_BYTES_MAX];
    uint8_t room[];
} ucx_send;

/* A request that arrived. */
typedef struct ucx_request {
    kith_transport_request request; /* impl[0] is this */
    kith_task task;
    ucx_item item; /* the way back */
    ucx_transport *transport;
    ucx_link *link; /* NULL when the connection is gone: the reply is dropped */
    struct ucx_request *previous, *next;
    atomic_bool cancelled; /* written by the I/O thread, read by the handler */
    uint64_t call_id;
    void *ucx_data;  /* body in UCX's memory, to be given back; or NULL */
    uint8_t *body;   /* body in ours, or NULL */
    ucx_send *reply; /* set by the replying thread */
    uint8_t room[];  /* a small body */
} ucx_request;

/* Bytes that come by rendezvous. */
typedef struct ucx_receive {
    ucx_link *link;
    kith_am_frame frame;
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    uint8_t *body;
} ucx_receive;

typedef enum ucx_link_state { UCX_LINK_HELLO, UCX_LINK_READY, UCX_LINK_CLOSING } ucx_link_state;

struct ucx_link {
    ucx_transport *transport;
    ucx_link *previous, *next;
    ucp_ep_h ep;
    ucx_peer *peer; /* who was dialled; NULL: accepted */
    ucx_link_state state;
    bool is_accepted;
    bool is_refused; /* a refusal was sent: closed when the other side closes, or at the hello's time-out */
    bool is_leaving; /* a goodbye was sent */
    bool is_doomed;  /* to be cut by the loop: `doom` says why */
    bool close_is_done;
    uint32_t pending; /* sends and receives that UCX has not let go of */
    kith_err doom;
    ucx_link *doomed_next;
    char name[64]; /* of the other side, for messages: its address */
    kith_node_id node;
    char role[KITH_AM_ROLE_BYTES_MAX + 1];
    uint64_t opened_ns, heard_ns, pinged_ns, used_ns;
    uint64_t send_sequence;
    kith_am_window window;
    ucx_tls *tls;      /* NULL without credentials */
    bool is_proven;    /* the handshake is done */
    bool has_keys;     /* frames are signed */
    kith_buf greeting; /* the dialler's hello as sent: bound into the keys */
    ucx_request *requests;
    uint32_t request_count; /* with those whose bytes still come */
    uint64_t request_bytes; /* of them */
};

typedef enum ucx_peer_state {
    UCX_PEER_IDLE,
    UCX_PEER_RESOLVING,
    UCX_PEER_DIALLING,
    UCX_PEER_READY
} ucx_peer_state;

struct ucx_peer {
    ucx_transport *transport;
    ucx_peer *previous, *next;
    char *address;
    ucx_peer_state state;
    ucx_link *link;
    uint32_t failures; /* in a row */
    uint64_t rest_until_ns;
    kith_err reason;    /* of the last failure */
    uint32_t in_flight; /* calls, waiting ones included */
    uint64_t in_flight_bytes;
    uint64_t used_ns;
    /* Looking its name up, on the resolver's thread. */
    kith_task resolve_task;
    ucx_item resolve_item;
    kith_status resolve_status;
    kith_err resolve_err;
    struct sockaddr_storage resolved;
    socklen_t resolved_bytes;
};

typedef struct ucx_slot {
    ucx_call *call; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
} ucx_slot;

typedef struct ucx_counters {
    _Atomic(uint64_t) sent_messages, sent_bytes, received_messages, received_bytes;
    _Atomic(uint64_t) connects, connection_losses, failed_hellos, busy_replies, connections, calls;
} ucx_counters;

struct ucx_transport {
    kith_transport base;
    /* Set before the I/O thread starts, then only read. */
    kith_env *env;
    kith_node_id node_id;
    char *cluster_name, *role, *bind_address, *address;
    uint16_t port;
    uint32_t in_flight_max;
    uint64_t in_flight_bytes_max;
    uint64_t ping_interval_ns, ping_timeout_ns;
    bool busy_poll, mac;
    ucx_tls_context *tls;                     /* NULL without credentials */
    ucx_handler handlers[KITH_AM_KIND_COUNT]; /* set before the first call */
    kith_executor *resolver;
    kith_thread *thread;
    int wake_fd, worker_fd;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    /* Of any thread. */
    _Atomic(ucx_item *) items;    /* newest first */
    atomic_bool is_asleep;        /* whoever sets it false writes to wake_fd */
    _Atomic(uint32_t) turn;       /* ucx_turn */
    atomic_bool cancel_is_wanted; /* some call's `cancelled` was set */
    atomic_bool is_stopping;
    ucx_pool pool;
    _Atomic(uint32_t) local_in_flight; /* against the bound */
    _Atomic(uint32_t) local_undone;    /* whose `done` has not returned */
    ucx_counters counters;
    /* Of who has the turn. */
    uint64_t now_ns; /* of this round of the loop, or of this turn */
    uint64_t trim_ns;
    uint64_t tick_ns; /* when the next one is due */
    uint64_t
        watch_ns; /* when cancel_watches are looked at next; UINT64_MAX: none is in flight, or has just been */
    uint64_t sleep_ns;         /* until when the I/O thread sleeps, unless it is woken */
    bool has_asked_ucx;        /* since UCX last said that it has nothing to do */
    bool has_unfinished_sends; /* of this turn: UCX needs the loop to go on with them */
    uint64_t strangers, accepted;
    kith_rng rng;    /* jitter */
    kith_map *peers; /* address -> ucx_peer */
    ucx_peer *peer_first;
    kith_map *links_by_ep;
    ucx_link *link_first; /* with closing ones */
    ucx_link *doomed_first;
    struct ucx_accept *accept_first; /* connection requests that a callback noted */
    ucx_slot *slots;
    uint32_t slot_count, slot_free;
    ucx_call **heap; /* by deadline */
    uint32_t heap_count, heap_capacity;
    uint32_t watched_count; /* calls in flight with a cancel_watch */
    bool was_watched;       /* there was one since the last look */
    uint32_t ending_count;  /* calls ended, with bytes still being sent */
    uint32_t request_count; /* requests that handlers have */
    ucx_send *spare_sends;
    uint32_t spare_count;
    bool was_stopping;
    /* Any thread. Stored (release) once handlers are registered, loaded (acquire) before one is looked at. */
    _Atomic bool is_open;
};

static inline kith_transport_call *ucx_public_of(ucx_call *call) {
    return (kith_transport_call *)(void *)((char *)call - offsetof(kith_transport_call, impl));
}
static inline ucx_call *ucx_call_of(kith_transport_call *call) {
    return (ucx_call *)(void *)call->impl;
}
static inline void ucx_count(_Atomic(uint64_t) *counter, uint64_t by) {
    /* relaxed: readers only want a number. */
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}
void ucx_uuid_text(const kith_node_id *id, char text_out[UCX_UUID_TEXT_BYTES]);

/* --- setup --- */
KITH_CHECK kith_status ucx_setup(ucx_transport *transport, uint16_t port, kith_err *err);
void ucx_setup_undo(ucx_transport *transport);
/* "host:port", "[v6]:port" or "host" (then `port_out` is 0). */
KITH_CHECK kith_status ucx_address_split(
    const char *address, char *host_out, size_t host_bytes, uint16_t *port_out, kith_err *err);

/* --- loop --- */
void ucx_loop_run(void *transport);
/* From any thread. */
void ucx_post(ucx_transport *transport, ucx_item *item);
void ucx_wake(ucx_transport *transport);
/* From any thread: true when the I/O thread sleeps and nobody else has the turn. It is then the caller's, for a message or
 * two: nothing that waits, and neither `done` nor a handler may run. */
bool ucx_turn_take(ucx_transport *transport);
/* Wakes the I/O thread if what was done needs it. The transport may be gone afterwards, where the caller holds nothing of it. */
void ucx_turn_give(ucx_transport *transport);
/* A call with a cancel_watch begins. */
void ucx_watch_want(ucx_transport *transport);

/* --- calls --- */
void ucx_call_start(ucx_transport *transport, kith_transport_call *call);
/* Ends `call` once; `done` runs now, or when UCX lets go of its bytes. */
void ucx_call_end(ucx_transport *transport, ucx_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err);
void ucx_call_sent(ucx_transport *transport, ucx_call *call);
/* The call that `id` numbers, if it went over `link` and has not ended. */
ucx_call *ucx_call_find(ucx_transport *transport, const ucx_link *link, uint64_t id);
void ucx_calls_send_waiting(ucx_transport *transport, ucx_peer *peer);
/* Of `peer`; on `link`, or, when it is NULL, all. */
void ucx_calls_fail(
    ucx_transport *transport, const ucx_peer *peer, const ucx_link *link, const kith_err *err);
void ucx_calls_expire(ucx_transport *transport);
void ucx_calls_watch(ucx_transport *transport);
void ucx_calls_close(ucx_transport *transport);

void ucx_heap_push(ucx_transport *transport, ucx_call *call);
void ucx_heap_remove(ucx_transport *transport, ucx_call *call);

/* --- peers --- */
ucx_peer *ucx_peer_of(ucx_transport *transport, const char *address);
/* NULL: it was not called yet. */
ucx_peer *ucx_peer_find(const ucx_transport *transport, const char *address);
/* Begins to dial when there is no connection. Not OK: it rests; `err` says why. */
KITH_CHECK kith_status ucx_peer_wake(ucx_peer *peer, kith_err *err);
void ucx_peer_ready(ucx_peer *peer);
/* Its connection ended, or never came about. */
void ucx_peer_lost(ucx_peer *peer, const kith_err *err, bool is_failure);
void ucx_peers_tick(ucx_transport *transport);
void ucx_peers_free(ucx_transport *transport);
void ucx_peer_resolve(ucx_peer *peer);

/* --- links --- */
KITH_CHECK kith_status ucx_link_dial(ucx_peer *peer, ucx_link **link_out, kith_err *err);
void ucx_links_accept(ucx_transport *transport);
void ucx_links_note(ucp_conn_request_h conn_request, void *transport); /* UCX's callback */
/* Cut soon, by the loop. Calls on it end with this. */
void ucx_link_doom(ucx_link *link, kith_status status, const char *format, ...) KITH_PRINTF(3, 4);
void ucx_links_cut_doomed(ucx_transport *transport);
void ucx_links_tick(ucx_transport *transport);
void ucx_links_leave(ucx_transport *transport);
void ucx_links_free(ucx_transport *transport);
/* Takes `send`, whose frame and body are set. */
void ucx_link_send_take(ucx_link *link, ucx_send *send);
/* A frame without a body. */
void ucx_link_send_frame(ucx_link *link, const kith_am_frame *frame);
void ucx_link_send_body(ucx_link *link, kith_am_type type, const void *bytes, size_t byte_count);
ucx_send *ucx_send_take(ucx_transport *transport, size_t room_bytes);
/* For any thread; NULL when memory is out. */
ucx_send *ucx_send_create(ucx_transport *transport, size_t room_bytes);
void ucx_send_release(ucx_transport *transport, ucx_send *send);
ucs_status_t ucx_link_receive(void *transport, const void *head, size_t head_bytes, void *data,
    size_t data_bytes, const ucp_am_recv_param_t *param); /* UCX's callback */

/* --- hello --- */
void ucx_hello_start(ucx_link *link);
/* A frame of the types hello, hello reply, TLS. */
void ucx_hello_receive(ucx_link *link, const kith_am_frame *frame, const void *body);

/* --- serve --- */
/* `data`: UCX's descriptor when `is_lasting`. Returns whether it was kept. */
bool ucx_serve_request(ucx_link *link, const kith_am_frame *frame, void *data, bool is_lasting);
/* As above, with a body of ours: taken. */
void ucx_serve_request_take(ucx_link *link, const kith_am_frame *frame, uint8_t *body);
/* Whether a request of `frame` has room; else it is answered. */
bool ucx_serve_admit(ucx_link *link, const kith_am_frame *frame);
/* A request counts from when its bytes begin to come: between the two it is not among link->requests. */
void ucx_serve_reserve(ucx_link *link, const kith_am_frame *frame);
void ucx_serve_unreserve(ucx_link *link, const kith_am_frame *frame);
void ucx_serve_cancel(ucx_link *link, uint64_t call_id);
void ucx_serve_link_gone(ucx_link *link);
void ucx_serve_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err);

/* --- local --- */
bool ucx_local_is_for(const ucx_transport *transport, const kith_transport_call *call);
void ucx_local_start(ucx_transport *transport, kith_transport_call *call);
void ucx_local_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err);

/* --- pool: any thread --- */
void ucx_pool_init(ucx_pool *pool);
void ucx_pool_fini(ucx_pool *pool);
/* NULL when memory is out. */
void *ucx_pool_take(ucx_pool *pool, size_t bytes);
/* Accepts NULL. */
void ucx_pool_give(ucx_pool *pool, void *bytes);
/* Gives what is kept back to the system when none was taken since the last trim. */
void ucx_pool_trim(ucx_pool *pool);

/* --- TLS --- */
KITH_CHECK kith_status ucx_tls_context_create(const kith_transport_credentials *credentials,
    const char *cluster, ucx_tls_context **context_out, kith_err *err);
void ucx_tls_context_destroy(ucx_tls_context *context);
ucx_tls *ucx_tls_create(ucx_tls_context *context, bool is_accepted);
void ucx_tls_destroy(ucx_tls *tls);
/* Feeds what came (maybe nothing), appends what is to be sent. */
KITH_CHECK kith_status ucx_tls_step(
    ucx_tls *tls, const void *bytes, size_t byte_count, kith_buf *out, bool *done_out, kith_err *err);
/* After the handshake: whether the peer's certificate speaks for `node`. */
KITH_CHECK kith_status ucx_tls_check_peer(ucx_tls *tls, const kith_node_id *node, kith_err *err);
/* After the handshake: keys for both directions; `greeting` is the dialler's hello. */
KITH_CHECK kith_status ucx_tls_make_keys(
    ucx_tls *tls, const void *greeting, size_t greeting_bytes, kith_err *err);
/* The MAC of a frame that we send, and whether that of one that came is right. The MAC's own place in `head` does not
 * count. */
void ucx_tls_sign(ucx_tls *tls, uint64_t sequence, const uint8_t *head, size_t head_bytes, const void *body,
    size_t body_bytes, uint8_t mac_out[KITH_AM_FRAME_MAC_BYTES]);
bool ucx_tls_verify(ucx_tls *tls, uint64_t sequence, const uint8_t *head, size_t head_bytes, const void *body,
    size_t body_bytes, const uint8_t mac[KITH_AM_FRAME_MAC_BYTES]);

#endif
