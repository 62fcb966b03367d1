/* The reading half: what is on the disk of a member, checked as a whole. Each file has a checksum of its own; here is what
 * no single file can tell: that one is missing, or older than another. */
#include "host/meta/raft_storage_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/log.h"
#include "host/meta/meta_log_raft.h"

/* --- the log --- */

static kith_raft_entry *entry_push(kith_raft_found *found) {
    size_t count = found->entry_count;
    if ((count & (count - 1)) == 0) { /* at each power of two */
        found->entries = kith_realloc(found->entries, (count ? 2 * count : 1) * sizeof *found->entries);
    }
    return &found->entries[found->entry_count++];
}

/* Entries from `index` on go. */
static void entries_cut(kith_raft_found *found, uint64_t index) {
    if (found->entry_count == 0) return;
    uint64_t first = found->entries[0].index;
    uint64_t keep = index > first ? index - first : 0;
    if (keep < found->entry_count) found->entry_count = (size_t)keep;
    if (found->entry_count == 0) {
        kith_free(found->entries);
        found->entries = NULL;
        kith_buf_clear(&found->data);
    }
}

/* `data` is an offset until all is read: the buffer moves. */
static void entry_replay(kith_raft_found *found, const kith_raft_entry *entry) {
    entries_cut(found, entry->index);
    if (found->entry_count > 0 && found->entries[found->entry_count - 1].index + 1 != entry->index)
        entries_cut(found, 0);
    size_t offset = found->data.bytes;
    kith_buf_append(&found->data, entry->data, entry->bytes);
    kith_raft_entry *own = entry_push(found);
    *own = *entry;
    own->data = (const void *)(uintptr_t)offset;
}

static bool item_replay(kith_raft_found *found, kith_reader *reader, uint64_t *last_index) {
    uint32_t kind = kith_reader_u32(reader);
    uint32_t bytes = kith_reader_u32(reader);
    kith_raft_entry entry = {.type = (uint8_t)kind, .bytes = bytes};
    entry.index = kith_reader_u64(reader);
    entry.term = kith_reader_u64(reader);
    entry.data = kith_reader_bytes(reader, bytes);
    if (reader->failed || entry.index == 0) return false;
    if (kind == RAFT_ITEM_CUT || kind == RAFT_ITEM_RESET) {
        entries_cut(found, kind == RAFT_ITEM_CUT ? entry.index : 0);
        return bytes == 0;
    }
    if (kind < 1 || kind > 3 || entry.term == 0) return false;
    if (entry.index > *last_index) *last_index = entry.index;
    entry_replay(found, &entry);
    return true;
}

static kith_status record_replay(void *ctx, const kith_log_entry *record, kith_err *err) {
    kith_raft_storage *storage = ctx;
    kith_reader reader = kith_reader_of(record->data, record->bytes);
    uint32_t version = kith_reader_u32(&reader);
    uint32_t item_count = kith_reader_u32(&reader);
    if (!reader.failed && version != RAFT_RECORD_VERSION) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "%s: record %llu has version %u, this program reads version %u", storage->log_dir,
            (unsigned long long)record->sequence, version, RAFT_RECORD_VERSION);
    }
    uint64_t last_index = 0;
    bool good = !reader.failed && item_count > 0;
    for (uint32_t i = 0; good && i < item_count; i++)
        good = item_replay(&storage->found, &reader, &last_index);
    if (!good || kith_reader_left(&reader) > 0) {
        return kith_err_set(err, KITH_CORRUPT, "%s: record %llu does not decode", storage->log_dir,
            (unsigned long long)record->sequence);
    }
    raft_record_note(storage, record->sequence, last_index);
    storage->sequence_next = record->sequence + 1;
    return KITH_OK;
}

static kith_status log_open(kith_raft_storage *storage, kith_err *err) {
    kith_store_log_options options = {
        .env = storage->options.env,
        .dir = storage->log_dir,
        .executor = storage->options.disk_executor,
        .file_bytes = RAFT_LOG_FILE_BYTES,
        .retain_bytes = 0,
        .pending_bytes_max = RAFT_LOG_PENDING_BYTES,
        .replay = record_replay,
        .replay_ctx = storage,
    };
    kith_status status = kith_store_log_open(&options, &storage->log, err);
    if (status != KITH_OK) return status;
    kith_raft_found *found = &storage->found;
    for (size_t i = 0; i < found->entry_count; i++)
        found->entries[i].data = found->data.data + (uintptr_t)found->entries[i].data;
    return KITH_OK;
}

/* --- the whole --- */

typedef struct dir_contents {
    bool snapshot;
    bool log_files;
} dir_contents;

static void snapshot_look(void *ctx, const kith_dir_entry *entry) {
    dir_contents *contents = ctx;
    if (strcmp(entry->name, "raft-snapshot.kith") == 0) contents->snapshot = true;
}

static void log_look(void *ctx, const kith_dir_entry *entry) {
    dir_contents *contents = ctx;
    if (strncmp(entry->name, "log-", 4) == 0) contents->log_files = true;
}

static kith_status dir_look(const kith_raft_storage *storage, dir_contents *contents_out, kith_err *err) {
    kith_env *env = storage->options.env;
    *contents_out = (dir_contents){0};
    kith_status status = kith_dir_list(env, storage->dir, snapshot_look, contents_out, err);
    if (status != KITH_OK) return status;
    status = kith_dir_list(env, storage->log_dir, log_look, contents_out, err);
    return status == KITH_NOT_FOUND ? KITH_OK : status;
}

