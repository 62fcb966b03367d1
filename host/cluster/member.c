#include "host/cluster/member.h"

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/map.h"

typedef struct member {
    kith_node_id id;
    uint64_t started_wall_ms; /* of the process last heard; 0: none yet */
    uint64_t heard_ns;        /* silence is measured from here */
    uint64_t up_ns;           /* when it was last seen to be up in the metadata */
    uint64_t hold_ns;         /* wait after its last going down */
    uint64_t hold_due_ns;     /* it is over then */
    uint64_t register_due_ns; /* not registered before, after a refusal */
    uint64_t propose_due_ns;  /* nothing proposed before, after a failure */
    bool known;               /* to the metadata */
    bool down;
    kith_member_action_kind proposing; /* 0: nothing */
} member;

/* Nodes that only say that they are there, and are refused registration, need room too, but no more than real ones. */
#define MEMBERS_MAX (2 * KITH_NODES_MAX)

struct kith_members {
    uint64_t timeout_ns;
    bool leading;
    uint64_t tick_ns; /* the last one */
    uint32_t count;
    member *members;    /* [MEMBERS_MAX] */
    kith_map *index_of; /* id -> index */
};

kith_members *kith_members_create(uint64_t heartbeat_timeout_ns) {
    kith_members *members = kith_alloc_zero(sizeof *members);
    members->timeout_ns = heartbeat_timeout_ns;
    members->members = kith_alloc_zero(MEMBERS_MAX * sizeof *members->members);
    members->index_of = kith_map_create(64);
    return members;
}

void kith_members_destroy(kith_members *members) {
    if (!members) return;
    kith_map_destroy(members->index_of);
    kith_free(members->members);
    kith_free(members);
}

static member *member_find(const kith_members *members, const kith_node_id *id) {
    uint64_t index;
    if (!kith_map_get(members->index_of, id->bytes, sizeof id->bytes, &index)) return NULL;
    return &members->members[index];
}

/* NULL when there is no room. */
static member *member_make(kith_members *members, const kith_node_id *id, uint64_t now_ns) {
    member *found = member_find(members, id);
    if (found) return found;
    if (members->count == MEMBERS_MAX) return NULL;
    uint32_t index = members->count++;
    kith_map_put(members->index_of, id->bytes, sizeof id->bytes, index);
    members->members[index] = (member){.id = *id, .heard_ns = now_ns, .up_ns = now_ns};
    return &members->members[index];
}

static void member_forget(kith_members *members, member *gone) {
    (void)kith_map_remove(members->index_of, gone->id.bytes, sizeof gone->id.bytes);
    member *last = &members->members[--members->count];
    if (last == gone) return;
    *gone = *last;
    uint64_t index = (uint64_t)(gone - members->members);
    kith_map_put(members->index_of, gone->id.bytes, sizeof gone->id.bytes, index);
}

/* --- deciding --- */

static void propose(member *about, kith_member_action_kind kind, kith_member_actions *actions) {
    kith_assert(actions->count < KITH_NODES_MAX);
    about->proposing = kind;
    actions->actions[actions->count++] = (kith_member_action){.kind = kind, .id = about->id};
}

static bool may_propose(const member *about, uint64_t now_ns) {
    return !about->proposing && now_ns >= about->propose_due_ns;
}

static bool is_stale(
    const kith_members *members, const member *from, uint64_t started_wall_ms, uint64_t now_ns) {
    return started_wall_ms < from->started_wall_ms && now_ns - from->heard_ns < members->timeout_ns;
}

static void heartbeat(
    kith_members *members, const kith_member_event *event, uint64_t now_ns, kith_member_actions *actions) {
    member *from =
        members->leading ? member_make(members, &event->id, now_ns) : member_find(members, &event->id);
    if (!from || is_stale(members, from, event->started_wall_ms, now_ns)) return;
    from->started_wall_ms = event->started_wall_ms;
    from->heard_ns = now_ns;
    if (!members->leading) return;
    bool wrong = !from->known || from->down || event->differs;
    bool held = now_ns < from->hold_due_ns && !event->needed;
    if (wrong && !held && may_propose(from, now_ns) && now_ns >= from->register_due_ns)
        propose(from, KITH_MEMBER_REGISTER, actions);
}

