/* What libraft 0.15.0 gets wrong, and what is done about it before its core runs. Most of it was mended upstream in 0.16 and
 * 0.17, in the core itself; here its public struct is set right at the moments that matter. The core is built without its
 * assertions: where upstream names an assertion, this one would read through NULL.
 *
 * - A configuration that was not committed is rolled back to the entry before it, which may have gone into a snapshot by
 *   then (upstream: "membership: Ensure configuration rollback is possible"). kith_raft_guard_before does it in its place.
 * - A configuration found in the log at start is taken for committed (a note in start.c says so) and would stay in force
 *   when its entry is replaced. kith_raft_guard_started says that it is not.
 * - A snapshot takes along a configuration that is not committed. kith_raft_guard_snapshot_allowed.
 * - A member that has at a snapshot's index an entry of a later term, which no majority had, takes it for the snapshot's own
 *   ("have all entries") and answers that it has it; it stays behind until there is another snapshot. kith_raft_guard_before
 *   cuts that entry off.
 * - A member that is told to take over and cannot write the new term goes back to being a follower, whose leader's address,
 *   which shares its place with what candidates have, is then given free. (Found by kith_sim, cluster seed 563.)
 *   kith_raft_guard_term_failed.
 * - A member whose snapshot reaches beyond the entry that an append follows on refuses the append, for ever where the
 *   leader has seen it agree on that entry. (Found by kith_sim, cluster seed 1564.) kith_raft_guard_before takes what is in
 *   the snapshot out of the message.
 * - A configuration that was not committed is remembered over an install, which ends it: no snapshot and no change of
 *   membership would come about again. kith_raft_guard_installed.
 * - A follower refuses its vote while it has not given the leader up itself, which takes it its own random time, not the
 *   shortest one (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 4.2.3): a dead leader was followed when the
 *   last follower stood, and later still when that one's log was the shorter: 12 of 100 took over a second.
 *   kith_raft_guard_before has it forget a leader that is silent.
 * - A member votes for nobody while the newest configuration in its log does not have it as a voter. Who is asked is one in
 *   the log of the one that asks, and the majority may need it (Ongaro, section 4.2.2: the receiver's configuration has no
 *   say): a newcomer that was cut off at the moment it became a voter left a cluster of one, or one of three that it was to
 *   make whole again, without a leader for ever. kith_raft_guard_receive.
 * - A leader that hands over votes for the one that is to take over also when it has voted for another in that term: two
 *   leaders of one term. (Found by kith_sim, cluster seed 34712.) kith_raft_guard_before has the second one refused.
 * - A leader that has just seen a member acknowledge its snapshot believes a refusal that the acknowledgement has overtaken:
 *   it goes back behind the snapshot, sends it again, and as the answer brings nothing new waits for one until the time for
 *   an install is over, entries or not. (Found by kith_sim, cluster seed 633909.) kith_raft_guard_is_overtaken.
 *
 * Others are kept from happening by raft_io.c, which holds messages back while the disk is busy: candidates and votes with
 * entries that are not on disk, an append that fails, an install that meets an election ("tick: Don't convert to candidate
 * while a snapshot is installing", "Don't convert to candidate while entries are being persisted", "replication: Don't
 * commit entries from old terms by counting"), or mended in what is sent (raft_io_net.c: acknowledgements).
 *
 * Threads: that of the raft. */
#ifndef KITH_META_RAFT_GUARD_H
#define KITH_META_RAFT_GUARD_H

#include <stdint.h>

#include <raft.h>

#include "host/base/node_id.h"
#include "host/meta/raft_wire.h"

/* How far each member has acknowledged this leader's log, in this term. All zero: none has. */
typedef struct kith_raft_guard_acknowledged {
    uint64_t term;
    uint32_t count;
    struct {
        uint64_t id, index;
    } members[KITH_META_MEMBERS_MAX];
} kith_raft_guard_acknowledged;

/* 0 when the log has no entry there. */
uint64_t kith_raft_guard_term(const struct raft *raft, uint64_t index);
/* After raft_start. `snapshot_configuration_index`: of the newest snapshot's configuration. */
void kith_raft_guard_started(struct raft *raft, uint64_t snapshot_configuration_index);
/* Term or vote could not be written, and the core is about to be told. */
void kith_raft_guard_term_failed(struct raft *raft);
/* Before the core gets `message`, while no append is on its way to the disk. */
void kith_raft_guard_before(struct raft *raft, struct raft_message *message,
    const struct raft_configuration *snapshot_configuration, uint64_t snapshot_configuration_index);
/* Notes what `message` acknowledges. True: it is a refusal older than what its sender has acknowledged since, and the core
 * must not get it. */
bool kith_raft_guard_is_overtaken(
    kith_raft_guard_acknowledged *acknowledged, struct raft *raft, const struct raft_message *message);
/* The leader has a new configuration: who is not in it may come back with an empty disk. */
void kith_raft_guard_forget_gone(kith_raft_guard_acknowledged *acknowledged, const struct raft *raft);
/* The core gets `message`, after kith_raft_guard_before. */
void kith_raft_guard_receive(struct raft *raft, struct raft_message *message, raft_io_recv_cb recv);
/* The log of the one that asks is behind ours: it gets no vote (Ongaro and Ousterhout, 2014, section 5.4.1). */
bool kith_raft_guard_is_behind(const struct raft *raft, const struct raft_request_vote *asked);
/* After the core was told that its install is done. */
void kith_raft_guard_installed(struct raft *raft);
bool kith_raft_guard_snapshot_allowed(const struct raft *raft);
/* The configuration in force is committed. */
bool kith_raft_guard_configuration_committed(const struct raft *raft);
bool kith_raft_guard_is_member(const struct raft *raft, uint64_t id);

#endif
