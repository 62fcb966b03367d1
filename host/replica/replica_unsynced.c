/* Shards whose collection has `durability` async: their replicas acknowledge what they have received, and their disks follow.
 *
 * The log syncs as it always does, one frame after the other; only nobody waits for it. So what a process that stops without warning may have
 * acknowledged and lost is the end of its log, a group commit or two. Which replicas that may be true of is on a list, the file `unsynced` in the
 * node's folder: a replica is on it, durably, before it acknowledges anything early, and the list is emptied by a stop in good order, once the log has
 * everything. A process that finds replicas on the list holds them in doubt: they leave the in-sync set, and follow again
 * (kith_replica_log.may_lack_tail). A list that cannot be read says so of every replica.
 *
 * Format, version 1, little-endian: "KITHUNSY" | u32 version=1 | u32 count | count times: u64 shard id, u64 loss epoch | u32 crc32c of all before it. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

#define UNSYNCED_VERSION 1u
#define HEAD_BYTES       16u
#define ITEM_BYTES       16u
#define CRC_BYTES        4u
#define PATH_BYTES_MAX   4096u

static const char list_magic[8] = {'K', 'I', 'T', 'H', 'U', 'N', 'S', 'Y'};

/* --- the file --- */

static kith_status list_decode(kith_replica_set *set, const uint8_t *bytes, uint64_t count, kith_err *err) {
    if (count < HEAD_BYTES + CRC_BYTES || memcmp(bytes, list_magic, sizeof list_magic) != 0)
        return kith_err_set(err, KITH_CORRUPT, "it does not begin with KITHUNSY");
    if (kith_load_u32(bytes + count - CRC_BYTES) != kith_crc32c(0, bytes, count - CRC_BYTES))
        return kith_err_set(err, KITH_CORRUPT, "its checksum does not match");
    uint64_t items = kith_load_u32(bytes + 12);
    if (kith_load_u32(bytes + 8) != UNSYNCED_VERSION || count != HEAD_BYTES + items * ITEM_BYTES + CRC_BYTES)
        return kith_err_set(err, KITH_CORRUPT, "its version is not 1, or its length not that of its count");
    set->unsynced = kith_alloc_array(items + 1, sizeof *set->unsynced);
    set->unsynced_count = (uint32_t)items;
    for (uint64_t i = 0; i < items; i++) {
        const uint8_t *item = bytes + HEAD_BYTES + i * ITEM_BYTES;
        set->unsynced[i] =
            (replica_unsynced){.shard_id = kith_load_u64(item), .loss_epoch = kith_load_u64(item + 8)};
    }
    return KITH_OK;
}

static kith_status file_read(kith_replica_set *set, kith_file *file, kith_err *err) {
    uint64_t bytes;
    size_t got = 0;
    kith_status status = kith_file_bytes(file, &bytes, err);
    if (status != KITH_OK) return status;
    if (bytes > HEAD_BYTES + (uint64_t)KITH_CLUSTER_SHARDS_MAX * ITEM_BYTES + CRC_BYTES)
        return kith_err_set(err, KITH_CORRUPT, "it is longer than any list");
    uint8_t *image = kith_alloc(bytes + 1);
    status = kith_file_read_at(file, 0, image, bytes, &got, err);
    if (status == KITH_OK) status = list_decode(set, image, got, err);
    kith_free(image);
    return status;
}

void replica_unsynced_read(kith_replica_set *set) {
    char path[PATH_BYTES_MAX];
    kith_err err;
    kith_file *file;
    if (!set->dir) return;
    snprintf(path, sizeof path, "%s/unsynced", set->dir);
    kith_status status = kith_file_open(set->env, path, KITH_FILE_READ, &file, &err);
    if (status == KITH_NOT_FOUND) return;
    if (status == KITH_OK) {
        status = file_read(set, file, &err);
        kith_file_close(file);
    }
    if (status == KITH_OK) return;
    set->unsynced_unknown = true;
    kith_log_warn("unsynced_list_unreadable", kith_kv_text("path", path), kith_kv_text("error", err.text));
}

static void item_encode(kith_buf *buf, uint64_t shard_id, uint64_t loss_epoch) {
    kith_buf_u64(buf, shard_id);
    kith_buf_u64(buf, loss_epoch);
}

static replica_unsynced *item_find(const kith_replica_set *set, uint64_t shard_id) {
    for (uint32_t i = 0; i < set->unsynced_count; i++) {
        if (set->unsynced[i].shard_id == shard_id) return &set->unsynced[i];
    }
    return NULL;
}

static bool is_to_list(const replica *own) {
    return !own->let_go && (own->is_listed || own->is_async) && !item_find(own->set, own->shard_id);
}

