/* The judge; its rules are in the header. Everything is kept in small arrays and looked through: a history has some tens
 * of commands and some hundred maps. */
#include "tests/sim/sim_cluster_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"

#define NODES_MAX  64u
#define NAME_BYTES 32u
#define TEXT_BYTES 400u

/* Means one thing for ever: a collection's id, or a node's number. */
typedef struct check_identity {
    uint64_t id;
    uint64_t digest; /* of what it means */
    char name[NAME_BYTES];
    uint64_t shard_first, shard_count;
} check_identity;

typedef struct check_map {
    uint64_t version;
    uint64_t digest;
    uint64_t *ids; /* [id_count] collections in it */
    uint32_t id_count;
} check_map;

typedef struct check_command {
    sim_check_kind kind;
    char name[NAME_BYTES];
    uint64_t floor; /* the highest version answered before it was asked for */
    bool ended;
    sim_check_outcome outcome;
    uint64_t id, map_version;
    bool changed;
    uint32_t begin, end; /* moments: numbers of calls to this judge */
} check_command;

typedef struct check_leader {
    uint64_t term;
    uint32_t node;
} check_leader;

/* The bytes of a map that was read and kept. Most machines show the same bytes soon after one another: they are read once. */
typedef struct check_judged {
    uint64_t version;
    uint8_t *bytes;
    size_t byte_count;
} check_judged;
#define JUDGED_MAX 8u

struct sim_check {
    char violation[TEXT_BYTES];
    uint32_t moment;
    uint64_t answered_version; /* highest so far */
    uint64_t seen[NODES_MAX];  /* version that each node goes by */
    check_map *maps;
    check_identity *collections, *nodes;
    check_command *commands;
    check_leader *leaders;
    uint32_t map_count, collection_count, node_count, command_count, leader_count;
    uint32_t map_room, collection_room, node_room, command_room, leader_room;
    check_judged judged[JUDGED_MAX]; /* the last ones, in a ring */
    uint32_t judged_count;
};

sim_check *sim_check_create(void) {
    return kith_alloc_zero(sizeof(sim_check));
}

void sim_check_destroy(sim_check *check) {
    if (!check) return;
    for (uint32_t i = 0; i < check->map_count; i++)
        kith_free(check->maps[i].ids);
    for (uint32_t i = 0; i < JUDGED_MAX; i++)
        kith_free(check->judged[i].bytes);
    kith_free(check->maps);
    kith_free(check->collections);
    kith_free(check->nodes);
    kith_free(check->commands);
    kith_free(check->leaders);
    kith_free(check);
}

static void __attribute__((format(printf, 2, 3))) blame(sim_check *check, const char *format, ...) {
    if (check->violation[0]) return; /* the first one tells most */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->violation, sizeof check->violation, format, arguments);
    va_end(arguments);
}

const char *sim_check_violation(const sim_check *check) {
    return check->violation[0] ? check->violation : NULL;
}

uint64_t sim_check_map_count(const sim_check *check) {
    return check->map_count;
}

uint64_t sim_check_command_count(const sim_check *check) {
    return check->command_count;
}

uint64_t sim_check_term_count(const sim_check *check) {
    return check->leader_count;
}

uint64_t sim_check_acknowledged_count(const sim_check *check) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < check->command_count; i++)
        count += check->commands[i].ended && check->commands[i].outcome == SIM_CHECK_OK;
    return count;
}

