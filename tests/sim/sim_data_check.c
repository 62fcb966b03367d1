#include "tests/sim/sim_data_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define WORDS      8u
#define OPS_MAX    (WORDS * 64u) /* of one point */
#define STATES_MAX 8000u         /* looked at for one point */
#define TABLE_MAX  16384u        /* more than twice as many slots */
#define FOR_EVER   UINT64_MAX
#define TEXT_BYTES 480u

_Static_assert(TABLE_MAX > 2 * STATES_MAX, "the table of states is at most half full");
_Static_assert(TABLE_MAX <= UINT16_MAX, "slots and states have short numbers");

typedef struct write_record {
    uint32_t collection, count;
    uint32_t *points; /* [count] */
    uint64_t value;
    uint64_t begin_ns;
    uint64_t end_ns; /* of the answer that it is done; FOR_EVER: there was none */
    bool refused;
} write_record;

typedef struct token_record {
    uint32_t write;
    uint64_t shard_id, epoch, sequence;
    uint64_t begin_ns, end_ns; /* of its write; when it was first told */
} token_record;

struct sim_data_check {
    uint32_t collection_count, point_count;
    write_record *writes; /* number 1 is the first */
    uint32_t write_count, write_capacity;
    sim_data_seen *seens;
    uint32_t seen_count, seen_capacity;
    token_record *tokens;
    uint32_t token_count, token_capacity;
    uint64_t done_count, undecided_count;
    char violation[TEXT_BYTES];
};

