/* Which replicas of this node are not in sync and come no nearer to it: the coordinators give up one that does not for long, and choose
 * another node for it.
 *
 * Nearer means that more is applied, or that a copy has more bytes than any attempt before. One that waits for its turn to be copied, here
 * or at its source, and one whose primary is silent, are not to blame. */
#include "host/replica/replica_internal.h"

#define SILENT_NS (10000 * MS_NS) /* a guess: idle primaries are heard several times a second */

void replica_heard(replica *own, uint64_t now_ns) {
    if (own->nearer_ns && now_ns - own->heard_ns >= SILENT_NS) own->nearer_ns = now_ns;
    own->heard_ns = now_ns;
}

void replica_copied(replica *own, uint64_t bytes) {
    if (bytes <= own->nearer_copy_bytes) return;
    own->nearer_copy_bytes = bytes;
    own->nearer_ns = replica_now_ns(own->set);
}

void replica_awaits_turn(replica *own) {
    if (own->nearer_ns) own->nearer_ns = replica_now_ns(own->set);
}

void replica_nearer_look(replica *own, const kith_replica_status *status, uint64_t now_ns) {
    bool behind = status->role == KITH_REPLICA_FOLLOWER && !status->in_sync;
    if (!behind) {
        own->nearer_ns = own->nearer_applied = own->nearer_copy_bytes = 0;
    } else if (own->nearer_ns == 0 || own->applied > own->nearer_applied) {
        own->nearer_ns = now_ns;
        own->nearer_applied = own->applied;
    } else if (own->install_turn) {
        uint64_t without_ns = own->nearer_ns + (now_ns - own->nearer_look_ns);
        own->nearer_ns = without_ns < now_ns ? without_ns : now_ns;
    }
    own->nearer_look_ns = now_ns;
}

static bool is_stalled(const replica_shown *shown, uint64_t now_ns, uint64_t least_ns) {
    if (shown->nearer_ns == 0 || now_ns - shown->heard_ns >= SILENT_NS) return false;
    return now_ns - shown->nearer_ns >= least_ns;
}

uint32_t kith_replica_set_stalled(
    kith_replica_set *set, uint64_t least_ns, uint32_t most, kith_replica_stalled *stalled_out) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t found, now_ns = replica_now_ns(set);
    uint32_t count = 0;
    kith_mutex_lock(&set->mutex);
    while (count < most && kith_map_next(set->by_id, &cursor, &key, &key_bytes, &found)) {
        const replica *own = (const replica *)(uintptr_t)found;
        if (!is_stalled(&own->shown, now_ns, least_ns)) continue;
        stalled_out[count++] =
            (kith_replica_stalled){.shard_id = own->shard_id, .for_ns = now_ns - own->shown.nearer_ns};
    }
    kith_mutex_unlock(&set->mutex);
    return count;
}
