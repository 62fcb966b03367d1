/* A replica that lacks too much is replaced by a copy of the primary's, in pieces: a few are on their way while one is checked and written,
 * always in order and one of a shard at a time. Two shards of a node at once, so that one is fetched while a copy of the other is taken, or
 * the other is opened; more would leave searches less of their share of disk and network.
 *
 * The shard is given up only when the first piece is here, for until then it may still serve reads that ask for no more, and an operator who
 * accepts loss may choose it. A transfer that is cut off goes on where it was, as long as the source holds the copy; otherwise it begins
 * anew. One whose source is not there leaves its place to others, whose sources may be; one that fails here keeps it, or every shard in turn
 * would be given up for nothing. After a crash the shard opens as CORRUPT, and this begins again (host/shard/shard_snapshot.h).
 *
 * Threads: one step at a time, each on the executor that it needs; the owner decides what is next. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

/* Of an install so many are in memory or on their way: one is written, one arrives, others are read (a guess). */
#define PIECES_MAX        4u
#define PIECE_BYTES       (1u << 20)
#define INSTALLS_MAX      2u
#define PIECE_DEADLINE_NS (30000 * MS_NS) /* the first takes as long as the copy */
#define BACKOFF_NS_MIN    (100 * MS_NS)
#define BACKOFF_NS_MAX    (5000 * MS_NS)

_Static_assert(PIECE_BYTES <= KITH_CODEC_FETCH_BYTES_MAX, "a source gives as much as is asked for");

/* Asked for, then here, until it is written or dropped. */
typedef struct install_piece {
    kith_transport_call call;
    kith_task task;
    replica_install *install;
    bool is_calling;
    kith_status status; /* once it is here */
    kith_err err;
    kith_buf request, reply;
} install_piece;

struct replica_install {
    kith_task task;
    kith_timer timer;
    replica *own;
    kith_schema schema;
    uint32_t peer;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_status status; /* why it does not go on */
    kith_err err;
    bool is_without_source; /* for that reason */
    bool is_busy;           /* a step is under way elsewhere, which comes back */
    bool has_place;         /* one of INSTALLS_MAX */
    bool is_waiting, is_erased;
    bool is_reserved; /* nobody else opens the shard before this is over, also where it is given anew */
    /* On a disk that fails erasing ends only as the shards close: a stop does not wait for it. */
    bool is_erasing;
    bool is_left;                     /* and one came meanwhile */
    install_piece pieces[PIECES_MAX]; /* [piece_first, + piece_count) modulo, by rising offset */
    uint32_t piece_first, piece_count, call_count;
    uint64_t snapshot_id;                /* 0: none yet; then one piece is asked for, which says */
    uint64_t total_bytes, asked, offset; /* of the copy: all, asked for, written */
    uint64_t backoff_ns, began_ns;
    kith_shard_install *install;
    bool is_last; /* everything is written */
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

static void advance(replica_install *install);
static void places_give(kith_replica_set *set);

/* --- places --- */

static void turn_take(replica *own) {
    own->install_turn = ++own->set->install_turn;
    places_give(own->set);
}

static void place_leave(replica_install *install) {
    if (!install->has_place) return;
    install->has_place = false;
    set_of(install)->install_count--;
    places_give(set_of(install));
}

/* --- the end, on the owner --- */

static void pieces_free(replica_install *install) {
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        kith_buf_fini(&install->pieces[i].request);
        kith_buf_fini(&install->pieces[i].reply);
    }
}

static void install_over(kith_task *task) {
    replica_install *install = of_task(task);
    replica *own = install->own;
    kith_replica_set *set = own->set;
    own->install = NULL;
    own->install_turn = 0;
    place_leave(install);
    if (install->is_left) set->under_way++; /* it was not counted while the shards closed */
    if (own->let_go) replica_forget(own);
    if (install->is_reserved) kith_shard_set_unreserve(set->options.shards, own->shard_id);
    pieces_free(install);
    kith_free(install);
    if (!own->let_go && kith_replica_step_installs(own->step)) turn_take(own); /* since it was given up */
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
    if (install->is_erasing)
        go_on(install, set->options.life, given_up_erase);
    else
        go_on(install, set->owner, install_over);
}

