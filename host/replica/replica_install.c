/* A replica that lacks too much is replaced by a copy of the primary's: fetched in pieces, one after the other, so that searches keep
 * their share of disk and network; one shard of a node at a time.
 *
 * The shard is given up only when the first piece is here, for until then it may still serve reads that ask for no more. A transfer that is
 * cut off goes on where it was, as long as the source holds the copy; otherwise it begins anew. After a crash the shard opens as
 * CORRUPT, and this begins again (host/shard/shard_snapshot.h).
 *
 * Threads: one step at a time, each on the executor that it needs; the owner decides what is next. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

#define PIECE_BYTES       (1u << 20)
#define PIECE_DEADLINE_NS (30000 * MS_NS) /* the first takes as long as the copy */
#define BACKOFF_NS_MIN    (100 * MS_NS)
#define BACKOFF_NS_MAX    (5000 * MS_NS)

struct replica_install {
    kith_transport_call call;
    kith_task task;
    kith_timer timer;
    replica *own;
    kith_schema schema;
    uint32_t peer;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_buf request, reply;
    kith_status status;
    kith_err err;
    bool is_calling, is_waiting, is_erased;
    bool
        is_erasing; /* on a disk that fails that ends only as the shards close: a stop does not wait for it */
    bool is_left;   /* and one came meanwhile */
    uint64_t snapshot_id, offset, backoff_ns, began_ns;
    kith_shard_install *install;
    kith_replica_position end;
};

static kith_replica_set *set_of(const replica_install *install) {
    return install->own->set;
}

static replica_install *of_task(kith_task *task) {
    return (replica_install *)(void *)((char *)task - offsetof(replica_install, task));
}

static void go_on(replica_install *install, kith_executor *executor, void (*run)(kith_task *task)) {
    install->task.run = run;
    kith_executor_post(executor, &install->task);
}

static void installing_show(replica *own, bool is_installing) {
    kith_mutex_lock(&own->set->mutex);
    own->shown.is_installing = is_installing;
    if (is_installing) own->shown.is_open = false;
    kith_mutex_unlock(&own->set->mutex);
}

static void fetch(replica_install *install);

/* --- the end, on the owner --- */

static void install_over(kith_task *task) {
    replica_install *install = of_task(task);
    replica *own = install->own;
    kith_replica_set *set = own->set;
    own->install = NULL;
    set->installing = NULL;
    kith_buf_fini(&install->request);
    kith_buf_fini(&install->reply);
    kith_free(install);
    replica_install_next(set);
    replica_unuse(set, own);
}

/* On the background executor. */
static void given_up_erased(void *ctx, kith_status status, const kith_err *err) {
    replica_install *install = ctx;
    (void)status; /* the next start finds what is left */
    (void)err;
    go_on(install, set_of(install)->owner, install_over);
}

static void given_up_erase(kith_task *task) {
    replica_install *install = of_task(task);
    kith_shard_set_drop(set_of(install)->options.shards, install->own->shard_id, given_up_erased, install);
}

/* On the background executor. What a shard that is this node's no more left behind is erased once more: pieces may have come after its
 * drop. */
static void give_up_run(kith_task *task) {
    replica_install *install = of_task(task);
    kith_replica_set *set = set_of(install);
    kith_shard_install_destroy(install->install);
    install->install = NULL;
    if (install->own->let_go && install->is_erased)
        go_on(install, set->options.life, given_up_erase);
    else
        go_on(install, set->owner, install_over);
}

/* True: the shard is this node's no more, or the node stops. */
static bool gives_up(replica_install *install) {
    kith_replica_set *set = set_of(install);
    if (!install->own->let_go && !set->stopped) return false;
    go_on(install, set->options.node->background, give_up_run);
    return true;
}

static void retry_run(kith_task *task) {
    replica_install *install =
        (replica_install *)(void *)((char *)task - offsetof(replica_install, timer.task));
    install->is_waiting = false;
    fetch(install);
}

static void retry(replica_install *install) {
    kith_replica_set *set = set_of(install);
    uint64_t twice_ns = 2 * install->backoff_ns;
    kith_log_warn("replica_install_waits", kith_kv_u64("shard", install->own->shard_id),
        kith_kv_u64("offset", install->offset), kith_kv_text("reason", install->err.text));
    install->backoff_ns = twice_ns < BACKOFF_NS_MIN   ? BACKOFF_NS_MIN
                          : twice_ns > BACKOFF_NS_MAX ? BACKOFF_NS_MAX
                                                      : twice_ns;
    install->timer = (kith_timer){.task = {.run = retry_run},
        .executor = set->owner,
        .due_ns = replica_now_ns(set) + install->backoff_ns};
    install->is_waiting = true;
    kith_timer_start(&install->timer);
}

