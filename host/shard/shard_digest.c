#include "host/shard/shard_digest.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/base/hash.h"
#include "host/shard/shard_internal.h"

#define SLICE_POINTS 1024u /* about 2 ms: a guess */

/* --- of a point --- */

static void id_append(kith_buf *bytes, const kith_id *id, uint64_t sequence) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    kith_buf_clear(bytes);
    kith_buf_append(bytes, canonical, kith_id_encode(id, canonical));
    kith_buf_u64(bytes, sequence);
}

static void vectors_append(
    kith_buf *bytes, const kith_schema *schema, const kith_segment *segment, uint32_t row) {
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const void *vector = kith_segment_row_vector(segment, f, row);
        kith_buf_u8(bytes, vector != NULL);
        if (vector) kith_buf_append(bytes, vector, kith_field_vector_bytes(&schema->fields[f]));
    }
}

/* `value`: the point as the store has it. */
static uint64_t row_digest(const kith_shard *shard, const kith_segment *segment, uint32_t row,
    const uint8_t *value, size_t value_bytes, kith_buf *bytes) {
    kith_id id = kith_segment_row_id(segment, row);
    id_append(bytes, &id, kith_segment_row_sequence(segment, row));
    vectors_append(bytes, &shard->schema, segment, row);
    if (value_bytes > 8) kith_buf_append(bytes, value + 8, value_bytes - 8);
    return kith_hash64(bytes->data, bytes->bytes);
}

/* --- of all, on the owner --- */

static kith_status row_digest_add(kith_shard *shard, const kith_segment *segment, uint32_t row,
    kith_buf *bytes, kith_buf *value, uint64_t *digest, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_id id = kith_segment_row_id(segment, row);
    size_t key_bytes = shard_key_point(shard->id, &id, key);
    kith_status status = kith_store_get(shard->node->store, KITH_STORE_POINTS, key, key_bytes, value, err);
    if (status == KITH_NOT_FOUND)
        return kith_err_set(err, KITH_CORRUPT, "a live point of shard %llu is not in the store",
            (unsigned long long)shard->id);
    if (status == KITH_OK) *digest += row_digest(shard, segment, row, value->data, value->bytes, bytes);
    return status;
}

static bool row_is_live(const shard_view_part *part, uint32_t row) {
    return !part->dead || !kith_bitset_get(part->dead->words, row);
}

kith_status kith_shard_digest(kith_shard *shard, uint64_t *digest_out, kith_err *err) {
    kith_buf bytes, value;
    uint64_t digest = 0;
    kith_status status = shard_health_check(shard, err);
    if (status != KITH_OK) return status;
    const shard_view *view = kith_hazard_current(shard->view_cell);
    kith_buf_init(&bytes);
    kith_buf_init(&value);
    for (uint32_t p = 0; p < view->part_count && status == KITH_OK; p++) {
        const shard_view_part *part = &view->parts[p];
        for (uint32_t row = 0; row < part->row_count && status == KITH_OK; row++) {
            if (row_is_live(part, row))
                status = row_digest_add(shard, part->segment, row, &bytes, &value, &digest, err);
        }
    }
    kith_buf_fini(&bytes);
    kith_buf_fini(&value);
    if (status == KITH_OK) *digest_out = digest;
    return status;
}

/* --- of slots, beside the writes --- */

struct shard_digesting {
    kith_task task;
    kith_shard *shard;
    kith_shard_digests *digests;
    shard_digesting *next; /* waits for its entry, on the owner */
    kith_timer timer;      /* its deadline meanwhile */
    /* The moment. */
    shard_view *view;
    kith_store_snapshot *store;
    uint64_t sequence;
    kith_store_iterator *iterator; /* NULL before the first slice */
    kith_buf bytes;
    bool ended;
    kith_status status;
    kith_err err;
};

/* A point whose row is not there, or is another one's, has a digest that no whole point has. */
static uint64_t point_digest(shard_digesting *digesting, const kith_id *id, uint64_t sequence,
    const uint8_t *value, size_t value_bytes) {
    uint32_t part, row;
    if (shard_view_find(digesting->view, id, &part, &row)) {
        const kith_segment *segment = digesting->view->parts[part].segment;
        if (kith_segment_row_sequence(segment, row) == sequence)
            return row_digest(digesting->shard, segment, row, value, value_bytes, &digesting->bytes);
    }
    id_append(&digesting->bytes, id, sequence);
    return kith_hash64(digesting->bytes.data, digesting->bytes.bytes);
}

