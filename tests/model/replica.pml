/* The replication protocol of host/replica/replica_step.h, small enough to look at every state: 3 replicas, 2 writes, 3 epochs, 4 places
 * in a log, one crash. tests/model/run.sh has spin search it, and find what is wrong with each of these switches on:
 *   ACK_BEFORE_ISR       one follower's acknowledgement commits, not the whole in-sync set (ISR)
 *   PROMOTE_LAGGARD      the metadata promote a replica that is not in sync
 *   NO_EPOCH_CHECK       followers take appends of older epochs
 *   NEW_ISR_ALONE        a proposed ISR counts alone before it is known to be accepted
 *   LEAD_IN_FOUND_EPOCH  a process that comes back leads in the epoch that it finds
 *   FORGET_OWN_EPOCH     a primary that comes back has lost the map by which it led, and the entry that begins its epoch, but others
 *                        may have that entry, and have cut off for it what they acknowledged to the primary before
 *   COMMIT_BELOW_START   a new primary commits entries before the one that begins its epoch (needs 5 epochs: 2 places, 1 write)
 *
 * One process takes every step, each is atomic, and any order of them is looked at. So a message that is lost or late is a step
 * that is not taken, or taken later. What that makes simpler, and why nothing is missed by it:
 *   - An append and its acknowledgement are one step. One that comes later lets the primary commit later, and a commit is a step of
 *     its own.
 *   - An append brings the one entry behind what is known to be equal, and all before it where they differ. Longer ones are several.
 *   - A map comes as it is now. One that comes late is one that came in time to a replica that did nothing by it.
 *   - Anyone may be suspected at any time, so no failure detector is modelled.
 * Left out: leases (they matter to reads alone), snapshots, broken disks, and replicas that are added or dropped. */
#define N 3
#ifndef SLOTS
#define SLOTS 4
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef WRITES
#define WRITES 2
#endif

/* An entry: the epoch of its primary, by which replicas compare entries of one sequence, and which write it is, by which the model
 * does (0: it begins an epoch). Sequences begin at 0. The entry that begins epoch 1 is everywhere, and left out. */
#define ENTRY(epoch, write) ((epoch) * 4 + (write))
#define EPOCH_OF(entry) ((entry) / 4)
#define AT(i, sequence) log[(i) * SLOTS + (sequence)]
#define MATCHED(p, f) matched[(p) * N + (f)]
#define BIT(i) (1 << (i))
#define TAKEN 8 /* in an offer: the metadata took it */

#ifdef ACK_BEFORE_ISR
#define WAITS_FOR(p, f) false
#elif defined(NEW_ISR_ALONE)
#define WAITS_FOR(p, f) ((offer[p] != 0 -> offer[p] : isr[p]) & BIT(f))
#else
#define WAITS_FOR(p, f) ((isr[p] | offer[p]) & BIT(f))
#endif
#ifdef PROMOTE_LAGGARD
#define MAY_LEAD(i) true
#else
#define MAY_LEAD(i) (reg_isr & BIT(i))
#endif
#ifdef NO_EPOCH_CHECK
#define TAKES(f, p) true
#else
#define TAKES(f, p) (epoch[p] >= known[f])
#endif
#define EPOCH_OF_LAST(i) (length[i] > 0 -> EPOCH_OF(AT(i, length[i] - 1)) : 1)
#ifdef FORGET_OWN_EPOCH
#define REMEMBERED(i) EPOCH_OF_LAST(i)
#else
#define REMEMBERED(i) (epoch[i] != 0 -> epoch[i] : EPOCH_OF_LAST(i))
#endif

#ifdef COMMIT_BELOW_START
#define COMMIT_MIN(p) 0
#else
#define COMMIT_MIN(p) start[p]
#endif

/* The metadata: one register. */
byte reg_epoch = 1, reg_primary = 0, reg_isr = 7;

