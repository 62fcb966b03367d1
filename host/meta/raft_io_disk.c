/* The core's log and snapshots on the storage. */
#include "host/meta/raft_io_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

struct io_write {
    kith_raft_write write;
    kith_raft_io *io;
    struct raft_io_append *append;    /* or */
    struct raft_io_snapshot_put *put; /* an install */
    const struct raft_snapshot *snapshot;
    kith_raft_snapshot own; /* what the storage gets of it */
    kith_buf configuration;
    io_write *next; /* among the failed */
};

typedef struct io_file {
    kith_raft_file file;
    kith_raft_io *io;
    struct raft_io_snapshot_put *put; /* or */
    struct raft_io_snapshot_get *get;
    const struct raft_snapshot *snapshot;
    kith_buf configuration;
} io_file;

/* --- load --- */

/* Each entry is a batch of its own. Of one batch for all, which the core takes as well, it frees the memory twice when two
 * messages that hold some of its entries end after those have left the log. */
static int load_entries(const kith_raft_found *found, struct raft_entry **entries_out) {
    *entries_out = NULL;
    if (found->entry_count == 0) return 0;
    struct raft_entry *entries = raft_calloc(found->entry_count, sizeof *entries);
    if (!entries) return RAFT_NOMEM;
    for (size_t i = 0; i < found->entry_count; i++) {
        const kith_raft_entry *from = &found->entries[i];
        void *data = raft_malloc(from->bytes + 1);
        if (!data) goto err_free;
        if (from->bytes) memcpy(data, from->data, from->bytes);
        entries[i] = (struct raft_entry){
            .term = from->term, .type = from->type, .buf = {.base = data, .len = from->bytes}, .batch = data};
    }
    *entries_out = entries;
    return 0;
err_free:
    for (size_t i = 0; i < found->entry_count; i++)
        raft_free(entries[i].batch);
    raft_free(entries);
    return RAFT_NOMEM;
}

/* As the core wants it, in memory of its own. NULL, with `err`: it does not decode, or memory is out. */
static struct raft_snapshot *snapshot_make(const kith_raft_snapshot *from, kith_err *err) {
    struct raft_configuration configuration;
    kith_status status =
        kith_raft_configuration_decode(from->configuration, from->configuration_bytes, &configuration, err);
    if (status != KITH_OK) return NULL;
    struct raft_snapshot *snapshot = raft_malloc(sizeof *snapshot);
    struct raft_buffer *bufs = raft_malloc(sizeof *bufs);
    void *data = raft_malloc(from->data_bytes + 1);
    if (!snapshot || !bufs || !data) {
        raft_free(snapshot);
        raft_free(bufs);
        raft_free(data);
        raft_configuration_close(&configuration);
        kith_err_set(err, KITH_NO_MEMORY, "no memory for a snapshot of %zu bytes", from->data_bytes);
        return NULL;
    }
    memcpy(data, from->data, from->data_bytes);
    bufs[0] = (struct raft_buffer){.base = data, .len = from->data_bytes};
    *snapshot = (struct raft_snapshot){.index = from->index,
        .term = from->term,
        .configuration = configuration,
        .configuration_index = from->configuration_index,
        .bufs = bufs,
        .n_bufs = 1};
    return snapshot;
}

