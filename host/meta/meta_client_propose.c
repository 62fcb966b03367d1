/* A proposal on its way to the leader. It carries a request id, so it is
 * repeated until it is answered: whoever has committed it gives the first
 * answer again. Answered OK, it waits for the map that shows what it did. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/codec/codec_cluster.h"
#include "host/meta/meta_client_internal.h"

#define MS_NS UINT64_C(1000000)
/* An attempt that gets no answer in this time goes to the next coordinator:
 * above an election, below what a client waits.
 */
#define ATTEMPT_NS (1000 * MS_NS)
#define RETRY_NS   (50 * MS_NS)
/* Proposals without a deadline of their own. */
#define DEADLINE_NS (30000 * MS_NS)

struct client_proposal {
    kith_transport_call call;
    kith_task task;   /* the first attempt; a reply */
    kith_timer timer; /* the next attempt, or the end of the wait for the map */
    kith_meta_client *client;
    kith_meta_proposal *proposal;
    client_proposal *next;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* asked last */
    bool in_call;                                  /* a call is open, or its reply is queued */
    bool answered;                                 /* OK: `result`; the map is waited for */
    bool is_doubted;                               /* an attempt may have arrived, and be carried out yet */
    kith_buf reply;
    kith_status status;
    kith_err err; /* of the last attempt */
    bool changed;
    uint64_t map_version;
    kith_collection collection;
    bool has_collection;
};

static void attempt(client_proposal *own);

static void finish(client_proposal *own, kith_status status) {
    kith_meta_client *client = own->client;
    client_proposal **link = &client->proposals;
    while (*link != own)
        link = &(*link)->next;
    *link = own->next;
    client_idle_look(client);
    kith_meta_proposal *proposal = own->proposal;
    kith_buf_fini(&proposal->bytes);
    kith_buf_fini(&own->reply);
    proposal->done(proposal, status, own->has_collection ? &own->collection : NULL, own->changed,
        status == KITH_OK ? NULL : &own->err);
    kith_free(own);
}

static uint64_t now(const client_proposal *own) {
    return kith_env_now_ns(own->client->options.env);
}

static void timer_set(client_proposal *own, uint64_t due_ns, void (*run)(kith_task *task)) {
    own->timer =
        (kith_timer){.task = {.run = run}, .executor = own->client->options.executor, .due_ns = due_ns};
    kith_timer_start(&own->timer);
}

static client_proposal *of_timer(kith_task *task) {
    return (client_proposal *)(void *)((char *)task - offsetof(client_proposal, timer.task));
}

static void closed(client_proposal *own) {
    finish(own, kith_err_set(&own->err, KITH_CLOSED, "this node is shutting down; the outcome is unknown"));
}

static void retry_run(kith_task *task) {
    attempt(of_timer(task));
}

/* Nobody answered, or not who leads: another attempt soon, if there is time. */
static void retry(client_proposal *own) {
    kith_meta_client *client = own->client;
    uint64_t at = now(own);
    if (client->stopped) {
        closed(own);
    } else if (at + RETRY_NS < own->proposal->deadline_ns) {
        timer_set(own, at + RETRY_NS, retry_run);
    } else {
        char reason[KITH_ERR_BYTES_MAX];
        snprintf(reason, sizeof reason, "%.300s", own->err.text);
        finish(own, kith_err_set(&own->err, KITH_UNAVAILABLE,
                        "no coordinator leader answered in time (last: "
                        "%s): repeat with the same request id",
                        reason));
    }
}

/* --- the answer --- */

static void map_late(kith_task *task) {
    client_proposal *own = of_timer(task);
    if (own->client->state.map_version >= own->map_version) { /* it came while this task was queued */
        finish(own, KITH_OK);
        return;
    }
    finish(own, kith_err_set(&own->err, KITH_UNAVAILABLE,
                    "it is done, but this node has not got map version "
                    "%llu yet: repeat with the same request "
                    "id",
                    (unsigned long long)own->map_version));
}

static void map_await(client_proposal *own) {
    kith_meta_client *client = own->client;
    if (client->state.map_version >= own->map_version) {
        finish(own, KITH_OK);
        return;
    }
    if (client->stopped) {
        closed(own);
        return;
    }
    own->answered = true;
    timer_set(own, own->proposal->deadline_ns, map_late);
    client_pull_want(client, own->address, own->map_version);
}

void client_proposals_look(kith_meta_client *client) {
    for (client_proposal *own = client->proposals, *next; own; own = next) {
        next = own->next;
        bool shown = own->answered && client->state.map_version >= own->map_version;
        if (shown && kith_timer_cancel(&own->timer)) finish(own, KITH_OK);
    }
}

bool client_proposals_wait(const kith_meta_client *client) {
    for (const client_proposal *own = client->proposals; own; own = own->next)
        if (own->answered) return true;
    return false;
}

/* The first answer is forgotten when many others have come since (KITH_META_ANSWERS_MAX): a change of shards that was made by an
 * attempt which was not answered is refused then, because its epoch is gone. */
