/* Copies of shards for those that lack too much: each is taken once and read in pieces, by its id, until nobody has asked for it for
 * a while; once it was given as a whole, only until another wants its place, for what was given may have been lost on the way.
 *
 * Taking one may last longer than its reader waits: who asks again is told so, and has it then. */
#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

/* A copy holds the files of the moment at which it was taken, so there are few, and none for long. */
#define SOURCES_MAX    4u
#define SOURCE_IDLE_NS (60000 * MS_NS)
#define SOURCE_LOOK_NS (15000 * MS_NS)

struct replica_source {
    replica_source *next;
    uint64_t id, shard_id;
    kith_node_id reader;
    kith_shard_snapshot *snapshot; /* NULL while it is taken, and the id is 0 */
    bool is_unheard;               /* its first piece was given too late: who begins anew has it */
    uint64_t used_ns;
    uint32_t readers;     /* pieces that are read just now; one while it is taken */
    uint64_t given_bytes; /* in any order, and what is asked for again counts again */
    kith_buf spare; /* of the last reply, to be written over: a fresh megabyte costs more than its copy */
};

typedef struct source_begin {
    kith_shard_snapshot_begin begin;
    kith_replica_set *set;
    replica_source *source;
    kith_transport_request *request;
    kith_codec_fetch_request fetch;
} source_begin;

static void refuse(
    kith_replica_set *set, kith_transport_request *request, kith_status status, const kith_err *err) {
    kith_transport_reply(request, set->options.transport, status, NULL, 0, err);
}

/* --- the table --- */

static void sources_free(replica_source *source) {
    while (source) {
        replica_source *next = source->next;
        kith_shard_snapshot_end(source->snapshot);
        kith_buf_fini(&source->spare);
        kith_free(source);
        source = next;
    }
}

/* Those that are of no use any more, taken out. `reader` and `shard_id`: who begins anew. */
static replica_source *sources_take_locked(
    kith_replica_set *set, uint64_t before_ns, const kith_node_id *reader, uint64_t shard_id) {
    replica_source *taken = NULL, **link = &set->sources;
    while (*link) {
        replica_source *source = *link;
        bool anew = reader && source->shard_id == shard_id &&
                    memcmp(source->reader.bytes, reader->bytes, sizeof reader->bytes) == 0;
        if (source->readers > 0 || !(anew || source->used_ns < before_ns)) {
            link = &source->next;
            continue;
        }
        *link = source->next;
        source->next = taken;
        taken = source;
        set->source_count--;
    }
    return taken;
}

static bool is_given(const replica_source *source) {
    uint64_t epoch, sequence, total_bytes;
    kith_shard_snapshot_describe(source->snapshot, &epoch, &sequence, &total_bytes);
    return source->given_bytes >= total_bytes;
}

/* The oldest of those that are done with; NULL: there is none. */
static replica_source **given_find_locked(kith_replica_set *set) {
    replica_source **found = NULL;
    for (replica_source **link = &set->sources; *link; link = &(*link)->next) {
        if ((*link)->readers == 0 && is_given(*link)) found = link;
    }
    return found;
}

/* Room for another, as far as copies are done with. */
static replica_source *sources_make_room_locked(kith_replica_set *set) {
    replica_source *taken = NULL, **link;
    while (set->source_count >= SOURCES_MAX && (link = given_find_locked(set))) {
        replica_source *source = *link;
        *link = source->next;
        source->next = taken;
        taken = source;
        set->source_count--;
    }
    return taken;
}

static void sources_look(kith_task *task);

/* Armed under the lock, so that a stop finds it. */
static void sources_time_locked(kith_replica_set *set) {
    if (set->sources_timed || set->sources_stopped || !set->sources) return;
    set->sources_timed = true;
    set->sources_timer = (kith_timer){.task = {.run = sources_look},
        .executor = set->options.node->background,
        .due_ns = replica_now_ns(set) + SOURCE_LOOK_NS};
    kith_timer_start(&set->sources_timer);
}

static void sources_look(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, sources_timer.task));
    uint64_t now_ns = replica_now_ns(set);
    kith_mutex_lock(&set->sources_mutex);
    uint64_t before_ns = set->sources_stopped      ? UINT64_MAX
                         : now_ns > SOURCE_IDLE_NS ? now_ns - SOURCE_IDLE_NS
                                                   : 0;
    replica_source *taken = sources_take_locked(set, before_ns, NULL, 0);
    set->sources_timed = false;
    sources_time_locked(set);
    kith_mutex_unlock(&set->sources_mutex);
    sources_free(taken);
}

static replica_source *source_add_locked(
    kith_replica_set *set, const kith_node_id *reader, uint64_t shard_id) {
    replica_source *source = kith_alloc_zero(sizeof *source);
    *source = (replica_source){.next = set->sources, .shard_id = shard_id, .reader = *reader, .readers = 1};
    kith_buf_init(&source->spare);
    set->sources = source;
    set->source_count++;
    sources_time_locked(set);
    return source;
}