/* Replicas. What only a primary has is 0 elsewhere, so that equal states are one. */
byte known[N] = 1;    /* the highest epoch heard of */
byte log[12];         /* [N][SLOTS] */
byte length[N];
byte restarted;       /* bits: came back, and has had no epoch of its own since */
byte epoch[N];        /* in which it leads; 0: it does not */
byte isr[N];          /* of that epoch */
byte offer[N];        /* the ISR that it proposed; 0: none */
byte start[N];        /* what it must commit at least: its epoch-start entry */
byte committed[N];    /* as it knows */
byte matched[9];      /* [N][N] entries that the follower is known to have */

byte writes, crashes; /* that there were */
byte chosen[SLOTS];   /* what was ever committed */

hidden byte j, count;

inline depose(i) {
    epoch[i] = 0; isr[i] = 0; offer[i] = 0; start[i] = 0; committed[i] = 0;
    MATCHED(i, 0) = 0; MATCHED(i, 1) = 0; MATCHED(i, 2) = 0
}

/* The property: a primary has all that is committed, from the moment it begins. */
inline judge(i, until) {
    j = 0;
    do
    :: j < until ->
        assert(chosen[j] == 0 || (j < length[i] && AT(i, j) == chosen[j]));
        j++
    :: else -> break
    od
}

inline begin(i) {
    judge(i, SLOTS);
    depose(i);
    known[i] = reg_epoch; epoch[i] = reg_epoch; isr[i] = reg_isr;
    AT(i, length[i]) = ENTRY(reg_epoch, 0);
    length[i]++;
    start[i] = length[i]
}

#define IS_NEWS(i) (epoch[i] != reg_epoch && known[i] < reg_epoch)
#define IS_OWN_CHANGE(i) (epoch[i] != 0 && reg_epoch == epoch[i] + 1)

/* The map comes to one that goes on leading, or to one that does not lead. */
inline learn(i) {
    if
    :: reg_primary == i && IS_OWN_CHANGE(i) -> epoch[i] = reg_epoch; isr[i] = reg_isr; offer[i] = 0
    :: else -> depose(i)
    fi;
    known[i] = reg_epoch
}

inline append(p, f) {
    if
    :: epoch[p] > known[f] -> known[f] = epoch[p]; depose(f)
    :: else
    fi;
    count = (MATCHED(p, f) < length[p] -> MATCHED(p, f) + 1 : length[p]);
    j = 0;
    do
    :: j < count && (j >= length[f] || EPOCH_OF(AT(f, j)) != EPOCH_OF(AT(p, j))) -> AT(f, j) = AT(p, j); length[f] = j + 1; j++
    :: j < count && j < length[f] && EPOCH_OF(AT(f, j)) == EPOCH_OF(AT(p, j)) -> j++
    :: else -> break
    od;
    wipe(f);
    MATCHED(p, f) = count
}

inline wipe(i) { /* what is behind the end, so that equal states are one */
    j = length[i];
    do
    :: j < SLOTS -> AT(i, j) = 0; j++
    :: else -> break
    od
}

inline wait_for(p, f) {
    if
    :: p != f && WAITS_FOR(p, f) && MATCHED(p, f) < count -> count = MATCHED(p, f)
    :: else
    fi
}

inline acked_by_one(p, f) {
    if
    :: p != f && MATCHED(p, f) > count -> count = MATCHED(p, f)
    :: else
    fi
}

/* How many entries of p's log may be committed. */
inline count_acked(p) {
#ifdef ACK_BEFORE_ISR
    count = 0;
    acked_by_one(p, 0); acked_by_one(p, 1); acked_by_one(p, 2)
#else
    count = length[p];
    wait_for(p, 0); wait_for(p, 1); wait_for(p, 2)
#endif
}

/* Of a later one what p commits: it may itself be one of the past, and lack what was committed after it. */
inline judge_later(p, i) {
    if
    :: epoch[i] > epoch[p] -> judge(i, count)
    :: else
    fi
}

inline commit(p) {
    count_acked(p);
    if
    :: count > committed[p] && count >= COMMIT_MIN(p) ->
        j = 0;
        do
        :: j < count ->
            assert(chosen[j] == 0 || chosen[j] == AT(p, j)); /* one entry at one sequence, for ever */
            chosen[j] = AT(p, j);
            j++
        :: else -> break
        od;
        committed[p] = count;
        judge_later(p, 0); judge_later(p, 1); judge_later(p, 2)
    :: else
    fi
}