static void give_up(replica_install *install) {
    install->is_busy = true;
    install->is_erasing = install->own->let_go && install->is_erased && !set_of(install)->stopped;
    go_on(install, set_of(install)->options.node->background, give_up_run);
}

/* A shard that is in sync again keeps what it has, unless that is gone already. */
static bool install_ends(const replica_install *install) {
    const replica *own = install->own;
    bool is_unwanted = !install->is_reserved && !kith_replica_step_installs(own->step);
    return own->let_go || own->set->stopped || is_unwanted;
}

static void retry_run(kith_task *task) {
    replica_install *install =
        (replica_install *)(void *)((char *)task - offsetof(replica_install, timer.task));
    install->is_waiting = false;
    if (install->has_place || install_ends(install))
        advance(install);
    else
        turn_take(install->own);
}

/* For one that has given up its shard already a moment's interruption is no reason: its source would forget it. */
static bool gives_way(const replica_install *install) {
    bool is_first = install->backoff_ns == BACKOFF_NS_MIN;
    return install->is_without_source && !(install->is_reserved && is_first);
}

static void retry(replica_install *install) {
    kith_replica_set *set = set_of(install);
    uint64_t twice_ns = 2 * install->backoff_ns;
    kith_log_warn("replica_install_waits", kith_kv_u64("shard", install->own->shard_id),
        kith_kv_u64("offset", install->offset), kith_kv_text("reason", install->err.text));
    install->status = KITH_OK;
    install->backoff_ns = twice_ns < BACKOFF_NS_MIN   ? BACKOFF_NS_MIN
                          : twice_ns > BACKOFF_NS_MAX ? BACKOFF_NS_MAX
                                                      : twice_ns;
    install->timer = (kith_timer){.task = {.run = retry_run},
        .executor = set->owner,
        .due_ns = replica_now_ns(set) + install->backoff_ns};
    install->is_waiting = true;
    kith_timer_start(&install->timer);
    if (gives_way(install)) place_leave(install);
    install->is_without_source = false;
}

/* On the owner: a step elsewhere is over. */
static void stepped(kith_task *task) {
    replica_install *install = of_task(task);
    install->is_busy = false;
    advance(install);
}

static void step_failed(replica_install *install, kith_status status) {
    install->status = status;
    go_on(install, set_of(install)->owner, stepped);
}

/* --- the shard is opened again --- */

static void was_opened(kith_task *task) {
    replica_install *install = of_task(task);
    replica *own = install->own;
    kith_replica_set *set = own->set;
    bool ends = own->let_go || set->stopped;
    if (!ends) own->shard = kith_shard_set_find(set->options.shards, own->shard_id);
    if (!own->shard) { /* or a map has taken it away, and it was dropped, of which this thread hears next */
        give_up(install);
        return;
    }
    kith_shard_log_state state;
    kith_shard_log_state_read(own->shard, &state);
    own->applied = state.applied;
    kith_log_info("replica_installed", kith_kv_u64("shard", own->shard_id),
        kith_kv_u64("sequence", install->end.sequence), kith_kv_u64("bytes", install->offset),
        kith_kv_u64("took_ms", (replica_now_ns(set) - install->began_ns) / MS_NS));
    replica_mended(own);
    kith_replica_step_installed(own->step, install->end, replica_now_ns(set));
    replica_after_event(own);
    install_over(task);
}

/* What was written may not be what is read. */
static kith_status opened_check(replica_install *install) {
    kith_shard_set *shards = set_of(install)->options.shards;
    kith_shard *shard = kith_shard_set_find(shards, install->own->shard_id);
    kith_status status = kith_shard_health(shard, &install->err);
    kith_shard_set_release(shards, shard);
    return status == KITH_CORRUPT ? status : KITH_OK;
}

