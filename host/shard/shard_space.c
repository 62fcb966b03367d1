/* Room on the disk for copies of shards, given out or installed. */
#include "host/shard/shard_internal.h"

static kith_status space_check(
    kith_shard_node *node, uint64_t shard_id, uint64_t bytes, bool is_given, kith_err *err) {
    uint64_t free_bytes, left_bytes = node->disk_reserve_bytes;
    kith_status status = kith_env_free_bytes(node->env, node->segment_dir, &free_bytes, err);
    if (status != KITH_OK) return status;
    if (is_given && free_bytes < left_bytes) left_bytes /= 2;
    if (free_bytes >= left_bytes && free_bytes - left_bytes >= bytes) return KITH_OK;
    return kith_err_set(err, KITH_NO_SPACE,
        "a copy of shard %llu needs %llu bytes more in %s; %llu are free, %llu stay in reserve",
        (unsigned long long)shard_id, (unsigned long long)bytes, node->segment_dir,
        (unsigned long long)free_bytes, (unsigned long long)left_bytes);
}

kith_status shard_space_check_install(
    kith_shard_node *node, uint64_t shard_id, uint64_t bytes, kith_err *err) {
    return space_check(node, shard_id, bytes, false, err);
}

kith_status shard_space_check_give(kith_shard_node *node, uint64_t shard_id, uint64_t bytes, kith_err *err) {
    return space_check(node, shard_id, bytes, true, err);
}