/* Room for one more in an array of elements of `bytes` bytes, zeroed. */
static void *grow(void **array, uint32_t *count, uint32_t *room, size_t bytes) {
    if (*count == *room) {
        *room = *room ? *room * 2 : 16;
        *array = kith_realloc(*array, *room * bytes);
    }
    char *at = (char *)*array + (*count)++ * bytes;
    memset(at, 0, bytes);
    return at;
}
#define GROW(check, what)                                                                                    \
    grow((void **)&(check)->what##s, &(check)->what##_count, &(check)->what##_room, sizeof *(check)->what##s)

/* --- leaders --- */

void sim_check_leader(sim_check *check, uint64_t term, uint32_t node) {
    for (uint32_t i = 0; i < check->leader_count; i++) {
        if (check->leaders[i].term != term) continue;
        if (check->leaders[i].node != node)
            blame(check, "term %llu has two leaders: machines %u and %u", (unsigned long long)term,
                check->leaders[i].node, node);
        return;
    }
    *(check_leader *)GROW(check, leader) = (check_leader){.term = term, .node = node};
}

/* --- reading a map: protobuf's wire format, as much of it as a MetaSnapshot uses --- */

typedef struct wire_reader {
    const uint8_t *at, *end;
    bool broken;
} wire_reader;

typedef struct wire_field {
    uint32_t number;
    uint64_t value;   /* of a varint */
    wire_reader body; /* of a length-delimited field */
} wire_field;

static uint64_t wire_varint(wire_reader *reader) {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    reader->broken = true;
    return 0;
}

/* False at the end, or when the bytes are no message. */
static bool wire_next(wire_reader *reader, wire_field *field_out) {
    if (reader->at == reader->end || reader->broken) return false;
    uint64_t tag = wire_varint(reader);
    *field_out = (wire_field){.number = (uint32_t)(tag >> 3)};
    uint64_t value = wire_varint(reader);
    if ((tag & 7) == 0) {
        field_out->value = value;
    } else if ((tag & 7) == 2 && value <= (uint64_t)(reader->end - reader->at)) {
        field_out->body = (wire_reader){.at = reader->at, .end = reader->at + value};
        reader->at += value;
    } else {
        reader->broken = true;
    }
    return !reader->broken;
}

/* FNV-1a: this judge has no hash in common with the product. */
static uint64_t digest_add(uint64_t digest, const void *bytes, size_t count) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < count; i++)
        digest = (digest ^ at[i]) * 0x100000001b3ULL;
    return digest;
}
#define DIGEST_START 0xcbf29ce484222325ULL

static void name_take(const wire_field *field, char name_out[NAME_BYTES]) {
    size_t bytes = (size_t)(field->body.end - field->body.at);
    if (bytes >= NAME_BYTES) bytes = NAME_BYTES - 1;
    memcpy(name_out, field->body.at, bytes);
    name_out[bytes] = '\0';
}

/* A collection means its id, name, fields and shards; where the shards are may change. */
static bool collection_read(wire_reader reader, check_identity *read_out) {
    check_identity read = {.digest = DIGEST_START};
    wire_field field;
    for (const uint8_t *from = reader.at; wire_next(&reader, &field); from = reader.at) {
        if (field.number <= 6) read.digest = digest_add(read.digest, from, (size_t)(reader.at - from));
        if (field.number == 1) read.id = field.value;
        if (field.number == 2) name_take(&field, read.name);
        if (field.number == 4) read.shard_count = field.value;
        if (field.number == 5) read.shard_first = field.value;
    }
    *read_out = read;
    return !reader.broken;
}

/* A node means its number, id and role. */
static bool node_read(wire_reader reader, check_identity *read_out) {
    check_identity read = {.digest = DIGEST_START};
    wire_field field;
    for (const uint8_t *from = reader.at; wire_next(&reader, &field); from = reader.at) {
        if (field.number == 1) read.id = field.value;
        if (field.number == 2 || field.number == 4)
            read.digest = digest_add(read.digest, from, (size_t)(reader.at - from));
        if (field.number == 3) name_take(&field, read.name);
    }
    *read_out = read;
    return !reader.broken;
}

/* --- maps --- */

static void identity_check(
    sim_check *check, const char *what, const check_identity *known, const check_identity *read) {
    if (known->digest != read->digest)
        blame(check, "%s %llu was \"%s\" and is \"%s\" now, or has changed", what,
            (unsigned long long)read->id, known->name, read->name);
}

static void node_saw(sim_check *check, const check_identity *read) {
    for (uint32_t i = 0; i < check->node_count; i++) {
        const check_identity *known = &check->nodes[i];
        if (known->id == read->id) {
            identity_check(check, "node", known, read);
            return;
        }
        if (known->digest == read->digest)
            blame(check, "node \"%s\" had number %llu and has %llu", read->name,
                (unsigned long long)known->id, (unsigned long long)read->id);
    }
    *(check_identity *)GROW(check, node) = *read;
}