static kith_status point_take(shard_digesting *digesting, const uint8_t *key, size_t key_bytes,
    const uint8_t *value, size_t value_bytes, kith_err *err) {
    kith_shard_digests *digests = digesting->digests;
    kith_id id;
    if (!kith_id_from_order_key(key + 8, key_bytes - 8, &id) || value_bytes < 8)
        return kith_err_set(err, KITH_CORRUPT, "shard %llu has a malformed point of %zu bytes",
            (unsigned long long)digesting->shard->id, value_bytes);
    uint32_t slot = kith_id_slot(&id);
    if (slot < digests->slot_first || slot - digests->slot_first >= digests->slot_count) return KITH_OK;
    uint64_t sequence = kith_load_u64(value);
    uint64_t digest = point_digest(digesting, &id, sequence, value, value_bytes);
    digests->digests_out[slot - digests->slot_first] += digest;
    if (digests->point) digests->point(digests, &id, sequence, digest);
    return KITH_OK;
}

static kith_status points_open(shard_digesting *digesting, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = shard_key_prefix(digesting->shard->id, from);
    size_t to_bytes = shard_key_prefix(digesting->shard->id + 1, to);
    return kith_store_snapshot_iterator_open(
        digesting->store, KITH_STORE_POINTS, from, from_bytes, to, to_bytes, &digesting->iterator, err);
}

static kith_status patience_check(const shard_digesting *digesting, kith_err *err) {
    const kith_shard *shard = digesting->shard;
    if (atomic_load(&shard->closing))
        return kith_err_set(err, KITH_CLOSED, "shard %llu is closing", (unsigned long long)shard->id);
    if (kith_env_now_ns(shard->node->env) < digesting->digests->deadline_ns) return KITH_OK;
    return kith_err_set(err, KITH_DEADLINE, "the deadline passed while shard %llu was digested",
        (unsigned long long)shard->id);
}

static kith_status slice_take(shard_digesting *digesting, kith_err *err) {
    const void *key, *value;
    size_t key_bytes, value_bytes;
    kith_status status = patience_check(digesting, err);
    if (status == KITH_OK && !digesting->iterator) status = points_open(digesting, err);
    for (uint32_t i = 0; i < SLICE_POINTS && status == KITH_OK; i++) {
        if (!kith_store_iterator_next(digesting->iterator, &key, &key_bytes, &value, &value_bytes)) {
            digesting->ended = true;
            return kith_store_iterator_status(digesting->iterator, err);
        }
        status = point_take(digesting, key, key_bytes, value, value_bytes, err);
    }
    return status;
}

static void digesting_finish(shard_digesting *digesting) {
    kith_shard_digests *digests = digesting->digests;
    kith_status status = digesting->status;
    uint64_t sequence = digesting->sequence;
    kith_err err = digesting->err;
    kith_store_iterator_close(digesting->iterator);
    kith_store_snapshot_destroy(digesting->store);
    if (digesting->view) shard_view_release(digesting->view);
    kith_buf_fini(&digesting->bytes);
    shard_use_release(digesting->shard);
    kith_free(digesting);
    digests->done(digests, status, sequence, status == KITH_OK ? NULL : &err);
}

static void slice_run(kith_task *task) {
    shard_digesting *digesting = (shard_digesting *)(void *)task;
    if (digesting->status == KITH_OK) digesting->status = slice_take(digesting, &digesting->err);
    if (digesting->status == KITH_OK && !digesting->ended)
        kith_executor_post(digesting->shard->node->background, task);
    else
        digesting_finish(digesting);
}

static void go_on(shard_digesting *digesting) {
    digesting->task.run = slice_run;
    kith_executor_post(digesting->shard->node->background, &digesting->task);
}

/* --- the moment, on the owner --- */

static void moment_take(shard_digesting *digesting) {
    kith_shard *shard = digesting->shard;
    uint64_t wanted = digesting->digests->at_sequence;
    digesting->view = shard_view_acquire(shard->view_cell);
    digesting->sequence = digesting->view->applied_sequence;
    if (wanted != 0 && wanted != digesting->sequence)
        digesting->status = kith_err_set(&digesting->err, KITH_NOT_FOUND,
            "entry %llu of shard %llu has passed: it is at %llu", (unsigned long long)wanted,
            (unsigned long long)shard->id, (unsigned long long)digesting->sequence);
    else
        digesting->store = kith_store_snapshot_create(shard->node->store);
    go_on(digesting);
}