static void __attribute__((format(printf, 2, 3))) blame(sim_data_check *check, const char *format, ...) {
    if (check->violation[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->violation, sizeof check->violation, format, arguments);
    va_end(arguments);
}

static void *grown(void *items, uint32_t count, uint32_t *capacity, size_t bytes) {
    if (count < *capacity) return items;
    *capacity = *capacity ? 2 * *capacity : 64;
    return kith_realloc(items, *capacity * bytes);
}

sim_data_check *sim_data_check_create(uint32_t collection_count, uint32_t point_count) {
    sim_data_check *check = kith_alloc_zero(sizeof *check);
    check->collection_count = collection_count;
    check->point_count = point_count;
    return check;
}

void sim_data_check_destroy(sim_data_check *check) {
    if (!check) return;
    for (uint32_t i = 0; i < check->write_count; i++)
        kith_free(check->writes[i].points);
    kith_free(check->writes);
    kith_free(check->seens);
    kith_free(check->tokens);
    kith_free(check);
}

/* --- what it is told --- */

uint32_t sim_data_check_write_begin(sim_data_check *check, uint32_t collection, const uint32_t *points,
    uint32_t count, uint64_t value, uint64_t now_ns) {
    check->writes = grown(check->writes, check->write_count, &check->write_capacity, sizeof *check->writes);
    write_record *write = &check->writes[check->write_count++];
    *write = (write_record){
        .collection = collection, .count = count, .value = value, .begin_ns = now_ns, .end_ns = FOR_EVER};
    write->points = kith_alloc_array(count, sizeof *write->points);
    memcpy(write->points, points, count * sizeof *points);
    return check->write_count;
}

void sim_data_check_write_end(
    sim_data_check *check, uint32_t write, sim_data_outcome outcome, uint64_t now_ns) {
    write_record *record = &check->writes[write - 1];
    record->refused = outcome == SIM_DATA_REFUSED;
    if (outcome != SIM_DATA_DONE) return;
    record->end_ns = now_ns;
    check->done_count++;
}

static void token_compare(sim_data_check *check, const token_record *old, const token_record *one) {
    bool before = old->end_ns < one->begin_ns && old->sequence >= one->sequence;
    bool behind = one->end_ns < old->begin_ns && one->sequence >= old->sequence;
    if (old->sequence != one->sequence && !before && !behind) return;
    blame(check, "shard %llu: write %u has sequence %llu of epoch %llu, write %u %s %llu of epoch %llu",
        (unsigned long long)one->shard_id, old->write, (unsigned long long)old->sequence,
        (unsigned long long)old->epoch, one->write,
        behind   ? "before it"
        : before ? "after it"
                 : "as well",
        (unsigned long long)one->sequence, (unsigned long long)one->epoch);
}

void sim_data_check_token(sim_data_check *check, uint32_t write, uint64_t shard_id, uint64_t epoch,
    uint64_t sequence, uint64_t now_ns) {
    token_record one = {.write = write,
        .shard_id = shard_id,
        .epoch = epoch,
        .sequence = sequence,
        .begin_ns = check->writes[write - 1].begin_ns,
        .end_ns = now_ns};
    for (uint32_t i = 0; i < check->token_count; i++) {
        const token_record *old = &check->tokens[i];
        if (old->shard_id != shard_id) continue;
        if (old->write != write) {
            token_compare(check, old, &one);
            continue;
        }
        if (old->sequence != sequence || old->epoch != epoch)
            blame(check, "write %u was told sequence %llu of epoch %llu, then %llu of epoch %llu", write,
                (unsigned long long)old->sequence, (unsigned long long)old->epoch,
                (unsigned long long)sequence, (unsigned long long)epoch);
        return;
    }
    check->tokens = grown(check->tokens, check->token_count, &check->token_capacity, sizeof *check->tokens);
    check->tokens[check->token_count++] = one;
}

static bool write_has(const write_record *write, uint32_t collection, uint32_t point) {
    if (write->collection != collection) return false;
    for (uint32_t i = 0; i < write->count; i++) {
        if (write->points[i] == point) return true;
    }
    return false;
}

static void phantom_check(sim_data_check *check, const sim_data_seen *seen) {
    if (seen->value == 0) return;
    for (uint32_t i = check->write_count; i > 0; i--) {
        const write_record *write = &check->writes[i - 1];
        if (write->value == seen->value && write_has(write, seen->collection, seen->point)) return;
    }
    blame(check, "collection %u, point %u has value %llu, which nobody wrote there", seen->collection,
        seen->point, (unsigned long long)seen->value);
}

void sim_data_check_seen(sim_data_check *check, const sim_data_seen *seen) {
    kith_assert(seen->collection < check->collection_count && seen->point < check->point_count);
    phantom_check(check, seen);
    check->seens = grown(check->seens, check->seen_count, &check->seen_capacity, sizeof *check->seens);
    check->seens[check->seen_count++] = *seen;
}

/* --- the order of one point --- */

/* A write or a read of it. */
typedef struct op {
    bool is_write;
    bool is_optional; /* it need not have happened */
    sim_data_read read;
    uint32_t write; /* its number; of a read: whose token it had */
    uint64_t value;
    uint64_t begin_ns, end_ns;
    uint64_t told_ns; /* of a write: when its client knew */
    uint64_t before[WORDS];
} op;

typedef struct state {
    uint64_t done[WORDS];
    uint64_t value;
} state;

typedef struct order {
    op ops[OPS_MAX];
    uint32_t count;
    uint64_t needed[WORDS];
    state *stack;
    uint32_t depth, stack_capacity;
    state *visited;  /* [visited_count], room for STATES_MAX */
    uint16_t *slots; /* [visited_count] where the table has each */
    uint32_t visited_count;
    uint16_t *table; /* [TABLE_MAX] open addressing: one more than the index of a visited one; 0: free */
    state best;      /* the one with the most done */
    uint32_t best_count;
} order;

static bool bit_get(const uint64_t *bits, uint32_t i) {
    return bits[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *bits, uint32_t i) {
    bits[i / 64] |= 1ULL << (i % 64);
}

/* All of `part` are in `whole`. */
static bool bits_in(const uint64_t *part, const uint64_t *whole) {
    for (uint32_t i = 0; i < WORDS; i++) {
        if (part[i] & ~whole[i]) return false;
    }
    return true;
}

static bool is_first(const op *a, const op *b) {
    if (b->is_write || b->read == SIM_DATA_PRIMARY) return a->end_ns < b->begin_ns;
    if (!a->is_write) return false;
    if (b->read == SIM_DATA_IN_SYNC) return a->told_ns < b->begin_ns;
    return b->read == SIM_DATA_TOKEN && a->write == b->write;
}

static bool ops_add_writes(const sim_data_check *check, order *own, uint32_t collection, uint32_t point) {
    for (uint32_t i = 0; i < check->write_count; i++) {
        const write_record *write = &check->writes[i];
        if (write->refused || !write_has(write, collection, point)) continue;
        if (own->count == OPS_MAX) return false;
        own->ops[own->count++] = (op){.is_write = true,
            .is_optional = write->end_ns == FOR_EVER,
            .write = i + 1,
            .value = write->value,
            .begin_ns = write->begin_ns,
            .end_ns = write->end_ns,
            .told_ns = write->end_ns};
    }
    return true;
}

/* What was seen has happened, by then at the latest. */
static void write_seen(order *own, const sim_data_seen *seen) {
    for (uint32_t i = 0; i < own->count && seen->value; i++) {
        op *write = &own->ops[i];
        if (!write->is_write || write->value != seen->value) continue;
        write->is_optional = false;
        if (seen->end_ns < write->end_ns) write->end_ns = seen->end_ns;
    }
}

static bool ops_add_reads(const sim_data_check *check, order *own, uint32_t collection, uint32_t point) {
    for (uint32_t i = 0; i < check->seen_count; i++) {
        const sim_data_seen *seen = &check->seens[i];
        if (seen->collection != collection || seen->point != point) continue;
        if (own->count == OPS_MAX) return false;
        own->ops[own->count++] = (op){.read = seen->read,
            .write = seen->write,
            .value = seen->value,
            .begin_ns = seen->begin_ns,
            .end_ns = seen->end_ns};
        write_seen(own, seen);
    }
    return true;
}

/* A write that nobody was told of and nobody saw changes nothing that could be judged; a deletion is not known by what was seen. */
static void ops_drop_unseen(order *own) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < own->count; i++) {
        if (own->ops[i].is_write && own->ops[i].is_optional && own->ops[i].value) continue;
        own->ops[kept++] = own->ops[i];
    }
    own->count = kept;
}