/* A member that lost its term may vote twice: it must not begin again as if it were new. */
static kith_status term_open(kith_raft_storage *storage, const dir_contents *contents, kith_err *err) {
    kith_env *env = storage->options.env;
    kith_status status = kith_raft_term_open(env, storage->dir, &storage->term, err);
    if (status != KITH_NOT_FOUND) return status;
    if (contents->snapshot || contents->log_files || storage->options.must_exist) {
        return kith_err_set(err, KITH_CORRUPT,
            "%s/term.kith is missing, this member's term and vote: restore all of the folder, or have the "
            "node leave the cluster and join it again with an empty one",
            storage->dir);
    }
    status = kith_raft_term_create(env, storage->dir, err);
    return status == KITH_OK ? kith_raft_term_open(env, storage->dir, &storage->term, err) : status;
}

static kith_status snapshot_open(kith_raft_storage *storage, const dir_contents *contents, kith_err *err) {
    bool configured = storage->term.flags & KITH_RAFT_TERM_CONFIGURED;
    if (configured && !contents->log_files)
        return kith_err_set(err, KITH_CORRUPT, "%s: the log's files are missing", storage->log_dir);
    kith_raft_found *found = &storage->found;
    kith_status status = kith_raft_snapshot_read(storage->options.env, storage->dir, &found->snapshot, err);
    found->has_snapshot = status == KITH_OK;
    if (status != KITH_NOT_FOUND) return status;
    if (!configured) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "%s/raft-snapshot.kith is missing", storage->dir);
}

static kith_status terms_check(const kith_raft_storage *storage, kith_err *err) {
    const kith_raft_found *found = &storage->found;
    uint64_t term = found->has_snapshot ? found->snapshot.term : 0;
    if (found->entry_count > 0 && found->entries[found->entry_count - 1].term > term)
        term = found->entries[found->entry_count - 1].term;
    if (term <= storage->term.term) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT,
        "%s/term.kith is older than the log or the snapshot beside it: it says term %llu, they have %llu",
        storage->dir, (unsigned long long)storage->term.term, (unsigned long long)term);
}

/* Whether the log goes on where the snapshot ends. If not, a crash came between an install's file and its RESET. */
static bool log_meets_snapshot(const kith_raft_found *found) {
    const kith_raft_entry *first = &found->entries[0];
    const kith_raft_entry *last = &found->entries[found->entry_count - 1];
    uint64_t index = found->snapshot.index;
    if (last->index < index) return false;
    return first->index > index || found->entries[index - first->index].term == found->snapshot.term;
}

static kith_status found_fit(kith_raft_storage *storage, kith_err *err) {
    kith_raft_found *found = &storage->found;
    if (found->entry_count > 0 && !found->has_snapshot) {
        return kith_err_set(
            err, KITH_CORRUPT, "%s/raft-snapshot.kith is missing although the log has entries", storage->dir);
    }
    if (found->entry_count > 0 && found->entries[0].index > found->snapshot.index + 1) {
        return kith_err_set(err, KITH_CORRUPT,
            "%s/raft-snapshot.kith ends at %llu and the log begins at %llu: entries are missing",
            storage->dir, (unsigned long long)found->snapshot.index,
            (unsigned long long)found->entries[0].index);
    }
    kith_status status = terms_check(storage, err);
    if (status != KITH_OK) return status;
    if (found->entry_count > 0 && !log_meets_snapshot(found)) {
        storage->reset_index = found->snapshot.index + 1;
        entries_cut(found, 0);
    }
    found->start_index = found->has_snapshot ? found->snapshot.index + 1 : 1;
    if (found->entry_count > 0) found->start_index = found->entries[0].index;
    return KITH_OK;
}

static kith_status storage_fill(kith_raft_storage *storage, kith_err *err) {
    dir_contents contents;
    kith_status status = kith_dir_make(storage->options.env, storage->dir, err);
    if (status == KITH_OK) status = dir_look(storage, &contents, err);
    if (status == KITH_OK) status = term_open(storage, &contents, err);
    if (status == KITH_OK) status = snapshot_open(storage, &contents, err);
    if (status == KITH_OK) status = log_open(storage, err);
    if (status == KITH_OK) status = found_fit(storage, err);
    return status;
}

static char *path_join(const char *dir, const char *name) {
    size_t bytes = strlen(dir) + strlen(name) + 2;
    char *path = kith_alloc(bytes);
    snprintf(path, bytes, "%s/%s", dir, name);
    return path;
}

kith_status kith_raft_storage_open(
    const kith_raft_storage_options *options, kith_raft_storage **storage_out, kith_err *err) {
    kith_assert(strlen(options->dir) < 4000);
    kith_raft_storage *storage = kith_alloc_zero(sizeof *storage);
    storage->options = *options;
    storage->dir = kith_strdup(options->dir);
    storage->log_dir = path_join(options->dir, "raft-log");
    storage->sequence_next = 1;
    kith_buf_init(&storage->record);
    kith_buf_init(&storage->found.data);
    raft_storage_prepare(storage);
    kith_status status = storage_fill(storage, err);
    if (status != KITH_OK) {
        kith_raft_storage_close(storage);
        return kith_err_wrap(err, status, "open the metadata log");
    }
    *storage_out = storage;
    return KITH_OK;
}

const kith_raft_found *kith_raft_storage_found(const kith_raft_storage *storage) {
    return &storage->found;
}

void kith_raft_storage_found_free(kith_raft_storage *storage) {
    kith_raft_found *found = &storage->found;
    if (found->has_snapshot) kith_raft_snapshot_fini(&found->snapshot);
    kith_free(found->entries);
    kith_buf_fini(&found->data);
    *found = (kith_raft_found){0};
    kith_buf_init(&found->data);
}