static bool shards_overlap(const check_identity *a, const check_identity *b) {
    return a->shard_first < b->shard_first + b->shard_count &&
           b->shard_first < a->shard_first + a->shard_count;
}

static void collection_saw(sim_check *check, const check_identity *read) {
    for (uint32_t i = 0; i < check->collection_count; i++) {
        const check_identity *known = &check->collections[i];
        if (known->id == read->id) {
            identity_check(check, "collection", known, read);
            return;
        }
        if (shards_overlap(known, read))
            blame(check, "collections %llu and %llu share a shard id", (unsigned long long)known->id,
                (unsigned long long)read->id);
    }
    *(check_identity *)GROW(check, collection) = *read;
}

static bool map_has(const check_map *map, uint64_t id) {
    for (uint32_t i = 0; i < map->id_count; i++) {
        if (map->ids[i] == id) return true;
    }
    return false;
}

/* Reads all of a map into `map_out`; its content counts but for the applied index, which commands that change nothing
 * move, and the remembered answers, which are no part of the map. */
static bool map_read(sim_check *check, wire_reader reader, check_map *map_out) {
    check_map map = {.digest = DIGEST_START};
    wire_field field;
    bool good = true;
    for (const uint8_t *from = reader.at; wire_next(&reader, &field); from = reader.at) {
        check_identity read;
        if (field.number != 3 && field.number != 9)
            map.digest = digest_add(map.digest, from, (size_t)(reader.at - from));
        if (field.number == 2) map.version = field.value;
        if (field.number == 7 && (good &= node_read(field.body, &read))) node_saw(check, &read);
        if (field.number != 6 || !(good &= collection_read(field.body, &read))) continue;
        collection_saw(check, &read);
        map.ids = kith_realloc(map.ids, (map.id_count + 1) * sizeof *map.ids);
        map.ids[map.id_count++] = read.id;
    }
    *map_out = map;
    return good && !reader.broken;
}

/* True when the map is new to the judge, who keeps it then. */
static bool map_keep(sim_check *check, uint32_t node, const check_map *map) {
    for (uint32_t i = 0; i < check->map_count; i++) {
        if (check->maps[i].version != map->version) continue;
        if (check->maps[i].digest != map->digest)
            blame(check, "map version %llu of machine %u differs from one seen before",
                (unsigned long long)map->version, node);
        return false;
    }
    *(check_map *)GROW(check, map) = *map;
    return true;
}

static const check_judged *judged_find(const sim_check *check, const void *bytes, size_t byte_count) {
    for (uint32_t i = 0; i < JUDGED_MAX; i++) {
        const check_judged *one = &check->judged[i];
        if (one->bytes && one->byte_count == byte_count && memcmp(one->bytes, bytes, byte_count) == 0)
            return one;
    }
    return NULL;
}

static void judged_add(sim_check *check, uint64_t version, const void *bytes, size_t byte_count) {
    check_judged *one = &check->judged[check->judged_count++ % JUDGED_MAX];
    kith_free(one->bytes);
    *one = (check_judged){.version = version, .bytes = kith_alloc(byte_count), .byte_count = byte_count};
    if (byte_count > 0) memcpy(one->bytes, bytes, byte_count);
}

static void version_saw(sim_check *check, uint32_t node, uint64_t version) {
    if (version < check->seen[node])
        blame(check, "the map of machine %u went back from version %llu to %llu", node,
            (unsigned long long)check->seen[node], (unsigned long long)version);
    check->seen[node] = version;
}

void sim_check_map(sim_check *check, uint32_t node, const void *bytes, size_t byte_count) {
    check_map map;
    check->moment++;
    const check_judged *known = judged_find(check, bytes, byte_count);
    if (known) {
        version_saw(check, node, known->version);
        return;
    }
    wire_reader reader = {.at = bytes, .end = (const uint8_t *)bytes + byte_count};
    if (!map_read(check, reader, &map)) {
        blame(check, "the map of machine %u is no message", node);
        kith_free(map.ids);
        return;
    }
    version_saw(check, node, map.version);
    judged_add(check, map.version, bytes, byte_count);
    if (!map_keep(check, node, &map)) kith_free(map.ids);
}