static bool order_fill(const sim_data_check *check, order *own, uint32_t collection, uint32_t point) {
    own->count = 0;
    memset(own->needed, 0, sizeof own->needed);
    if (!ops_add_writes(check, own, collection, point)) return false;
    if (!ops_add_reads(check, own, collection, point)) return false;
    ops_drop_unseen(own);
    for (uint32_t j = 0; j < own->count; j++) {
        if (!own->ops[j].is_optional) bit_set(own->needed, j);
        for (uint32_t i = 0; i < own->count; i++) {
            if (i != j && is_first(&own->ops[i], &own->ops[j])) bit_set(own->ops[j].before, i);
        }
    }
    return true;
}

/* --- the search for one --- */

static uint32_t state_slot(const state *one) {
    uint64_t hash = one->value * 0x9e3779b97f4a7c15ULL;
    for (uint32_t i = 0; i < WORDS; i++)
        hash = (hash ^ one->done[i]) * 0x9e3779b97f4a7c15ULL ^ hash >> 29;
    return (uint32_t)(hash >> 32) % TABLE_MAX;
}

static bool state_is_free(const state *one) {
    for (uint32_t i = 0; i < WORDS; i++) {
        if (one->done[i]) return false;
    }
    return true;
}

/* False: it was there. */
static bool visited_add(order *own, const state *one) {
    uint32_t at = state_slot(one);
    for (; own->table[at]; at = (at + 1) % TABLE_MAX) {
        if (memcmp(&own->visited[own->table[at] - 1], one, sizeof *one) == 0) return false;
    }
    own->visited[own->visited_count] = *one;
    own->slots[own->visited_count++] = (uint16_t)at;
    own->table[at] = (uint16_t)own->visited_count;
    return true;
}

static void visited_clear(order *own) {
    while (own->visited_count > 0)
        own->table[own->slots[--own->visited_count]] = 0;
}

static void push(order *own, const state *one) {
    if (own->depth == own->stack_capacity) {
        own->stack_capacity = own->stack_capacity ? 2 * own->stack_capacity : 64;
        own->stack = kith_realloc(own->stack, own->stack_capacity * sizeof *own->stack);
    }
    own->stack[own->depth++] = *one;
}

/* Reads that may come now and see what is there do so: that never makes anything else impossible. */
static void reads_take(const order *own, state *one) {
    for (bool any = true; any;) {
        any = false;
        for (uint32_t i = 0; i < own->count; i++) {
            const op *read = &own->ops[i];
            if (read->is_write || read->value != one->value || bit_get(one->done, i)) continue;
            if (!bits_in(read->before, one->done)) continue;
            bit_set(one->done, i);
            any = true;
        }
    }
}