/* Where shards are opened. */
static void open_run(kith_task *task) {
    replica_install *install = of_task(task);
    kith_replica_set *set = set_of(install);
    kith_status status = kith_shard_set_open_reserved(
        set->options.shards, install->own->shard_id, &install->schema, true, &install->err);
    if (status == KITH_OK) status = kith_shard_set_start(set->options.shards, &install->err);
    if (status == KITH_OK) status = opened_check(install);
    if (status == KITH_OK) {
        installing_show(install->own, false);
        go_on(install, set->owner, was_opened);
        return;
    }
    install->is_erased = false; /* it is erased, and copied, once more */
    install->snapshot_id = 0;
    step_failed(install, status);
}

/* --- a piece, on the background executor --- */

static kith_status copy_begin(replica_install *install, const kith_codec_fetch_reply *piece) {
    if (piece->snapshot_id == 0)
        return kith_err_set(&install->err, KITH_CORRUPT, "a piece of a copy without an id came");
    kith_shard_install_destroy(install->install);
    install->install = NULL;
    install->offset = 0;
    install->snapshot_id = piece->snapshot_id;
    install->total_bytes = piece->total_bytes;
    install->is_last = false;
    return kith_shard_install_begin(set_of(install)->options.node, install->own->shard_id, &install->schema,
        &install->install, &install->err);
}

static kith_status piece_write(replica_install *install, const kith_codec_fetch_reply *piece) {
    kith_status status = install->snapshot_id ? KITH_OK : copy_begin(install, piece);
    if (status != KITH_OK) return status;
    if (piece->snapshot_id != install->snapshot_id || piece->total_bytes != install->total_bytes)
        return kith_err_set(&install->err, KITH_CORRUPT, "a piece of another copy came");
    if (piece->offset != install->offset || (piece->bytes == 0 && piece->offset < piece->total_bytes)) {
        return kith_err_set(&install->err, KITH_CORRUPT, "a piece at %llu came, %llu was asked for",
            (unsigned long long)piece->offset, (unsigned long long)install->offset);
    }
    status = kith_shard_install_write(install->install, piece->data, piece->bytes, &install->err);
    install->offset += piece->bytes;
    return status;
}

static kith_status piece_take(replica_install *install) {
    const kith_buf *reply = &install->pieces[install->piece_first].reply;
    kith_codec_fetch_reply piece;
    kith_status status = kith_codec_fetch_reply_decode(reply->data, reply->bytes, &piece, &install->err);
    if (status == KITH_OK) status = piece_write(install, &piece);
    if (status != KITH_OK || install->offset < install->total_bytes) return status;
    install->is_last = true;
    status = kith_shard_install_finish(
        install->install, &install->end.epoch, &install->end.sequence, &install->err);
    kith_shard_install_destroy(install->install);
    install->install = NULL;
    return status;
}

/* On the owner. The next piece was asked for by its place, so that none may be shorter than was asked. */
static void written_run(kith_task *task) {
    replica_install *install = of_task(task);
    install->is_busy = false;
    install->piece_first = (install->piece_first + 1) % PIECES_MAX;
    install->piece_count--;
    if (install->piece_count == 0) install->asked = install->offset;
    install->backoff_ns = 0;
    replica_copied(install->own, install->offset);
    advance(install);
}

static void piece_run(kith_task *task) {
    replica_install *install = of_task(task);
    kith_replica_set *set = set_of(install);
    kith_status status = piece_take(install);
    if (status != KITH_OK) {
        install->snapshot_id = 0; /* after a failure a copy cannot go on */
        step_failed(install, status);
    } else if (install->is_last) {
        go_on(install, set->options.life, open_run);
    } else {
        go_on(install, set->owner, written_run);
    }
}

/* --- the shard is given up --- */

static void erased_run(kith_task *task) {
    replica_install *install = of_task(task);
    install->is_erasing = false;
    if (install->is_left) {
        install_over(task);
        return;
    }
    if (install->status == KITH_OK) install->is_erased = true;
    stepped(task);
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
    if (!install->is_reserved) kith_shard_set_reserve(own->set->options.shards, own->shard_id);
    install->is_reserved = install->is_erasing = true;
    go_on(install, own->set->options.life, erase_run);
}

/* --- pieces are asked for --- */

