/* The two halves of a Raft member's disk: raft_storage_open.c reads, raft_storage.c writes. */
#ifndef KITH_META_RAFT_STORAGE_INTERNAL_H
#define KITH_META_RAFT_STORAGE_INTERNAL_H

#include "host/meta/raft_storage.h"

#define RAFT_RECORD_VERSION      1u
#define RAFT_RECORD_HEADER_BYTES 8u
#define RAFT_RECORD_BYTES_MAX    (8u << 20) /* no more writes are put into one past this */
#define RAFT_LOG_STREAM          0ULL
#define RAFT_LOG_FILE_BYTES      (4u << 20)
#define RAFT_LOG_PENDING_BYTES   (64u << 20)
#define RAFT_RETRY_NS            100000000ULL /* a guess: how often a full disk is tried again */

/* Items that hold no entry; entries have libraft's types. */
#define RAFT_ITEM_CUT   16u
#define RAFT_ITEM_RESET 17u

/* A record that is in the log's files. */
typedef struct raft_record {
    uint64_t sequence;
    uint64_t last_index; /* greatest in it; 0: it holds no entry */
} raft_record;

struct kith_raft_storage {
    kith_raft_storage_options options;
    char *dir;
    char *log_dir;
    kith_raft_term term;
    kith_store_log *log;
    kith_raft_found found;

    raft_record *records; /* oldest first */
    size_t record_count, record_capacity;
    uint64_t sequence_next;
    uint64_t
        reset_index; /* not 0: the log's entries are of no use, and a RESET to this goes before the next record */

    kith_raft_write *waiting; /* oldest first */
    kith_raft_write **waiting_last;
    kith_raft_write *flying; /* whose record, or snapshot, is on its way */
    kith_buf record;         /* on its way, or to be tried again; empty: none */
    uint64_t record_last_index;
    kith_log_append append;
    kith_task append_task;
    kith_err append_err;
    kith_timer retry;
    bool retry_waits; /* the timer is armed, or its task queued */
    bool stalled;     /* the last try found no room, as append_err says */
    kith_err failed;  /* status OK while it works */

    uint32_t files_flying;
    bool stopping;
    void (*idle)(void *ctx);
    void *idle_ctx;
};

/* --- raft_storage.c --- */

/* What waits and flies: nothing yet. */
void raft_storage_prepare(kith_raft_storage *storage);
void raft_record_note(kith_raft_storage *storage, uint64_t sequence, uint64_t last_index);

#endif