void sim_check_map_forgotten(sim_check *check, uint32_t node) {
    check->seen[node] = 0;
}

/* --- commands --- */

uint32_t sim_check_begin(sim_check *check, sim_check_kind kind, const char *name) {
    check_command *command = GROW(check, command);
    command->kind = kind;
    snprintf(command->name, sizeof command->name, "%s", name);
    command->floor = check->answered_version;
    command->begin = check->moment++;
    return check->command_count - 1;
}

/* A repeat must be answered as before. */
static void repeat_check(sim_check *check, const check_command *command, uint32_t number,
    sim_check_outcome outcome, uint64_t id, bool changed) {
    bool both_known = command->ended && command->outcome != SIM_CHECK_UNKNOWN &&
                      command->outcome != SIM_CHECK_NOTHING && outcome != SIM_CHECK_UNKNOWN &&
                      outcome != SIM_CHECK_NOTHING;
    if (!both_known) return;
    if (command->outcome != outcome || command->id != id || command->changed != changed)
        blame(check, "command %u (\"%s\") was answered id %llu%s first and id %llu%s when it was repeated",
            number, command->name, (unsigned long long)command->id, command->changed ? " changed" : "",
            (unsigned long long)id, changed ? " changed" : "");
}

void sim_check_end(sim_check *check, uint32_t number, sim_check_outcome outcome, uint64_t id, bool changed,
    uint64_t map_version) {
    check_command *command = &check->commands[number];
    repeat_check(check, command, number, outcome, id, changed);
    bool known = outcome == SIM_CHECK_OK || outcome == SIM_CHECK_NOT_FOUND;
    if (known && map_version < command->floor)
        blame(check, "command %u (\"%s\") was answered from version %llu, after one from %llu", number,
            command->name, (unsigned long long)map_version, (unsigned long long)command->floor);
    if (known && map_version > check->answered_version) check->answered_version = map_version;
    if (command->ended && !known) return;
    command->ended = true;
    command->outcome = outcome;
    command->id = id;
    command->changed = changed;
    command->map_version = map_version;
    command->end = check->moment++;
}

/* --- the whole history --- */

static const char *collection_name(const sim_check *check, uint64_t id) {
    for (uint32_t i = 0; i < check->collection_count; i++) {
        if (check->collections[i].id == id) return check->collections[i].name;
    }
    return "";
}

/* The highest version that certainly still had collection `id` as far as drops go: below it no drop of it had been asked
 * for. UINT64_MAX: none ever was. */
static uint64_t drop_floor(const sim_check *check, uint64_t id, const char *name) {
    uint64_t floor = UINT64_MAX;
    for (uint32_t i = 0; i < check->command_count; i++) {
        const check_command *drop = &check->commands[i];
        if (drop->kind != SIM_CHECK_DROP || strcmp(drop->name, name) != 0) continue;
        bool other =
            drop->ended && (drop->outcome == SIM_CHECK_NOT_FOUND || drop->outcome == SIM_CHECK_NOTHING ||
                               (drop->outcome == SIM_CHECK_OK && drop->id != id));
        if (!other && drop->floor < floor) floor = drop->floor;
    }
    return floor;
}

static void created_check(sim_check *check, uint32_t number) {
    const check_command *command = &check->commands[number];
    uint64_t floor = drop_floor(check, command->id, command->name);
    for (uint32_t i = 0; i < check->map_count; i++) {
        const check_map *map = &check->maps[i];
        bool there = map_has(map, command->id);
        if (!there && map->version >= command->map_version && map->version <= floor)
            blame(check,
                "collection %llu \"%s\" was acknowledged at version %llu, never dropped before %llu, and is "
                "not in version %llu",
                (unsigned long long)command->id, command->name, (unsigned long long)command->map_version,
                (unsigned long long)floor, (unsigned long long)map->version);
        if (there && command->changed && map->version <= command->floor)
            blame(check, "collection %llu \"%s\" is in version %llu, before it was asked for",
                (unsigned long long)command->id, command->name, (unsigned long long)map->version);
    }
}

