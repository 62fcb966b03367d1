/* Commit notes; see the header for what they are for. */
#include "host/shard/shard_note.h"

#include <stdatomic.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/buf.h"
#include "host/base/bytes.h"
#include "host/base/map.h"

#define NOTE_VERSION 1u

struct shard_notes {
    _Atomic uint32_t references;
    atomic_bool on_its_way;
    kith_map *marked; /* shard id -> committed */
    uint64_t sequence_last;
};

typedef struct note {
    kith_log_append append; /* first: `done` casts back */
    shard_notes *notes;
    kith_store_log *log;
    kith_buf data;
} note;

shard_notes *shard_notes_create(void) {
    shard_notes *notes = kith_alloc_zero(sizeof *notes);
    atomic_init(&notes->references, 1);
    notes->marked = kith_map_create(16);
    return notes;
}

void shard_notes_release(shard_notes *notes) {
    /* acq_rel: whoever frees them sees everything done with them. */
    if (!notes || atomic_fetch_sub_explicit(&notes->references, 1, memory_order_acq_rel) != 1) return;
    kith_map_destroy(notes->marked);
    kith_free(notes);
}

void shard_notes_mark(shard_notes *notes, uint64_t shard_id, uint64_t committed) {
    kith_map_put(notes->marked, &shard_id, sizeof shard_id, committed);
}

/* --- writing --- */

/* One that failed is not repeated: the next one says as much or more. */
static void note_done(kith_log_append *append, kith_status status, const kith_err *err) {
    note *written = (note *)append;
    (void)err;
    if (status == KITH_OK)
        kith_store_log_trim(written->log, KITH_LOG_STREAM_NOTES, append->entry.sequence - 1);
    /* release: pairs with the acquire in shard_notes_write. */
    atomic_store_explicit(&written->notes->on_its_way, false, memory_order_release);
    shard_notes_release(written->notes);
    kith_buf_fini(&written->data);
    kith_free(written);
}

_Static_assert(offsetof(note, append) == 0, "note_done casts the append back");

static void marked_encode(const shard_notes *notes, kith_buf *data) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t committed;
    kith_buf_u32(data, NOTE_VERSION);
    kith_buf_u32(data, (uint32_t)kith_map_count(notes->marked));
    while (kith_map_next(notes->marked, &cursor, &key, &key_bytes, &committed)) {
        uint64_t shard_id;
        memcpy(&shard_id, key, sizeof shard_id);
        kith_buf_u64(data, shard_id);
        kith_buf_u64(data, committed);
    }
}

void shard_notes_write(shard_notes *notes, kith_store_log *log) {
    if (kith_map_count(notes->marked) == 0) return;
    if (atomic_load_explicit(&notes->on_its_way, memory_order_acquire)) return;
    note *made = kith_alloc_zero(sizeof *made);
    made->notes = notes;
    made->log = log;
    kith_buf_init(&made->data);
    marked_encode(notes, &made->data);
    kith_map_clear(notes->marked);
    made->append = (kith_log_append){.entry = {.stream = KITH_LOG_STREAM_NOTES,
                                         .epoch = 1,
                                         .sequence = ++notes->sequence_last,
                                         .data = made->data.data,
                                         .bytes = made->data.bytes},
        .done = note_done};
    atomic_store_explicit(&notes->on_its_way, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&notes->references, 1, memory_order_relaxed);
    kith_store_log_append(log, &made->append);
}

/* --- reading --- */

kith_status shard_notes_replay(shard_notes *notes, const kith_log_entry *entry,
    kith_status (*each)(void *ctx, uint64_t shard_id, uint64_t committed, kith_err *err), void *ctx,
    kith_err *err) {
    kith_reader reader = kith_reader_of(entry->data, entry->bytes);
    if (entry->sequence > notes->sequence_last) notes->sequence_last = entry->sequence;
    bool whole = entry->bytes >= 8;
    uint32_t version = whole ? kith_reader_u32(&reader) : 0;
    uint32_t count = whole ? kith_reader_u32(&reader) : 0;
    if (version != NOTE_VERSION || kith_reader_left(&reader) != (size_t)count * 16)
        return kith_err_set(err, KITH_CORRUPT, "commit note %llu: version %u, %u shards in %zu bytes",
            (unsigned long long)entry->sequence, version, count, entry->bytes);
    kith_status status = KITH_OK;
    for (uint32_t i = 0; status == KITH_OK && i < count; i++) {
        uint64_t shard_id = kith_reader_u64(&reader);
        status = each(ctx, shard_id, kith_reader_u64(&reader), err);
    }
    return status;
}

void shard_notes_replayed(shard_notes *notes, kith_store_log *log) {
    kith_store_log_trim(log, KITH_LOG_STREAM_NOTES, notes->sequence_last);
}
