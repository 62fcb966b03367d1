/* The parts of raft_io: raft_io.c (life, clock, term and vote), raft_io_disk.c (log and snapshots), raft_io_net.c
 * (messages). */
#ifndef KITH_META_RAFT_IO_INTERNAL_H
#define KITH_META_RAFT_IO_INTERNAL_H

#include "host/meta/raft_guard.h"
#include "host/meta/raft_io.h"

#define RAFT_HELD_MAX        256u         /* messages that wait for the disk */
#define RAFT_HELD_BYTES_MAX  (128u << 20) /* of them */
#define RAFT_SENDS_MAX       64u          /* to one peer at once */
#define RAFT_SENDS_BYTES_MAX (96u << 20)  /* the same */

_Static_assert(RAFT_SENDS_BYTES_MAX > KITH_META_SNAPSHOT_BYTES_MAX, "a snapshot can be sent");
_Static_assert(RAFT_HELD_BYTES_MAX > KITH_META_SNAPSHOT_BYTES_MAX, "and received");

typedef struct io_send io_send;
typedef struct io_write io_write;
typedef struct io_held io_held;

struct kith_raft_io {
    struct raft_io table;
    kith_raft_io_options options;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv; /* NULL until started */

    kith_timer timer;
    uint64_t tick_ns;
    bool timer_waits; /* armed, or its task queued */

    uint64_t append_index; /* of the next entry */
    io_write *failed;      /* writes that the core was not told of */
    /* Of the newest snapshot. */
    struct raft_configuration snapshot_configuration;
    uint64_t snapshot_configuration_index;

    /* How far the message that the core has now shows this log to be the leader's; UINT64_MAX: it has none. */
    uint64_t verified_index;
    kith_raft_guard_acknowledged acknowledged;
    io_send *sends; /* on their way */
    atomic_bool cancel_sends;
    io_held *held; /* oldest first */
    io_held **held_last;
    uint32_t held_count;
    size_t held_bytes;

    bool mute; /* the disk has failed: nothing of what the core does now may be heard outside */
    bool closing;
    bool closed;
    bool storage_idle;
    raft_io_close_cb close;
};

static inline kith_raft_io *raft_io_of(struct raft_io *table) {
    return (kith_raft_io *)table; /* its first member */
}
static inline struct raft *raft_io_raft(const kith_raft_io *io) {
    return io->table.data;
}
/* raft_io.c */
void raft_io_ran(kith_raft_io *io);
void raft_io_close_check(kith_raft_io *io);
/* `err` as the core's message, and a code of its own. */
int raft_io_fail(kith_raft_io *io, const kith_err *err);
/* raft_io_disk.c */
void raft_io_disk_table(struct raft_io *table);
void raft_io_disk_close(kith_raft_io *io);
/* raft_io_net.c */
int raft_io_send(
    struct raft_io *table, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb);
/* How large the snapshot is that a member is to be sent. The core sends that member nothing else until it acknowledges, and
 * hears no refusal meanwhile: where the snapshot or the answer is lost, it waits for its one timeout, and no command is
 * taken so long where the member is needed for it. So the timeout goes by the size. Too short does no harm but to send it
 * once more: who has it says so at once. Found by tests/sim, cluster seed 277065. */
void raft_io_snapshot_bytes_expect(kith_raft_io *io, size_t bytes);
void raft_io_net_open(kith_raft_io *io);
void raft_io_net_close(kith_raft_io *io);
/* Delivers what waits, as far as the disk lets it. */
void raft_io_held_deliver(kith_raft_io *io);

#endif