/* False: its deadline has, in the meantime, and its task will end it. */
static bool wait_end(shard_digesting *digesting) {
    if (!kith_timer_cancel(&digesting->timer)) return false;
    shard_digesting **at = &digesting->shard->digests_waiting;
    while (*at != digesting)
        at = &(*at)->next;
    *at = digesting->next;
    return true;
}

static void wait_timer_run(kith_task *task) {
    shard_digesting *digesting = (shard_digesting *)((char *)task - offsetof(shard_digesting, timer.task));
    kith_shard *shard = digesting->shard;
    shard_digesting **at = &shard->digests_waiting;
    while (*at != digesting)
        at = &(*at)->next;
    *at = digesting->next;
    digesting->sequence = shard->stored_sequence;
    digesting->status =
        kith_err_set(&digesting->err, atomic_load(&shard->closing) ? KITH_CLOSED : KITH_DEADLINE,
            "entry %llu of shard %llu was not applied in time",
            (unsigned long long)digesting->digests->at_sequence, (unsigned long long)shard->id);
    go_on(digesting);
}

static void wait_begin(shard_digesting *digesting) {
    kith_shard *shard = digesting->shard;
    digesting->next = shard->digests_waiting;
    shard->digests_waiting = digesting;
    digesting->timer.task.run = wait_timer_run;
    digesting->timer.executor = shard->node->owner;
    digesting->timer.due_ns = digesting->digests->deadline_ns;
    kith_timer_start(&digesting->timer);
}

static void enter(kith_task *task) {
    shard_digesting *digesting = (shard_digesting *)(void *)task;
    kith_shard *shard = digesting->shard;
    const shard_view *view = kith_hazard_current(shard->view_cell);
    digesting->status = shard_readable_check(shard, &digesting->err);
    if (digesting->status == KITH_OK) digesting->status = patience_check(digesting, &digesting->err);
    if (digesting->status != KITH_OK)
        go_on(digesting);
    else if (digesting->digests->at_sequence > view->applied_sequence)
        wait_begin(digesting);
    else
        moment_take(digesting);
}

bool shard_digests_want(const kith_shard *shard, uint64_t sequence) {
    for (const shard_digesting *at = shard->digests_waiting; at; at = at->next) {
        if (at->digests->at_sequence == sequence) return true;
    }
    return false;
}

void shard_digests_applied(kith_shard *shard) {
    shard_digesting *next;
    for (shard_digesting *at = shard->digests_waiting; at; at = next) {
        next = at->next;
        if (at->digests->at_sequence <= shard->stored_sequence && wait_end(at)) moment_take(at);
    }
}

void kith_shard_digests_cancel(kith_shard *shard) {
    shard_digesting *next;
    for (shard_digesting *at = shard->digests_waiting; at; at = next) {
        next = at->next;
        if (!wait_end(at)) continue;
        at->status = kith_err_set(&at->err, KITH_CLOSED, "nobody waits for entries of shard %llu any more",
            (unsigned long long)shard->id);
        go_on(at);
    }
}

static void digests_closed(kith_task *task) {
    kith_shard_digests *digests = (kith_shard_digests *)((char *)task - offsetof(kith_shard_digests, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    digests->done(digests, status, 0, &err);
}

void kith_shard_digests_start(kith_shard *shard, kith_shard_digests *digests) {
    kith_assert(digests->slot_count > 0 && digests->slot_count <= KITH_SLOTS);
    kith_assert(digests->slot_first <= KITH_SLOTS - digests->slot_count);
    if (!shard_use_try_acquire(shard)) {
        kith_task *task = (kith_task *)digests->impl;
        *task = (kith_task){.run = digests_closed};
        kith_executor_post(shard->node->background, task);
        return;
    }
    shard_digesting *digesting = kith_alloc_zero(sizeof *digesting);
    digesting->task.run = enter;
    digesting->shard = shard;
    digesting->digests = digests;
    kith_buf_init(&digesting->bytes);
    memset(digests->digests_out, 0, digests->slot_count * sizeof *digests->digests_out);
    kith_executor_post(shard->node->owner, &digesting->task);
}