static void source_remove(kith_replica_set *set, replica_source *source) {
    kith_mutex_lock(&set->sources_mutex);
    replica_source **link = &set->sources;
    while (*link != source)
        link = &(*link)->next;
    *link = source->next;
    source->next = NULL;
    set->source_count--;
    kith_mutex_unlock(&set->sources_mutex);
    sources_free(source);
}

/* NULL: there is none. Held until source_done, to which the buffer goes back. */
static replica_source *source_use(
    kith_replica_set *set, const kith_codec_fetch_request *fetch, kith_buf *reply_out) {
    kith_mutex_lock(&set->sources_mutex);
    replica_source *source = set->sources;
    while (source && (source->id != fetch->snapshot_id || source->shard_id != fetch->shard_id))
        source = source->next;
    if (set->sources_stopped) source = NULL;
    if (source) {
        source->readers++;
        *reply_out = source->spare;
        kith_buf_init(&source->spare);
    }
    kith_mutex_unlock(&set->sources_mutex);
    return source;
}

static void source_done(kith_replica_set *set, replica_source *source, kith_buf *reply, size_t given_bytes) {
    kith_mutex_lock(&set->sources_mutex);
    source->readers--;
    source->given_bytes += given_bytes;
    source->used_ns = replica_now_ns(set);
    kith_buf other = source->spare;
    source->spare = *reply;
    replica_source *taken = set->sources_stopped ? sources_take_locked(set, UINT64_MAX, NULL, 0) : NULL;
    kith_mutex_unlock(&set->sources_mutex);
    kith_buf_fini(&other);
    sources_free(taken);
}

/* --- pieces --- */

/* A copy does not change, so that its length says how much of it there is to read. */
static kith_status piece_read(replica_source *source, kith_codec_fetch_reply *piece, uint32_t bytes_max,
    kith_buf *reply, kith_err *err) {
    uint64_t left = piece->offset < piece->total_bytes ? piece->total_bytes - piece->offset : 0;
    size_t read = 0;
    piece->bytes = left < bytes_max ? (size_t)left : bytes_max;
    kith_buf_clear(reply);
    uint8_t *data = kith_codec_fetch_reply_begin(piece, reply);
    kith_status status =
        kith_shard_snapshot_read(source->snapshot, piece->offset, data, piece->bytes, &read, err);
    if (status != KITH_OK) return status;
    kith_assert(read == piece->bytes);
    kith_codec_fetch_reply_end(piece, reply);
    return KITH_OK;
}

/* How many bytes of the copy it gave. */
static size_t piece_reply(kith_replica_set *set, kith_transport_request *request,
    const kith_codec_fetch_request *fetch, replica_source *source, kith_buf *reply) {
    kith_err err;
    kith_codec_fetch_reply piece = {.snapshot_id = source->id, .offset = fetch->offset};
    kith_shard_snapshot_describe(source->snapshot, &piece.epoch, &piece.sequence, &piece.total_bytes);
    kith_status status = piece_read(source, &piece, fetch->bytes_max, reply, &err);
    if (status == KITH_OK)
        kith_transport_reply(request, set->options.transport, KITH_OK, reply->data, reply->bytes, NULL);
    else
        refuse(set, request, status, &err);
    return status == KITH_OK ? piece.bytes : 0;
}

/* Of one that is held. Taking a copy may last longer than its reader waits for the first piece. */
static void first_piece_reply(kith_replica_set *set, kith_transport_request *request,
    const kith_codec_fetch_request *fetch, replica_source *source) {
    kith_buf reply;
    kith_buf_init(&reply);
    bool is_late = replica_now_ns(set) >= request->deadline_ns;
    size_t given_bytes = piece_reply(set, request, fetch, source, &reply);
    kith_mutex_lock(&set->sources_mutex);
    source->is_unheard = is_late;
    kith_mutex_unlock(&set->sources_mutex);
    source_done(set, source, &reply, is_late ? 0 : given_bytes);
}

/* On the background executor. */
static void source_began(kith_shard_snapshot_begin *begin, kith_status status, kith_shard_snapshot *snapshot,
    const kith_err *err) {
    source_begin *own = (source_begin *)begin;
    kith_replica_set *set = own->set;
    if (status == KITH_OK) {
        kith_mutex_lock(&set->sources_mutex);
        own->source->id = ++set->source_id;
        own->source->snapshot = snapshot;
        kith_mutex_unlock(&set->sources_mutex);
        first_piece_reply(set, own->request, &own->fetch, own->source);
    } else {
        source_remove(set, own->source);
        refuse(set, own->request, status, err);
    }
    kith_free(own);
}

/* --- begin --- */

/* For the same reader: being taken, or taken and not heard of. */
static replica_source *source_find_locked(
    const kith_replica_set *set, const kith_node_id *reader, uint64_t shard_id) {
    for (replica_source *source = set->sources; source; source = source->next) {
        bool waits = source->id == 0 || (source->is_unheard && source->readers == 0);
        if (waits && source->shard_id == shard_id &&
            memcmp(source->reader.bytes, reader->bytes, sizeof reader->bytes) == 0)
            return source;
    }
    return NULL;
}