static void fetched(kith_task *task) {
    install_piece *piece = (install_piece *)(void *)((char *)task - offsetof(install_piece, task));
    piece->is_calling = false;
    piece->install->call_count--;
    advance(piece->install);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    install_piece *piece = (install_piece *)call;
    piece->status = status;
    kith_buf_clear(&piece->reply);
    if (status == KITH_OK)
        kith_buf_append(&piece->reply, reply, reply_bytes);
    else
        piece->err = *err;
    piece->task.run = fetched;
    kith_executor_post(set_of(piece->install)->owner, &piece->task);
}

static uint32_t piece_bytes(const kith_replica_set *set) {
    return set->options.piece_bytes ? set->options.piece_bytes : PIECE_BYTES;
}

static void call_start(replica_install *install, const replica_node *node) {
    kith_replica_set *set = set_of(install);
    install_piece *piece = &install->pieces[(install->piece_first + install->piece_count++) % PIECES_MAX];
    kith_codec_fetch_request request = {
        .shard_id = install->own->shard_id,
        .epoch = install->own->config.epoch,
        .snapshot_id = install->snapshot_id,
        .offset = install->snapshot_id ? install->asked : 0,
        .bytes_max = piece_bytes(set),
    };
    install->asked = request.offset + request.bytes_max;
    kith_buf_clear(&piece->request);
    kith_codec_fetch_request_encode(&request, &piece->request);
    piece->install = install;
    piece->call = (kith_transport_call){
        .node = node->id,
        .address = install->address,
        .kind = KITH_AM_FETCH,
        .bytes = piece->request.data,
        .byte_count = piece->request.bytes,
        .deadline_ns = replica_now_ns(set) + PIECE_DEADLINE_NS,
        .done = call_done,
    };
    piece->is_calling = true;
    install->call_count++;
    kith_transport_start(set->options.transport, &piece->call);
}

static void calls_cancel(replica_install *install) {
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        install_piece *piece = &install->pieces[i];
        if (piece->is_calling) kith_transport_cancel(set_of(install)->options.transport, &piece->call);
    }
}

/* Whoever is the primary now; NULL: none that is known. */
static const replica_node *source_of(const replica_install *install) {
    const replica *own = install->own;
    uint32_t peer = own->config.replica_count ? own->config.replicas[0] : 0;
    return peer == own->set->self ? NULL : replica_node_of(own->set, peer);
}

/* Many may wait for their next attempt: they keep no memory for pieces meanwhile. */
static void pieces_drop(replica_install *install) {
    install->piece_count = 0;
    install->asked = install->offset;
    pieces_free(install);
}

/* Nothing is under way any more. */
static void failed(replica_install *install) {
    if (install->status == KITH_NOT_FOUND || install->status == KITH_CORRUPT) install->snapshot_id = 0;
    if (install->status == KITH_BUSY) replica_awaits_turn(install->own);
    pieces_drop(install);
    retry(install);
}

/* With the first piece the copy is known, and others may be asked for. A source that changed has another copy. What a log that has stopped
 * cannot follow up would be fetched again and again. */
static void pieces_ask(replica_install *install) {
    const replica_node *node = source_of(install);
    if (install->piece_count == 0)
        install->status = kith_store_log_health(set_of(install)->options.node->log, &install->err);
    if (install->status != KITH_OK) {
        failed(install);
        return;
    }
    if (!node) {
        if (install->piece_count > 0) return;
        install->status = kith_err_set(&install->err, KITH_UNAVAILABLE, "no other node is the primary");
        install->is_without_source = true;
        failed(install);
        return;
    }
    if (node->number != install->peer) {
        if (install->piece_count > 0) return;
        install->snapshot_id = 0;
        install->peer = node->number;
    }
    if (install->piece_count == 0) memcpy(install->address, node->address, sizeof install->address);
    if (install->snapshot_id == 0) {
        if (install->piece_count == 0) call_start(install, node);
        return;
    }
    while (install->piece_count < PIECES_MAX && install->asked < install->total_bytes)
        call_start(install, node);
}