static kith_status refusal_of(client_proposal *own, const kith_codec_propose_reply *reply) {
    bool is_certain = !own->is_doubted || own->proposal->command.kind != KITH_CODEC_META_CHANGE_SHARDS;
    if (is_certain) return kith_err_set(&own->err, reply->status, "%s", reply->message);
    return kith_err_set(&own->err, KITH_UNKNOWN_OUTCOME,
        "an attempt was not answered, the next one was refused: %s", reply->message);
}

static void answer_take(client_proposal *own) {
    kith_arena arena;
    kith_arena_init(&arena);
    kith_codec_propose_reply reply;
    kith_status status =
        kith_codec_propose_reply_decode(own->reply.data, own->reply.bytes, &arena, &reply, &own->err);
    if (status == KITH_OK) {
        own->changed = reply.changed;
        own->map_version = reply.map_version;
        own->has_collection = reply.collection != NULL;
        if (reply.collection) own->collection = *reply.collection;
        if (reply.status != KITH_OK) status = refusal_of(own, &reply);
    }
    kith_arena_fini(&arena);
    if (status == KITH_OK)
        map_await(own);
    else
        finish(own, status);
}

/* Nobody has judged it. Whoever proposes takes a refusal for certain, which it is not while an attempt before may be carried out. */
static void not_judged(client_proposal *own) {
    char reason[KITH_ERR_BYTES_MAX];
    if (!own->is_doubted) {
        finish(own, own->status);
        return;
    }
    snprintf(reason, sizeof reason, "%.300s", own->err.text);
    finish(
        own, kith_err_set(&own->err, KITH_UNKNOWN_OUTCOME,
                 "an attempt was not answered, the next one was refused: %s: repeat with the same request id",
                 reason));
}

static void replied(kith_task *task) {
    client_proposal *own = (client_proposal *)(void *)((char *)task - offsetof(client_proposal, task));
    kith_meta_client *client = own->client;
    own->in_call = false;
    if (client->stopped && own->status != KITH_OK) {
        closed(own);
        return;
    }
    switch (own->status) {
    case KITH_OK:
        client_address_set(client->leader, own->address);
        answer_take(own);
        return;
    case KITH_NOT_LEADER: /* the message says who leads */
        client_address_set(client->leader, own->err.text);
        if (!client->leader[0]) client_coordinator_failed(client, own->address);
        break;
    case KITH_DEADLINE:
    case KITH_UNAVAILABLE:
    case KITH_UNKNOWN_OUTCOME:
    case KITH_CLOSED:
    case KITH_IO: /* its disk */
        own->is_doubted = true;
        client_coordinator_failed(client, own->address);
        break;
    case KITH_BUSY:
    case KITH_UNAUTHENTICATED: /* that one is of another cluster, or no coordinator; the others may be right */
    case KITH_UNIMPLEMENTED:
        client_coordinator_failed(client, own->address);
        break;
    default:
        not_judged(own);
        return;
    }
    retry(own);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    client_proposal *own = (client_proposal *)call;
    own->status = status;
    if (status == KITH_OK)
        kith_buf_append(&own->reply, reply, reply_bytes);
    else
        own->err = *err;
    own->task = (kith_task){.run = replied};
    kith_executor_post(own->client->options.executor, &own->task);
}

static void attempt(client_proposal *own) {
    kith_meta_client *client = own->client;
    if (client->stopped) {
        closed(own);
        return;
    }
    uint64_t until = now(own) + ATTEMPT_NS;
    client_address_set(own->address, client_coordinator(client));
    kith_buf_fini(&own->reply);
    kith_buf_init(&own->reply);
    own->in_call = true;
    own->call = (kith_transport_call){
        .address = own->address,
        .kind = KITH_AM_META_PROPOSE,
        .bytes = own->proposal->bytes.data,
        .byte_count = own->proposal->bytes.bytes,
        .deadline_ns = until < own->proposal->deadline_ns ? until : own->proposal->deadline_ns,
        .done = call_done,
    };
    kith_transport_start(client->options.transport, &own->call);
}

/* --- start and stop --- */

static void begin(kith_task *task) {
    client_proposal *own = (client_proposal *)(void *)((char *)task - offsetof(client_proposal, task));
    own->next = own->client->proposals;
    own->client->proposals = own;
    attempt(own);
}

void client_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    kith_meta_client *client = (kith_meta_client *)meta;
    kith_env *env = client->options.env;
    client_proposal *own = kith_alloc_zero(sizeof *own);
    own->client = client;
    own->proposal = proposal;
    kith_buf_init(&own->reply);
    proposal->meta = meta;
    proposal->impl = own;
    if (proposal->deadline_ns == 0) proposal->deadline_ns = kith_env_now_ns(env) + DEADLINE_NS;
    kith_request_id *id = &proposal->command.request_id;
    if (kith_request_id_is_none(id)) kith_env_random(env, id->client, sizeof id->client);
    kith_buf_init(&proposal->bytes);
    kith_codec_meta_command_encode(&proposal->command, &proposal->bytes);
    own->task = (kith_task){.run = begin};
    kith_executor_post(client->options.executor, &own->task);
}

void client_proposals_stop(kith_meta_client *client) {
    for (client_proposal *own = client->proposals, *next; own; own = next) {
        next = own->next;
        if (own->in_call)
            kith_transport_cancel(client->options.transport, &own->call); /* ends in `replied` */
        else if (kith_timer_cancel(&own->timer))
            closed(own);
    }
}
