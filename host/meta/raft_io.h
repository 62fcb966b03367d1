/* The hands of libraft's core: a raft_io over kith_transport, kith_raft_storage and kith_env.
 *
 * The contract of raft_io, as the library's source has it: `append` never calls back inside the call; `truncate` has no
 * callback and goes between the appends; `snapshot_put` with trailing 0 is an install, after which the log begins behind
 * the snapshot; `set_term` also clears the vote; what `load` returns is raft_malloc's. `send` never
 * fails at once here: the core frees the entries of a message twice when it does.
 *
 * Beyond it: messages wait while appends or an install are on their way to the disk, and a follower's clock does not tick.
 * A leader's clock does, and it takes acknowledgements once an entry of its own term is on disk. A failed write is never
 * told to the core, which would handle it badly: from then on nothing it does is heard outside, and `watch` must close it.
 *
 * Threads: all on options.executor, like the raft.
 * Ownership: borrows what its options hold; lives until the raft's close is done. */
#ifndef KITH_META_RAFT_IO_H
#define KITH_META_RAFT_IO_H

#include "host/meta/raft_storage.h"
#include "host/meta/raft_wire.h"

typedef struct kith_raft_io kith_raft_io;

typedef struct kith_raft_io_options {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport;
    kith_raft_storage *storage;
    kith_meta_member self;
    uint32_t message_timeout_ms;  /* a message that is not there by then is of no use */
    uint32_t snapshot_timeout_ms; /* what the largest snapshot has beyond a small one's */
    void (*watch)(void *ctx);     /* the core has run, or the storage has failed */
    void (*removed)(void *ctx);   /* a member says that this node is none any more */
    void *ctx;
} kith_raft_io_options;

/* Registers the handler of KITH_AM_RAFT, which refuses until the raft has started. */
kith_raft_io *kith_raft_io_create(const kith_raft_io_options *options);
/* For raft_init. */
struct raft_io *kith_raft_io_table(kith_raft_io *io);
/* After raft_start. */
void kith_raft_io_started(kith_raft_io *io);
/* After the raft was closed, and no request can come any more. Accepts NULL. */
void kith_raft_io_destroy(kith_raft_io *io);

#endif