/* On the owner. */
static void failed_run(kith_task *task) {
    replica_install *install = of_task(task);
    if (install->status == KITH_NOT_FOUND || install->status == KITH_CORRUPT) install->snapshot_id = 0;
    if (!gives_up(install)) retry(install);
}

static void install_failed(replica_install *install, kith_status status) {
    install->status = status;
    go_on(install, set_of(install)->owner, failed_run);
}

/* --- the shard is opened again --- */

static void was_opened(kith_task *task) {
    replica_install *install = of_task(task);
    replica *own = install->own;
    kith_replica_set *set = own->set;
    if (gives_up(install)) return;
    own->shard = kith_shard_set_find(set->options.shards, own->shard_id);
    kith_shard_log_state state;
    kith_shard_log_state_read(own->shard, &state);
    own->applied = state.applied;
    kith_log_info("replica_installed", kith_kv_u64("shard", own->shard_id),
        kith_kv_u64("sequence", install->end.sequence), kith_kv_u64("bytes", install->offset),
        kith_kv_u64("took_ms", (replica_now_ns(set) - install->began_ns) / MS_NS));
    own->is_broken = false;
    kith_replica_step_installed(own->step, install->end, replica_now_ns(set));
    replica_after_event(own);
    install_over(task);
}

/* Where shards are opened. */
static void open_run(kith_task *task) {
    replica_install *install = of_task(task);
    kith_replica_set *set = set_of(install);
    kith_status status = kith_shard_set_open(
        set->options.shards, install->own->shard_id, &install->schema, true, &install->err);
    if (status == KITH_OK) status = kith_shard_set_start(set->options.shards, &install->err);
    if (status == KITH_OK) {
        installing_show(install->own, false);
        go_on(install, set->owner, was_opened);
        return;
    }
    install->is_erased = false; /* it is erased, and copied, once more */
    install->snapshot_id = 0;
    install_failed(install, status);
}

/* --- a piece, on the background executor --- */

static kith_status piece_write(
    replica_install *install, const kith_codec_fetch_reply *piece, bool *last_out) {
    kith_replica_set *set = set_of(install);
    kith_status status = KITH_OK;
    if (piece->snapshot_id != install->snapshot_id) {
        kith_shard_install_destroy(install->install);
        install->install = NULL;
        install->offset = 0;
        install->snapshot_id = piece->snapshot_id;
        status = kith_shard_install_begin(
            set->options.node, install->own->shard_id, &install->schema, &install->install, &install->err);
    }
    if (status != KITH_OK) return status;
    if (piece->offset != install->offset || (piece->bytes == 0 && piece->offset < piece->total_bytes)) {
        return kith_err_set(&install->err, KITH_CORRUPT, "a piece at %llu came, %llu was asked for",
            (unsigned long long)piece->offset, (unsigned long long)install->offset);
    }
    status = kith_shard_install_write(install->install, piece->data, piece->bytes, &install->err);
    install->offset += piece->bytes;
    *last_out = install->offset == piece->total_bytes;
    return status;
}

static kith_status piece_take(replica_install *install, bool *last_out) {
    kith_arena arena;
    kith_arena_init(&arena);
    kith_codec_fetch_reply piece;
    kith_status status = kith_codec_fetch_reply_decode(
        install->reply.data, install->reply.bytes, &arena, &piece, &install->err);
    if (status == KITH_OK) status = piece_write(install, &piece, last_out);
    kith_arena_fini(&arena);
    return status;
}

static void fetch_run(kith_task *task) {
    replica_install *install = of_task(task);
    install->backoff_ns = 0;
    replica_copied(install->own, install->offset);
    fetch(install);
}

static void piece_run(kith_task *task) {
    replica_install *install = of_task(task);
    kith_replica_set *set = set_of(install);
    bool is_last = false;
    kith_status status = piece_take(install, &is_last);
    if (status == KITH_OK && is_last) {
        status = kith_shard_install_finish(
            install->install, &install->end.epoch, &install->end.sequence, &install->err);
        kith_shard_install_destroy(install->install);
        install->install = NULL;
    }
    if (status != KITH_OK) {
        install->snapshot_id = 0; /* after a failure a copy cannot go on */
        install_failed(install, status);
    } else if (is_last) {
        go_on(install, set->options.life, open_run);
    } else {
        go_on(install, set->owner, fetch_run);
    }
}

/* --- the shard is given up --- */

static void erased_run(kith_task *task) {
    replica_install *install = of_task(task);
    install->is_erasing = false;
    if (install->is_left) {
        set_of(install)->under_way++; /* it was not counted while the shards closed */
        install_over(task);
    } else if (install->status != KITH_OK) {
        failed_run(task);
    } else {
        install->is_erased = true;
        go_on(install, set_of(install)->options.node->background, piece_run);
    }
}