/* Those in doubt, and with them, unless the process ends, those that acknowledge early. */
static void list_encode(const kith_replica_set *set, bool ends, kith_buf *buf) {
    uint32_t count = set->unsynced_count;
    kith_buf_append(buf, list_magic, sizeof list_magic);
    kith_buf_u32(buf, UNSYNCED_VERSION);
    kith_buf_u32(buf, 0);
    for (uint32_t i = 0; i < set->unsynced_count; i++)
        item_encode(buf, set->unsynced[i].shard_id, set->unsynced[i].loss_epoch);
    for (const replica *own = set->replicas; own && !ends; own = own->next) {
        if (!is_to_list(own)) continue;
        item_encode(buf, own->shard_id, own->config.loss_epoch);
        count++;
    }
    kith_store_u32(buf->data + 12, count);
    kith_buf_u32(buf, kith_crc32c(0, buf->data, buf->bytes));
}

static bool list_write(const kith_replica_set *set, bool ends) {
    kith_buf list;
    kith_err err;
    kith_buf_init(&list);
    list_encode(set, ends, &list);
    kith_status status =
        kith_file_replace(set->env, set->dir, "unsynced", &(kith_file_part){list.data, list.bytes}, 1, &err);
    kith_buf_fini(&list);
    if (status == KITH_OK) return true;
    kith_log_warn("unsynced_list_not_written", kith_kv_text("error", err.text));
    return false;
}

/* --- who is on it --- */

static void item_add(kith_replica_set *set, const replica *own) {
    set->unsynced = kith_realloc(set->unsynced, (set->unsynced_count + 1) * sizeof *set->unsynced);
    set->unsynced[set->unsynced_count++] =
        (replica_unsynced){.shard_id = own->shard_id, .loss_epoch = own->config.loss_epoch};
}

bool replica_unsynced_find(replica *own, uint64_t *loss_epoch_out) {
    kith_replica_set *set = own->set;
    if (set->unsynced_unknown && !item_find(set, own->shard_id)) item_add(set, own);
    const replica_unsynced *item = item_find(set, own->shard_id);
    if (item) *loss_epoch_out = item->loss_epoch;
    return item != NULL;
}

static void item_remove(kith_replica_set *set, uint64_t shard_id) {
    replica_unsynced *item = item_find(set, shard_id);
    if (item) *item = set->unsynced[--set->unsynced_count];
}

/* Taken away, its data are erased; given again, it begins empty. */
void replica_unsynced_gone(kith_replica_set *set, bool (*is_here)(void *ctx, uint64_t shard_id), void *ctx) {
    for (uint32_t i = set->unsynced_count; i-- > 0;) {
        if (!is_here(ctx, set->unsynced[i].shard_id)) set->unsynced[i] = set->unsynced[--set->unsynced_count];
    }
}

static bool is_listed_right(const replica *own) {
    return own->is_listed && own->listed_loss_epoch == own->config.loss_epoch;
}

/* Once on it, a replica stays there until the process ends: when its disk has caught up with the last write that was acknowledged early is not
 * followed. Where the list could not be read it is not written either: replicas may still begin that were on it. */
void replica_unsynced_look(kith_replica_set *set) {
    bool is_news = false;
    for (const replica *own = set->replicas; own; own = own->next)
        is_news |= own->is_async && is_to_list(own) && !is_listed_right(own);
    if (!is_news || !set->dir || set->unsynced_unknown || !list_write(set, false)) return;
    for (replica *own = set->replicas; own; own = own->next) {
        if (!is_to_list(own)) continue;
        own->is_listed = true;
        own->listed_loss_epoch = own->config.loss_epoch;
    }
}

bool replica_acknowledges_early(const replica *own) {
    return own->is_async && is_listed_right(own) && own->shard && kith_shard_log_takes(own->shard);
}

void replica_mended(replica *own) {
    own->is_broken = own->is_in_doubt = false;
    item_remove(own->set, own->shard_id);
}

void replica_doubt_look(replica *own) {
    kith_replica_status status;
    if (!own->is_in_doubt) return;
    kith_replica_step_status(own->step, replica_now_ns(own->set), &status);
    if (status.may_lack_tail) return;
    kith_log_info("replica_doubt_ends", kith_kv_u64("shard", own->shard_id),
        kith_kv_u64("epoch", status.epoch), kith_kv_u64("sequence", status.end.sequence));
    replica_mended(own);
}

void replica_unsynced_end(kith_replica_set *set) {
    bool is_whole = set->stopped && !atomic_load(&set->options.node->closed_short);
    bool any = set->unsynced_unknown;
    for (const replica *own = set->replicas; own; own = own->next)
        any |= own->is_listed;
    if (set->dir && any && is_whole) (void)list_write(set, true);
    kith_free(set->unsynced);
    kith_free(set->dir);
}