/* A process ends and comes back. A primary sends entries before they are durable at home: it may have lost those that it neither had
 * before it led nor committed, the one that begins its epoch too. Of epochs it knows what its log tells, and by which it led:
 * that map was kept before it was gone by (meta_client.c). */
inline crash(i) {
    crashes++;
    restarted = restarted | BIT(i);
    wipe(i);
    known[i] = REMEMBERED(i);
    depose(i)
}

#define SERVES(p) (epoch[p] != 0 && committed[p] >= start[p])
#define MAY_PROPOSE(p) (epoch[p] != 0 && offer[p] == 0)
#define DURABLE(i) (committed[i] >= start[i] -> committed[i] : start[i] - 1)

#define STEPS_OF_PAIR(p, f) \
    :: d_step { epoch[p] != 0 && TAKES(f, p) -> append(p, f) } \
    /* One leaves the ISR, or enters it with all that is committed; one change at a time. */ \
    :: d_step { MAY_PROPOSE(p) && (isr[p] & BIT(f)) -> offer[p] = isr[p] & (7 - BIT(f)) } \
    :: d_step { MAY_PROPOSE(p) && !(isr[p] & BIT(f)) && SERVES(p) && MATCHED(p, f) >= committed[p] -> offer[p] = isr[p] | BIT(f) }

#ifdef LEAD_IN_FOUND_EPOCH
#define BEGINS(i) (reg_primary == i && epoch[i] != reg_epoch && length[i] < SLOTS && !IS_OWN_CHANGE(i))
#else
#define BEGINS(i) (reg_primary == i && IS_NEWS(i) && length[i] < SLOTS && !IS_OWN_CHANGE(i) && !(restarted & BIT(i)))
#endif

#define STEPS_OF_ONE(i) \
    :: d_step { IS_NEWS(i) && !BEGINS(i) -> learn(i) } \
    :: d_step { BEGINS(i) -> begin(i) } \
    /* One that came back asks for an epoch of its own. */ \
    :: d_step { reg_primary == i && (restarted & BIT(i)) && reg_epoch < EPOCHS && length[i] < SLOTS -> \
        reg_epoch++; restarted = restarted & (7 - BIT(i)); begin(i) } \
    :: d_step { SERVES(i) && writes < WRITES && length[i] < SLOTS -> \
        writes++; AT(i, length[i]) = ENTRY(epoch[i], writes); length[i]++ } \
    :: d_step { epoch[i] != 0 -> commit(i) } \
    /* The metadata take a proposal, or its primary hears that they did not. */ \
    :: d_step { offer[i] != 0 && epoch[i] == reg_epoch && reg_epoch < EPOCHS -> \
        reg_epoch++; reg_isr = offer[i]; offer[i] = offer[i] | TAKEN } \
    :: d_step { offer[i] != 0 && epoch[i] != reg_epoch && !(offer[i] & TAKEN) -> offer[i] = 0 } \
    /* A coordinator chooses another primary. */ \
    :: d_step { reg_epoch < EPOCHS && reg_primary != i && MAY_LEAD(i) -> \
        reg_epoch++; reg_primary = i; reg_isr = reg_isr | BIT(i) } \
    :: d_step { crashes == 0 -> crash(i) } \
    :: d_step { crashes == 0 && epoch[i] != 0 && length[i] > DURABLE(i) -> length[i] = DURABLE(i); crash(i) }

active proctype world() {
    d_step { epoch[0] = 1; isr[0] = 7 }
end:
    do
    STEPS_OF_ONE(0)
    STEPS_OF_ONE(1)
    STEPS_OF_ONE(2)
    STEPS_OF_PAIR(0, 1)
    STEPS_OF_PAIR(0, 2)
    STEPS_OF_PAIR(1, 0)
    STEPS_OF_PAIR(1, 2)
    STEPS_OF_PAIR(2, 0)
    STEPS_OF_PAIR(2, 1)
    od
}