static void snapshot_free(struct raft_snapshot *snapshot) {
    raft_configuration_close(&snapshot->configuration);
    raft_free(snapshot->bufs[0].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

static void configuration_note(
    kith_raft_io *io, const struct raft_configuration *configuration, uint64_t index) {
    raft_configuration_close(&io->snapshot_configuration);
    kith_raft_configuration_copy(configuration, &io->snapshot_configuration);
    io->snapshot_configuration_index = index;
}

static int io_load(struct raft_io *table, raft_term *term, raft_id *voted_for,
    struct raft_snapshot **snapshot, raft_index *start_index, struct raft_entry **entries,
    size_t *n_entries) {
    kith_raft_io *io = raft_io_of(table);
    const kith_raft_found *found = kith_raft_storage_found(io->options.storage);
    kith_err err;
    *snapshot = NULL;
    if (found->has_snapshot) {
        *snapshot = snapshot_make(&found->snapshot, &err);
        if (!*snapshot) return raft_io_fail(io, &err);
        configuration_note(io, &(*snapshot)->configuration, (*snapshot)->configuration_index);
    }
    int result = load_entries(found, entries);
    if (result != 0) {
        if (*snapshot) snapshot_free(*snapshot);
        return result;
    }
    *term = kith_raft_storage_term(io->options.storage);
    *voted_for = kith_raft_storage_vote(io->options.storage);
    *start_index = found->start_index;
    *n_entries = found->entry_count;
    io->append_index = found->start_index + found->entry_count;
    kith_raft_storage_found_free(io->options.storage);
    return 0;
}

/* --- entries --- */

static void write_free(io_write *write) {
    kith_buf_fini(&write->configuration);
    kith_free(write);
}

/* Tells the core that a write is done. While the raft is closing this may not be so: the core has no ear for it any more and
 * only frees what it holds (to hear of a failure it would cut its log, twice when two fail). */
static void write_finish(io_write *write) {
    kith_raft_io *io = write->io;
    if (write->append) {
        write->append->cb(write->append, 0);
    } else {
        struct raft_buffer *bufs = write->snapshot->bufs;
        bool unavailable = raft_io_raft(io)->state == RAFT_UNAVAILABLE;
        if (!unavailable)
            configuration_note(io, &write->snapshot->configuration, write->snapshot->configuration_index);
        write->put->cb(write->put, 0);
        if (unavailable) raft_free(bufs); /* which the core then forgets */
        if (!unavailable) kith_raft_guard_installed(raft_io_raft(io));
    }
    write_free(write);
}

static void write_done(kith_raft_write *base, kith_status status, const kith_err *err) {
    (void)err; /* the storage has logged it, and kith_raft_storage_health tells */
    io_write *write = (io_write *)(void *)base;
    kith_raft_io *io = write->io;
    if (status == KITH_OK || io->closing) {
        write_finish(write);
    } else {
        io->mute = true;
        write->next = io->failed;
        io->failed = write;
    }
    raft_io_held_deliver(io);
    raft_io_ran(io);
}

_Static_assert(offsetof(io_write, write) == 0, "write_done casts the write back");

void raft_io_disk_close(kith_raft_io *io) {
    while (io->failed) {
        io_write *write = io->failed;
        io->failed = write->next;
        write_finish(write);
    }
}

static io_write *write_create(kith_raft_io *io) {
    io_write *write = kith_alloc_zero(sizeof *write);
    write->io = io;
    write->write.done = write_done;
    kith_buf_init(&write->configuration);
    return write;
}

static int io_append(struct raft_io *table, struct raft_io_append *req, const struct raft_entry entries[],
    unsigned n, raft_io_append_cb cb) {
    kith_raft_io *io = raft_io_of(table);
    kith_raft_guard_forget_gone(&io->acknowledged, raft_io_raft(io)); /* the core has the new one by now */
    kith_raft_entry *own = kith_alloc_array(n, sizeof *own);
    for (unsigned i = 0; i < n; i++) {
        own[i] = (kith_raft_entry){.index = io->append_index + i,
            .term = entries[i].term,
            .type = (uint8_t)entries[i].type,
            .data = entries[i].buf.base,
            .bytes = entries[i].buf.len};
    }
    io->append_index += n;
    io_write *write = write_create(io);
    write->append = req;
    req->cb = cb;
    kith_raft_storage_append(io->options.storage, &write->write, own, n);
    kith_free(own);
    return 0;
}

static int io_truncate(struct raft_io *table, raft_index index) {
    kith_raft_io *io = raft_io_of(table);
    io->append_index = index;
    kith_raft_storage_truncate(io->options.storage, index);
    return 0;
}

/* --- snapshots --- */

/* `buf` gets the configuration's bytes and lives as long as the result. */
static kith_raft_snapshot snapshot_borrow(const struct raft_snapshot *snapshot, kith_buf *buf) {
    kith_assert(snapshot->n_bufs == 1);
    kith_raft_configuration_append(&snapshot->configuration, buf);
    return (kith_raft_snapshot){.index = snapshot->index,
        .term = snapshot->term,
        .configuration_index = snapshot->configuration_index,
        .configuration = buf->data + 4, /* behind its length */
        .configuration_bytes = buf->bytes - 4,
        .data = snapshot->bufs[0].base,
        .data_bytes = snapshot->bufs[0].len};
}

static void file_free(io_file *file) {
    kith_buf_fini(&file->configuration);
    kith_free(file);
}

static void put_done(kith_raft_file *base, kith_status status, const kith_err *err) {
    io_file *file = (io_file *)(void *)base;
    kith_raft_io *io = file->io;
    if (status == KITH_OK)
        configuration_note(io, &file->snapshot->configuration, file->snapshot->configuration_index);
    file->put->cb(file->put, status == KITH_OK ? 0 : raft_io_fail(io, err));
    file_free(file);
    raft_io_ran(io);
}

static void get_done(kith_raft_file *base, kith_status status, const kith_err *err) {
    io_file *file = (io_file *)(void *)base;
    kith_raft_io *io = file->io;
    struct raft_snapshot *snapshot = NULL;
    kith_err here;
    raft_io_snapshot_bytes_expect(io, status == KITH_OK ? base->snapshot.data_bytes : 0);
    if (status == KITH_OK) {
        snapshot = snapshot_make(&base->snapshot, &here);
        kith_raft_snapshot_fini(&base->snapshot);
        err = &here;
    }
    file->get->cb(file->get, snapshot, snapshot ? 0 : raft_io_fail(io, err));
    file_free(file);
    raft_io_ran(io);
}

_Static_assert(offsetof(io_file, file) == 0, "put_done and get_done cast the file back");

static io_file *file_create(kith_raft_io *io) {
    io_file *file = kith_alloc_zero(sizeof *file);
    file->io = io;
    kith_buf_init(&file->configuration);
    return file;
}

static void install(
    kith_raft_io *io, struct raft_io_snapshot_put *req, const struct raft_snapshot *snapshot) {
    io_write *write = write_create(io);
    write->put = req;
    write->snapshot = snapshot;
    write->own = snapshot_borrow(snapshot, &write->configuration);
    io->append_index = snapshot->index + 1;
    kith_raft_storage_install(io->options.storage, &write->write, &write->own);
}

static int io_snapshot_put(struct raft_io *table, unsigned trailing, struct raft_io_snapshot_put *req,
    const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb) {
    kith_raft_io *io = raft_io_of(table);
    req->cb = cb;
    if (trailing == 0) {
        install(io, req, snapshot);
        return 0;
    }
    io_file *file = file_create(io);
    file->put = req;
    file->snapshot = snapshot;
    file->file.done = put_done;
    file->file.trailing = trailing;
    file->file.snapshot = snapshot_borrow(snapshot, &file->configuration);
    kith_raft_storage_snapshot_write(io->options.storage, &file->file);
    return 0;
}

static int io_snapshot_get(
    struct raft_io *table, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb) {
    kith_raft_io *io = raft_io_of(table);
    io_file *file = file_create(io);
    file->get = req;
    req->cb = cb;
    file->file.done = get_done;
    /* The core's time runs while it is read. */
    raft_io_snapshot_bytes_expect(io, KITH_META_SNAPSHOT_BYTES_MAX);
    kith_raft_storage_snapshot_read(io->options.storage, &file->file);
    return 0;
}

void raft_io_disk_table(struct raft_io *table) {
    table->load = io_load;
    table->append = io_append;
    table->truncate = io_truncate;
    table->snapshot_put = io_snapshot_put;
    table->snapshot_get = io_snapshot_get;
}