/* On the background executor. */
static void erased(void *ctx, kith_status status, const kith_err *err) {
    replica_install *install = ctx;
    install->status = status;
    if (status != KITH_OK) install->err = *err;
    go_on(install, set_of(install)->owner, erased_run);
}

static void erase_run(kith_task *task) {
    replica_install *install = of_task(task);
    installing_show(install->own, true);
    kith_shard_set_drop(set_of(install)->options.shards, install->own->shard_id, erased, install);
}

static void shard_give_up(replica_install *install) {
    replica *own = install->own;
    kith_log_info(
        "replica_replaced", kith_kv_u64("shard", own->shard_id), kith_kv_u64("applied", own->applied));
    installing_show(own, true);
    replica_waits_end(own, KITH_UNAVAILABLE, "is being replaced on this node");
    if (own->shard) {
        kith_shard_gate_set(own->shard, NULL);
        kith_shard_set_release(own->set->options.shards, own->shard);
    }
    own->shard = NULL;
    install->is_erasing = true;
    go_on(install, own->set->options.life, erase_run);
}

/* --- pieces are asked for --- */

static void fetched(kith_task *task) {
    replica_install *install = of_task(task);
    install->is_calling = false;
    if (install->status != KITH_OK)
        failed_run(task);
    else if (gives_up(install))
        return;
    else if (!install->is_erased)
        shard_give_up(install);
    else
        go_on(install, set_of(install)->options.node->background, piece_run);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    replica_install *install = (replica_install *)call;
    install->status = status;
    kith_buf_clear(&install->reply);
    if (status == KITH_OK)
        kith_buf_append(&install->reply, reply, reply_bytes);
    else
        install->err = *err;
    go_on(install, set_of(install)->owner, fetched);
}

static void call_start(replica_install *install, const replica_node *node) {
    kith_replica_set *set = set_of(install);
    kith_codec_fetch_request request = {
        .shard_id = install->own->shard_id,
        .epoch = install->own->config.epoch,
        .snapshot_id = install->snapshot_id,
        .offset = install->snapshot_id ? install->offset : 0,
        .bytes_max = PIECE_BYTES,
    };
    kith_buf_clear(&install->request);
    kith_codec_fetch_request_encode(&request, &install->request);
    memcpy(install->address, node->address, sizeof install->address);
    install->call = (kith_transport_call){
        .node = node->id,
        .address = install->address,
        .kind = KITH_AM_FETCH,
        .bytes = install->request.data,
        .byte_count = install->request.bytes,
        .deadline_ns = replica_now_ns(set) + PIECE_DEADLINE_NS,
        .done = call_done,
    };
    install->is_calling = true;
    kith_transport_start(set->options.transport, &install->call);
}

/* From whoever is the primary now. */
static void fetch(replica_install *install) {
    replica *own = install->own;
    if (gives_up(install)) return;
    uint32_t peer = own->config.replica_count ? own->config.replicas[0] : 0;
    const replica_node *node = peer == own->set->self ? NULL : replica_node_of(own->set, peer);
    if (!node) {
        kith_err_set(&install->err, KITH_UNAVAILABLE, "no other node is the primary");
        retry(install);
        return;
    }
    if (peer != install->peer) install->snapshot_id = 0;
    install->peer = peer;
    call_start(install, node);
}

/* --- start and stop --- */

static void install_begin(replica *own) {
    kith_replica_set *set = own->set;
    replica_install *install = kith_alloc_zero(sizeof *install);
    install->own = own;
    install->schema = *kith_shard_schema(own->shard);
    install->began_ns = replica_now_ns(set);
    kith_buf_init(&install->request);
    kith_buf_init(&install->reply);
    own->install = install;
    own->install_from = 0;
    set->installing = own;
    replica_use(set, own);
    fetch(install);
}

void replica_install_want(replica *own, uint32_t peer) {
    if (own->install) return;
    own->install_from = peer;
    replica_install_next(own->set);
}

void replica_install_next(kith_replica_set *set) {
    if (set->installing || set->stopped) return;
    for (replica *own = set->replicas; own; own = own->next) {
        if (own->install_from == 0 || own->let_go || !own->shard) continue;
        install_begin(own);
        return;
    }
}

void replica_install_stop(kith_replica_set *set) {
    replica_install *install = set->installing ? set->installing->install : NULL;
    if (!install) return;
    if (install->is_calling) kith_transport_cancel(set->options.transport, &install->call);
    if (install->is_waiting && kith_timer_cancel(&install->timer)) retry_run(&install->timer.task);
    if (!install->is_erasing) return;
    install->is_left = true;
    set->under_way--; /* the caller counts as one: the stop is looked at by it */
}