static void dropped_check(sim_check *check, uint32_t number) {
    const check_command *command = &check->commands[number];
    for (uint32_t i = 0; i < check->map_count; i++) {
        const check_map *map = &check->maps[i];
        if (map->version >= command->map_version && map_has(map, command->id))
            blame(check, "collection %llu \"%s\" was dropped at version %llu and is in version %llu",
                (unsigned long long)command->id, command->name, (unsigned long long)command->map_version,
                (unsigned long long)map->version);
    }
}

/* NOT_FOUND, although one was acknowledged before and nobody else can have dropped it. */
static void not_found_check(sim_check *check, uint32_t number) {
    const check_command *command = &check->commands[number];
    for (uint32_t i = 0; i < check->command_count; i++) {
        const check_command *create = &check->commands[i];
        bool before = create->kind == SIM_CHECK_CREATE && create->ended && create->outcome == SIM_CHECK_OK &&
                      create->end < command->begin && strcmp(create->name, command->name) == 0;
        if (!before) continue;
        if (drop_floor(check, create->id, create->name) == UINT64_MAX)
            blame(check, "command %u found no \"%s\", but collection %llu was never dropped", number,
                command->name, (unsigned long long)create->id);
    }
}

/* Two commands cannot both have made, or both have removed, one collection. */
static void changed_once_check(sim_check *check, uint32_t number) {
    const check_command *command = &check->commands[number];
    for (uint32_t i = 0; i < number && command->changed; i++) {
        const check_command *other = &check->commands[i];
        if (other->kind == command->kind && other->ended && other->outcome == SIM_CHECK_OK &&
            other->changed && other->id == command->id)
            blame(check, "commands %u and %u both say that they changed collection %llu", i, number,
                (unsigned long long)command->id);
    }
}

static void command_check(sim_check *check, uint32_t number) {
    const check_command *command = &check->commands[number];
    if (!command->ended) return;
    if (command->outcome == SIM_CHECK_NOT_FOUND) not_found_check(check, number);
    if (command->outcome != SIM_CHECK_OK) return;
    const char *name = collection_name(check, command->id);
    if (name[0] && strcmp(name, command->name) != 0)
        blame(check, "command %u for \"%s\" was answered with collection %llu, which is \"%s\"", number,
            command->name, (unsigned long long)command->id, name);
    changed_once_check(check, number);
    if (command->kind == SIM_CHECK_CREATE) {
        created_check(check, number);
    } else {
        dropped_check(check, number);
    }
}

/* Somebody asked for each collection that was ever seen. */
static void collection_check(sim_check *check, const check_identity *collection) {
    for (uint32_t i = 0; i < check->command_count; i++) {
        const check_command *create = &check->commands[i];
        bool possible = create->kind == SIM_CHECK_CREATE && strcmp(create->name, collection->name) == 0 &&
                        (!create->ended || create->outcome == SIM_CHECK_UNKNOWN ||
                            (create->outcome == SIM_CHECK_OK && create->id == collection->id));
        if (possible) return;
    }
    blame(check, "collection %llu \"%s\" exists and nobody can have made it",
        (unsigned long long)collection->id, collection->name);
}

static const check_map *map_after(const sim_check *check, uint64_t version) {
    const check_map *best = NULL;
    for (uint32_t i = 0; i < check->map_count; i++) {
        const check_map *map = &check->maps[i];
        if (map->version > version && (!best || map->version < best->version)) best = map;
    }
    return best;
}

/* Once it is gone it stays away. */
static void presence_check(sim_check *check, const check_identity *collection) {
    bool was = false, gone = false;
    for (const check_map *map = map_after(check, 0); map; map = map_after(check, map->version)) {
        bool there = map_has(map, collection->id);
        if (there && gone)
            blame(check, "collection %llu \"%s\" came back in version %llu",
                (unsigned long long)collection->id, collection->name, (unsigned long long)map->version);
        gone = was && !there;
        was = there || was;
    }
}

void sim_check_finish(sim_check *check) {
    for (uint32_t i = 0; i < check->command_count; i++)
        command_check(check, i);
    for (uint32_t i = 0; i < check->collection_count; i++) {
        collection_check(check, &check->collections[i]);
        presence_check(check, &check->collections[i]);
    }
}