/* The shard goes, then the piece is written. */
static void first_take(replica_install *install) {
    install->is_busy = true;
    if (install->is_erased)
        go_on(install, set_of(install)->options.node->background, piece_run);
    else
        shard_give_up(install);
}

/* What is next, on the owner: after every step, and as pieces come. */
static void advance(replica_install *install) {
    if (install->is_busy || install->is_waiting) return;
    bool ends = install_ends(install);
    if (!ends && !install->has_place) return;
    const install_piece *first = &install->pieces[install->piece_first];
    bool is_here = install->piece_count > 0 && !first->is_calling;
    if (install->status == KITH_OK && is_here && first->status != KITH_OK) {
        install->status = first->status;
        install->err = first->err;
        install->is_without_source = true;
    }
    if (ends || install->status != KITH_OK) {
        if (install->call_count > 0)
            calls_cancel(install);
        else if (ends)
            give_up(install);
        else
            failed(install);
        return;
    }
    pieces_ask(install);
    if (is_here) first_take(install);
}

/* --- start and stop --- */

static void install_begin(replica *own) {
    kith_replica_set *set = own->set;
    replica_install *install = kith_alloc_zero(sizeof *install);
    install->own = own;
    install->schema = *kith_shard_schema(own->shard);
    install->began_ns = replica_now_ns(set);
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        kith_buf_init(&install->pieces[i].request);
        kith_buf_init(&install->pieces[i].reply);
    }
    own->install = install;
    replica_use(set, own);
}

void replica_install_want(replica *own) {
    if (!own->install && own->install_turn == 0) turn_take(own);
}

static bool is_given_up(const replica *own) {
    return own->install && own->install->is_reserved;
}

static bool comes_before(const replica *a, const replica *b) {
    if (is_given_up(a) != is_given_up(b)) return is_given_up(a);
    return a->install_turn < b->install_turn;
}

/* Who serves nothing meanwhile, then who has waited the longest; NULL: nobody waits. */
static replica *turn_find(const kith_replica_set *set) {
    replica *found = NULL;
    for (replica *own = set->replicas; own; own = own->next) {
        if (own->install_turn == 0 || own->let_go || !(own->install || own->shard)) continue;
        if (!found || comes_before(own, found)) found = own;
    }
    return found;
}

/* One that leaves its place at once, as nobody is there to ask, comes here from within. */
static void places_give(kith_replica_set *set) {
    replica *own;
    if (set->installs_are_chosen) return;
    set->installs_are_chosen = true;
    while (!set->stopped && set->install_count < INSTALLS_MAX && (own = turn_find(set))) {
        own->install_turn = 0;
        if (!own->install) install_begin(own);
        own->install->has_place = true;
        set->install_count++;
        advance(own->install);
    }
    set->installs_are_chosen = false;
}

/* Nothing more is waited for: what is under way ends, and then it is given up. */
static void install_hurry(replica_install *install) {
    calls_cancel(install);
    install->own->install_turn = 0;
    if (!install->is_waiting)
        advance(install);
    else if (kith_timer_cancel(&install->timer))
        retry_run(&install->timer.task);
}

/* An operator has chosen what it had, which was given up already for what it fetches: it leads nobody before that is whole. */
static void chosen_too_late(replica *own) {
    if (own->is_broken) return;
    kith_log_error("replica_chosen_amid_copy", kith_kv_u64("shard", own->shard_id));
    replica_fail(own);
}

void replica_install_look(replica *own) {
    if (kith_replica_step_installs(own->step)) return;
    replica_install *install = own->install;
    if (install && install->is_reserved)
        chosen_too_late(own);
    else if (install)
        install_hurry(install);
    else
        own->install_turn = 0;
}

void replica_install_let_go(replica *own) {
    if (own->install) install_hurry(own->install);
}

static void install_stop(replica_install *install) {
    install_hurry(install);
    if (!install->is_erasing) return;
    install->is_left = true;
    set_of(install)->under_way--; /* the caller counts as one: the stop is looked at by it */
}

void replica_install_stop(kith_replica_set *set) {
    for (replica *own = set->replicas; own; own = own->next) {
        if (own->install) install_stop(own->install);
    }
}