/* OK: the source is held; without an id it is to be taken. */
static kith_status source_claim(kith_replica_set *set, const kith_node_id *reader, uint64_t shard_id,
    replica_source **source_out, kith_err *err) {
    replica_source *anew = NULL, *given = NULL;
    kith_status status = KITH_OK;
    kith_mutex_lock(&set->sources_mutex);
    replica_source *found = source_find_locked(set, reader, shard_id);
    if (!found) {
        anew = sources_take_locked(set, 0, reader, shard_id);
        given = sources_make_room_locked(set);
    }
    if (set->sources_stopped)
        status = kith_err_set(err, KITH_CLOSED, "this node is shutting down");
    else if (found && found->id == 0)
        status = kith_err_set(
            err, KITH_BUSY, "the copy of shard %llu is being taken", (unsigned long long)shard_id);
    else if (found)
        (*source_out = found)->readers++;
    else if (set->source_count >= SOURCES_MAX)
        status = kith_err_set(err, KITH_BUSY, "%u copies of shards are being read", SOURCES_MAX);
    else
        *source_out = source_add_locked(set, reader, shard_id);
    kith_mutex_unlock(&set->sources_mutex);
    sources_free(anew);
    sources_free(given);
    return status;
}

static void source_take(kith_replica_set *set, kith_shard *shard, kith_transport_request *request,
    const kith_codec_fetch_request *fetch, replica_source *source) {
    source_begin *own = kith_alloc_zero(sizeof *own);
    *own = (source_begin){
        .begin = {.done = source_began}, .set = set, .source = source, .request = request, .fetch = *fetch};
    kith_log_info("shard_copied", kith_kv_u64("shard", fetch->shard_id));
    kith_shard_snapshot_begin_start(shard, &own->begin);
}

static kith_status source_begin_start(kith_replica_set *set, kith_transport_request *request,
    const kith_codec_fetch_request *fetch, kith_err *err) {
    replica_source *source = NULL;
    kith_shard *shard = kith_shard_set_find(set->options.shards, fetch->shard_id);
    if (!shard) {
        return kith_err_set(
            err, KITH_STALE_MAP, "shard %llu is not on this node", (unsigned long long)fetch->shard_id);
    }
    kith_status status = kith_shard_health(shard, err);
    if (status == KITH_OK) status = source_claim(set, &request->from, fetch->shard_id, &source, err);
    if (status == KITH_OK && source->id)
        first_piece_reply(set, request, fetch, source);
    else if (status == KITH_OK)
        source_take(set, shard, request, fetch, source);
    kith_shard_set_release(set->options.shards, shard);
    return status;
}

void replica_fetch_handle(void *ctx, kith_transport_request *request) {
    kith_replica_set *set = ctx;
    kith_codec_fetch_request fetch;
    kith_err err;
    kith_status status = kith_codec_fetch_request_decode(request->bytes, request->byte_count, &fetch, &err);
    if (status == KITH_OK && fetch.snapshot_id == 0) {
        status = source_begin_start(set, request, &fetch, &err);
        if (status == KITH_OK) return;
    }
    if (status != KITH_OK) {
        refuse(set, request, status, &err);
        return;
    }
    kith_buf reply;
    replica_source *source = source_use(set, &fetch, &reply);
    if (!source) {
        kith_err_set(&err, KITH_NOT_FOUND, "copy %llu of shard %llu is not held",
            (unsigned long long)fetch.snapshot_id, (unsigned long long)fetch.shard_id);
        refuse(set, request, KITH_NOT_FOUND, &err);
        return;
    }
    size_t given_bytes = piece_reply(set, request, &fetch, source, &reply);
    source_done(set, source, &reply, given_bytes);
}

static void sources_end_run(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, sources_task));
    kith_mutex_lock(&set->sources_mutex);
    replica_source *taken = sources_take_locked(set, UINT64_MAX, NULL, 0);
    kith_mutex_unlock(&set->sources_mutex);
    sources_free(taken);
    kith_executor_post(set->owner, &set->sources_ended_task);
}

static void sources_ended(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, sources_ended_task));
    replica_unuse(set, NULL);
}

void replica_sources_stop(kith_replica_set *set) {
    kith_mutex_lock(&set->sources_mutex);
    set->sources_stopped = true;
    if (set->sources_timed) (void)kith_timer_cancel(&set->sources_timer); /* if it runs, it sees the mark */
    kith_mutex_unlock(&set->sources_mutex);
    replica_use(set, NULL);
    set->sources_task.run = sources_end_run;
    set->sources_ended_task.run = sources_ended;
    kith_executor_post(set->options.node->background, &set->sources_task);
}

void replica_sources_end(kith_replica_set *set) {
    sources_free(set->sources);
}