/* It went down: how long until it may be up again depends on how long it was up. */
static void went_down(const kith_members *members, member *about, uint64_t now_ns) {
    uint64_t steady_ns = KITH_MEMBER_STEADY_TIMEOUTS * members->timeout_ns;
    uint64_t hold_max_ns = KITH_MEMBER_HOLD_TIMEOUTS_MAX * members->timeout_ns;
    bool was_steady = now_ns - about->up_ns >= steady_ns;
    uint64_t hold_ns = about->hold_ns ? 2 * about->hold_ns : members->timeout_ns;
    if (hold_ns > hold_max_ns) hold_ns = hold_max_ns;
    about->hold_ns = was_steady ? 0 : hold_ns;
    about->hold_due_ns = now_ns + about->hold_ns;
}

static void known(kith_members *members, const kith_member_event *event, uint64_t now_ns) {
    member *about = member_make(members, &event->id, now_ns);
    if (!about) return; /* cannot be: the metadata hold KITH_NODES_MAX, and strangers are forgotten before */
    if (event->down && about->known && !about->down) went_down(members, about, now_ns);
    if (!event->down && (!about->known || about->down)) about->up_ns = now_ns;
    about->known = true;
    about->down = event->down;
}

static void removed(kith_members *members, const kith_member_event *event) {
    member *gone = member_find(members, &event->id);
    if (gone) member_forget(members, gone);
}

static void proposed(kith_members *members, const kith_member_event *event, uint64_t now_ns) {
    member *about = member_find(members, &event->id);
    if (!about) return;
    if (event->refused && about->proposing == KITH_MEMBER_REGISTER)
        about->register_due_ns = now_ns + KITH_MEMBER_REFUSED_TIMEOUTS * members->timeout_ns;
    if (event->failed || event->refused) about->propose_due_ns = now_ns + members->timeout_ns / 4;
    about->proposing = 0;
}

/* --- leading --- */

/* Silence while this coordinator itself stood still is nobody's fault. */
static void forgive_stall(kith_members *members, uint64_t now_ns) {
    uint64_t gap_ns = now_ns - members->tick_ns;
    members->tick_ns = now_ns;
    if (gap_ns < members->timeout_ns / 2) return;
    for (uint32_t i = 0; i < members->count; i++) {
        uint64_t heard_ns = members->members[i].heard_ns + gap_ns;
        members->members[i].heard_ns = heard_ns < now_ns ? heard_ns : now_ns;
    }
}

static bool hears_most(const kith_members *members, uint64_t now_ns) {
    uint32_t up = 0, heard = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const member *about = &members->members[i];
        if (!about->known || about->down) continue;
        up++;
        heard += about->started_wall_ms > 0 && now_ns - about->heard_ns < members->timeout_ns;
    }
    return 2 * heard >= up;
}

static void leading(kith_members *members, uint64_t now_ns) {
    forgive_stall(members, now_ns);
    uint64_t credit_ns = hears_most(members, now_ns) ? members->timeout_ns / 2 : 0;
    members->leading = true;
    for (uint32_t i = 0; i < members->count; i++) {
        member *about = &members->members[i];
        if (now_ns - about->heard_ns > credit_ns) about->heard_ns = now_ns - credit_ns;
        about->propose_due_ns = 0;
        about->proposing = 0;
    }
}

static void tick(kith_members *members, uint64_t now_ns, kith_member_actions *actions) {
    forgive_stall(members, now_ns);
    if (!members->leading) return;
    for (uint32_t i = members->count; i-- > 0;) { /* backwards: forgetting one puts the last in its place */
        member *about = &members->members[i];
        if (now_ns - about->heard_ns < members->timeout_ns) continue;
        if (!about->known && !about->proposing) {
            member_forget(members, about);
        } else if (about->known && !about->down && may_propose(about, now_ns)) {
            propose(about, KITH_MEMBER_DOWN, actions);
        }
    }
}

void kith_members_step(kith_members *members, const kith_member_event *event, uint64_t now_ns,
    kith_member_actions *actions_out) {
    actions_out->count = 0;
    switch (event->kind) {
    case KITH_MEMBER_LEADING:
        leading(members, now_ns);
        break;
    case KITH_MEMBER_FOLLOWING:
        members->leading = false;
        break;
    case KITH_MEMBER_HEARTBEAT:
        heartbeat(members, event, now_ns, actions_out);
        break;
    case KITH_MEMBER_KNOWN:
        known(members, event, now_ns);
        break;
    case KITH_MEMBER_REMOVED:
        removed(members, event);
        break;
    case KITH_MEMBER_PROPOSED:
        proposed(members, event, now_ns);
        break;
    case KITH_MEMBER_TICK:
        tick(members, now_ns, actions_out);
        break;
    }
}

uint64_t kith_members_silent_ns(const kith_members *members, const kith_node_id *id, uint64_t now_ns) {
    const member *about = members->leading ? member_find(members, id) : NULL;
    return about ? now_ns - about->heard_ns : UINT64_MAX;
}
