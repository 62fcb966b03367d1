/* Life, clock, randomness, term and vote. */
#include "host/meta/raft_io_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define NS_PER_MS 1000000ULL

_Static_assert(offsetof(kith_raft_io, table) == 0, "raft_io_of casts the table back");

/* --- memory: the core's is ours, and zeroed, for it writes some bytes of entries that it never set --- */

static void *heap_malloc(void *data, size_t bytes) {
    (void)data;
    void *pointer = kith_try_alloc(bytes ? bytes : 1);
    if (pointer) memset(pointer, 0, bytes ? bytes : 1);
    return pointer;
}
static void heap_free(void *data, void *pointer) {
    (void)data;
    kith_free(pointer);
}
static void *heap_calloc(void *data, size_t count, size_t bytes) {
    if (bytes && count > SIZE_MAX / bytes) return NULL;
    return heap_malloc(data, count * bytes);
}
static void *heap_realloc(void *data, void *pointer, size_t bytes) {
    (void)data;
    return kith_realloc(pointer, bytes);
}
static void *heap_aligned_alloc(void *data, size_t alignment, size_t bytes) {
    (void)data;
    kith_assert(alignment <= 64);
    return kith_try_alloc_aligned(bytes);
}
static void heap_aligned_free(void *data, size_t alignment, void *pointer) {
    (void)alignment;
    heap_free(data, pointer);
}

static struct raft_heap heap = {.malloc = heap_malloc,
    .free = heap_free,
    .calloc = heap_calloc,
    .realloc = heap_realloc,
    .aligned_alloc = heap_aligned_alloc,
    .aligned_free = heap_aligned_free};

/* --- common --- */

void raft_io_ran(kith_raft_io *io) {
    if (!io->closing) io->options.watch(io->options.ctx);
}

int raft_io_fail(kith_raft_io *io, const kith_err *err) {
    snprintf(io->table.errmsg, sizeof io->table.errmsg, "%.*s", (int)sizeof io->table.errmsg - 1, err->text);
    if (err->status == KITH_CORRUPT) return RAFT_CORRUPT;
    return err->status == KITH_NO_SPACE ? RAFT_NOSPACE : RAFT_IOERR;
}

/* --- clock --- */

static raft_time io_time(struct raft_io *table) {
    return kith_env_now_ns(raft_io_of(table)->options.env) / NS_PER_MS;
}

static int io_random(struct raft_io *table, int min, int max) {
    uint64_t value;
    kith_env_random(raft_io_of(table)->options.env, &value, sizeof value);
    return max > min ? min + (int)(value % (uint64_t)(max - min)) : min;
}

static void timer_start(kith_raft_io *io) {
    uint64_t now_ns = kith_env_now_ns(io->options.env);
    io->timer.due_ns += io->tick_ns;
    if (io->timer.due_ns < now_ns) io->timer.due_ns = now_ns + io->tick_ns;
    io->timer_waits = true;
    kith_timer_start(&io->timer);
}

/* A leader's heartbeats do not wait for its disk; a follower whose disk is slow does not ask for votes. */
static void timer_run(kith_task *task) {
    kith_raft_io *io = (kith_raft_io *)(void *)((char *)task - offsetof(kith_raft_io, timer.task));
    io->timer_waits = false;
    if (io->closing) {
        raft_io_close_check(io);
        return;
    }
    timer_start(io);
    raft_io_held_deliver(io);
    if (io->closing) return;
    bool ticks = raft_io_raft(io)->state == RAFT_LEADER || !kith_raft_storage_busy(io->options.storage);
    if (ticks && !io->mute) io->tick(&io->table);
    raft_io_ran(io);
}

static int io_start(struct raft_io *table, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
    kith_raft_io *io = raft_io_of(table);
    io->tick = tick;
    io->recv = recv;
    /* Twice as often as heartbeats are due: a tick that comes a little early would put one off to the next. */
    io->tick_ns = msecs * NS_PER_MS / 2;
    io->timer.due_ns = kith_env_now_ns(io->options.env);
    timer_start(io);
    return 0;
}

/* --- term and vote --- */

static int term_write(kith_raft_io *io, uint64_t term, uint64_t vote) {
    kith_err err;
    kith_status status = kith_raft_storage_term_set(io->options.storage, term, vote, &err);
    if (status == KITH_OK) return 0;
    kith_raft_guard_term_failed(raft_io_raft(io));
    return raft_io_fail(io, &err);
}

static int io_set_term(struct raft_io *table, raft_term term) {
    return term_write(raft_io_of(table), term, 0);
}

static int io_set_vote(struct raft_io *table, raft_id id) {
    kith_raft_io *io = raft_io_of(table);
    return term_write(io, kith_raft_storage_term(io->options.storage), id);
}

/* --- life --- */

static int io_init(struct raft_io *table, raft_id id, const char *address) {
    (void)table;
    (void)id;
    (void)address;
    return 0;
}

/* A cluster begins with a snapshot: kith_raft_storage_bootstrap. */
static int io_bootstrap(struct raft_io *table, const struct raft_configuration *configuration) {
    (void)table;
    (void)configuration;
    return RAFT_CANTBOOTSTRAP;
}

static int io_recover(struct raft_io *table, const struct raft_configuration *configuration) {
    (void)table;
    (void)configuration;
    return RAFT_INVALID;
}

void raft_io_close_check(kith_raft_io *io) {
    if (!io->closing || io->closed || io->timer_waits || io->sends || !io->storage_idle) return;
    io->closed = true;
    io->close(&io->table);
}

static void storage_idle(void *ctx) {
    kith_raft_io *io = ctx;
    io->storage_idle = true;
    raft_io_close_check(io);
}

static void io_close(struct raft_io *table, raft_io_close_cb close) {
    kith_raft_io *io = raft_io_of(table);
    io->closing = true;
    io->close = close;
    if (io->timer_waits && kith_timer_cancel(&io->timer)) io->timer_waits = false;
    raft_io_net_close(io);
    raft_io_disk_close(io);
    kith_raft_storage_stop(io->options.storage, storage_idle, io);
}

kith_raft_io *kith_raft_io_create(const kith_raft_io_options *options) {
    raft_heap_set(&heap);
    kith_raft_io *io = kith_alloc_zero(sizeof *io);
    io->options = *options;
    io->held_last = &io->held;
    io->verified_index = UINT64_MAX;
    io->timer.task.run = timer_run;
    io->timer.executor = options->executor;
    raft_configuration_init(&io->snapshot_configuration);
    io->table = (struct raft_io){
        .version = 1,
        .init = io_init,
        .close = io_close,
        .start = io_start,
        .bootstrap = io_bootstrap,
        .recover = io_recover,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = raft_io_send,
        .time = io_time,
        .random = io_random,
    };
    raft_io_disk_table(&io->table);
    raft_io_net_open(io);
    return io;
}

struct raft_io *kith_raft_io_table(kith_raft_io *io) {
    return &io->table;
}

void kith_raft_io_started(kith_raft_io *io) {
    kith_raft_guard_started(raft_io_raft(io), io->snapshot_configuration_index);
}

void kith_raft_io_destroy(kith_raft_io *io) {
    if (!io) return;
    raft_configuration_close(&io->snapshot_configuration);
    kith_free(io);
}