/* A read of a value that the next write makes away with for ever cannot come any more. */
static bool is_stuck(const order *own, const state *one) {
    for (uint32_t i = 0; i < own->count && one->value; i++) {
        const op *read = &own->ops[i];
        if (!read->is_write && read->value == one->value && !bit_get(one->done, i)) return true;
    }
    return false;
}

static uint32_t done_count(const state *one) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORDS; i++)
        count += (uint32_t)__builtin_popcountll(one->done[i]);
    return count;
}

static void writes_push(order *own, const state *one) {
    for (uint32_t i = own->count; i-- > 0;) {
        const op *write = &own->ops[i];
        if (!write->is_write || bit_get(one->done, i) || !bits_in(write->before, one->done)) continue;
        state next = *one;
        bit_set(next.done, i);
        next.value = write->value;
        push(own, &next);
    }
}

typedef enum verdict { FOUND, IMPOSSIBLE, UNDECIDED } verdict;

static verdict order_search(order *own) {
    state first = {0};
    own->depth = 0;
    own->best = first;
    own->best_count = 0;
    push(own, &first);
    while (own->depth > 0) {
        state one = own->stack[--own->depth];
        reads_take(own, &one);
        if (bits_in(own->needed, one.done)) return FOUND;
        if (done_count(&one) > own->best_count) {
            own->best = one;
            own->best_count = done_count(&one);
        }
        if (is_stuck(own, &one) || (!state_is_free(&one) && !visited_add(own, &one))) continue;
        if (own->visited_count == STATES_MAX) return UNDECIDED;
        writes_push(own, &one);
    }
    return IMPOSSIBLE;
}

/* Of those that could not be placed where most others could: a read of what must make way for another write, or the first. */
static const op *culprit(const order *own) {
    const op *found = NULL;
    for (uint32_t i = 0; i < own->count; i++) {
        const op *one = &own->ops[i];
        if (!one->is_write && one->value == own->best.value && !bit_get(own->best.done, i)) return one;
    }
    for (uint32_t i = 0; i < own->count; i++) {
        const op *one = &own->ops[i];
        if (one->is_optional || bit_get(own->best.done, i)) continue;
        if (!found || one->end_ns < found->end_ns) found = one;
    }
    return found;
}

static void order_blame(sim_data_check *check, const order *own, uint32_t collection, uint32_t point) {
    static const char *const reads[] = {"in_sync", "primary", "any", "token"};
    const op *one = culprit(own);
    blame(check,
        "collection %u, point %u: %s of %s%llu from %.6f to %.6f s cannot be, beside value %llu: %u of %u "
        "placed",
        collection, point, one->is_write ? "write" : reads[one->read],
        one->is_write || one->value ? "value " : "absence, ", (unsigned long long)one->value,
        (double)one->begin_ns / 1e9, one->end_ns == FOR_EVER ? 0 : (double)one->end_ns / 1e9,
        (unsigned long long)own->best.value, own->best_count, own->count);
}

static void point_judge(sim_data_check *check, order *own, uint32_t collection, uint32_t point) {
    verdict result = order_fill(check, own, collection, point) ? order_search(own) : UNDECIDED;
    visited_clear(own);
    check->undecided_count += result == UNDECIDED;
    if (result == IMPOSSIBLE) order_blame(check, own, collection, point);
}

void sim_data_check_finish(sim_data_check *check) {
    order *own = kith_alloc_zero(sizeof *own);
    own->visited = kith_alloc_array(STATES_MAX, sizeof *own->visited);
    own->slots = kith_alloc_array(STATES_MAX, sizeof *own->slots);
    own->table = kith_alloc_zero(TABLE_MAX * sizeof *own->table);
    for (uint32_t i = 0; i < check->collection_count * check->point_count && !check->violation[0]; i++)
        point_judge(check, own, i / check->point_count, i % check->point_count);
    kith_free(own->visited);
    kith_free(own->slots);
    kith_free(own->table);
    kith_free(own->stack);
    kith_free(own);
}

const char *sim_data_check_violation(const sim_data_check *check) {
    return check->violation[0] ? check->violation : NULL;
}

uint64_t sim_data_check_write_count(const sim_data_check *check) {
    return check->write_count;
}

uint64_t sim_data_check_done_count(const sim_data_check *check) {
    return check->done_count;
}

uint64_t sim_data_check_seen_count(const sim_data_check *check) {
    return check->seen_count;
}

uint64_t sim_data_check_undecided_count(const sim_data_check *check) {
    return check->undecided_count;
}
