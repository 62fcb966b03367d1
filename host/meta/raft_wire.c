#include "host/meta/raft_wire.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/crc32c.h"
#include "host/model/id.h"

#define WIRE_MAGIC                0x5446524bU /* "KRFT" */
#define ANSWER_MAGIC              0x4146524bU /* "KRFA" */
#define WIRE_VERSION              1u
#define LIBRAFT_CONFIGURATION     1u /* its format */
#define CONFIGURATION_BYTES_MAX   (16u + KITH_META_MEMBERS_MAX * (KITH_RAFT_ADDRESS_BYTES_MAX + 16u))
#define ENTRY_HEADER_BYTES        13u
#define ENTRIES_MAX               65536u
#define CONFIGURATION_PADDING_MAX 7u

/* --- names --- */

uint64_t kith_raft_id(const kith_node_id *id) {
    uint64_t value = kith_load_u64(id->bytes);
    return value ? value : 1;
}

void kith_raft_address_format(const kith_meta_member *member, char text_out[KITH_RAFT_ADDRESS_BYTES_MAX]) {
    char id[KITH_NODE_ID_TEXT_BYTES];
    snprintf(
        text_out, KITH_RAFT_ADDRESS_BYTES_MAX, "%s@%s", kith_node_id_text(&member->id, id), member->address);
}

bool kith_raft_address_parse(const char *text, kith_meta_member *member_out) {
    const size_t id_bytes = KITH_NODE_ID_TEXT_BYTES - 1;
    if (strlen(text) <= id_bytes + 1 || text[id_bytes] != '@') return false;
    kith_id id;
    kith_meta_member member = {.address = {0}};
    if (kith_id_from_text(text, id_bytes, member.id.bytes, &id, NULL) != KITH_OK) return false;
    const char *address = text + id_bytes + 1;
    size_t address_bytes = strlen(address);
    if (id.type != KITH_ID_UUID || address_bytes > KITH_NODE_ADDRESS_BYTES_MAX) return false;
    memcpy(member.id.bytes, id.bytes, sizeof member.id.bytes);
    memcpy(member.address, address, address_bytes + 1);
    *member_out = member;
    return true;
}

/* --- configurations --- */

/* NULL unless a NUL ends it. */
static const char *reader_text(kith_reader *reader) {
    size_t left = kith_reader_left(reader);
    if (left == 0) return NULL;
    const char *text = (const char *)reader->data + reader->offset;
    size_t bytes = strnlen(text, left);
    return bytes < left ? (const char *)kith_reader_bytes(reader, bytes + 1) : NULL;
}

static bool server_read(kith_reader *reader, struct raft_configuration *configuration) {
    kith_meta_member member;
    uint64_t id = kith_reader_u64(reader);
    const char *address = reader_text(reader);
    uint8_t role = kith_reader_u8(reader);
    if (reader->failed || !address || !kith_raft_address_parse(address, &member)) return false;
    if (id != kith_raft_id(&member.id)) return false;
    /* Refuses unknown roles and repeats. */
    return raft_configuration_add(configuration, id, address, role) == 0;
}

kith_status kith_raft_configuration_decode(
    const void *bytes, size_t byte_count, struct raft_configuration *configuration_out, kith_err *err) {
    kith_reader reader = kith_reader_of(bytes, byte_count);
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    bool good = kith_reader_u8(&reader) == LIBRAFT_CONFIGURATION;
    uint64_t count = kith_reader_u64(&reader);
    good = good && !reader.failed && count >= 1 && count <= KITH_META_MEMBERS_MAX;
    for (uint64_t i = 0; good && i < count; i++)
        good = server_read(&reader, &configuration);
    if (good && kith_reader_left(&reader) <= CONFIGURATION_PADDING_MAX) {
        *configuration_out = configuration;
        return KITH_OK;
    }
    raft_configuration_close(&configuration);
    return kith_err_set(err, KITH_CORRUPT, "a configuration of %zu bytes does not decode", byte_count);
}

void kith_raft_configuration_append(const struct raft_configuration *configuration, kith_buf *buf) {
    struct raft_buffer encoded;
    int result = raft_configuration_encode(configuration, &encoded);
    kith_assert(result == 0);
    kith_buf_u32(buf, (uint32_t)encoded.len);
    kith_buf_append(buf, encoded.base, encoded.len);
    raft_free(encoded.base);
}

kith_status kith_raft_configuration_read(
    kith_reader *reader, struct raft_configuration *configuration_out, kith_err *err) {
    uint32_t bytes = kith_reader_u32(reader);
    const uint8_t *at = kith_reader_bytes(reader, bytes);
    return kith_raft_configuration_decode(at, at ? bytes : 0, configuration_out, err);
}

void kith_raft_configuration_copy(
    const struct raft_configuration *configuration, struct raft_configuration *copy_out) {
    raft_configuration_init(copy_out);
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        int result = raft_configuration_add(copy_out, server->id, server->address, server->role);
        kith_assert(result == 0);
    }
}

/* --- messages: encoding --- */

static void entries_encode(const struct raft_append_entries *message, kith_buf *buf) {
    size_t count_at = buf->bytes;
    kith_buf_u32(buf, 0);
    size_t begin = buf->bytes;
    uint32_t count = 0;
    for (; count < message->n_entries && count < ENTRIES_MAX; count++) {
        const struct raft_entry *entry = &message->entries[count];
        size_t after = buf->bytes - begin + ENTRY_HEADER_BYTES + entry->buf.len;
        if (count > 0 && after > KITH_RAFT_ENTRIES_BYTES_MAX) break;
        kith_buf_u64(buf, entry->term);
        kith_buf_u8(buf, (uint8_t)entry->type);
        kith_buf_u32(buf, (uint32_t)entry->buf.len);
        kith_buf_append(buf, entry->buf.base, entry->buf.len);
    }
    kith_store_u32(buf->data + count_at, count);
}

static void append_entries_encode(const struct raft_append_entries *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u64(buf, message->prev_log_index);
    kith_buf_u64(buf, message->prev_log_term);
    kith_buf_u64(buf, message->leader_commit);
    entries_encode(message, buf);
}

static void append_entries_result_encode(const struct raft_append_entries_result *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u64(buf, message->rejected);
    kith_buf_u64(buf, message->last_log_index);
}

static void request_vote_encode(const struct raft_request_vote *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u64(buf, message->candidate_id);
    kith_buf_u64(buf, message->last_log_index);
    kith_buf_u64(buf, message->last_log_term);
    kith_buf_u8(buf, message->disrupt_leader);
    kith_buf_u8(buf, message->pre_vote);
}

static void request_vote_result_encode(const struct raft_request_vote_result *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u8(buf, message->vote_granted);
    kith_buf_u8(buf, (uint8_t)message->pre_vote);
}

static void install_snapshot_encode(const struct raft_install_snapshot *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u64(buf, message->last_index);
    kith_buf_u64(buf, message->last_term);
    kith_buf_u64(buf, message->conf_index);
    kith_raft_configuration_append(&message->conf, buf);
    kith_buf_u64(buf, message->data.len);
    kith_buf_append(buf, message->data.base, message->data.len);
}

static void timeout_now_encode(const struct raft_timeout_now *message, kith_buf *buf) {
    kith_buf_u64(buf, message->term);
    kith_buf_u64(buf, message->last_log_index);
    kith_buf_u64(buf, message->last_log_term);
}

static void body_encode(const struct raft_message *message, kith_buf *buf) {
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        append_entries_encode(&message->append_entries, buf);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        append_entries_result_encode(&message->append_entries_result, buf);
        break;
    case RAFT_IO_REQUEST_VOTE:
        request_vote_encode(&message->request_vote, buf);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        request_vote_result_encode(&message->request_vote_result, buf);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        install_snapshot_encode(&message->install_snapshot, buf);
        break;
    default:
        kith_assert(message->type == RAFT_IO_TIMEOUT_NOW);
        timeout_now_encode(&message->timeout_now, buf);
    }
}

void kith_raft_message_encode(
    const kith_meta_member *from, const struct raft_message *message, kith_buf *buf) {
    size_t begin = buf->bytes;
    size_t address_bytes = strlen(from->address);
    kith_buf_u32(buf, WIRE_MAGIC);
    kith_buf_u8(buf, WIRE_VERSION);
    kith_buf_u8(buf, (uint8_t)message->type);
    kith_buf_u16(buf, (uint16_t)address_bytes);
    kith_buf_append(buf, from->id.bytes, sizeof from->id.bytes);
    kith_buf_append(buf, from->address, address_bytes);
    body_encode(message, buf);
    kith_buf_u32(buf, kith_crc32c(0, buf->data + begin, buf->bytes - begin));
}

/* --- messages: decoding --- */

typedef struct entries_size {
    uint32_t count;
    size_t data_bytes; /* of all, each on a multiple of 8 */
} entries_size;

static size_t aligned(size_t bytes) {
    return (bytes + 7) / 8 * 8;
}

static bool entry_is_sane(uint64_t term, uint8_t type, const uint8_t *data, uint32_t bytes) {
    if (term == 0 || type < RAFT_COMMAND || type > RAFT_CHANGE) return false;
    if (type != RAFT_CHANGE) return bytes <= KITH_META_COMMAND_BYTES_MAX;
    struct raft_configuration configuration;
    if (kith_raft_configuration_decode(data, bytes, &configuration, NULL) != KITH_OK) return false;
    raft_configuration_close(&configuration);
    return true;
}

/* Over a copy of the reader: what must be allocated, and whether all of it is there. */
static bool entries_measure(kith_reader reader, entries_size *size_out) {
    *size_out = (entries_size){.count = kith_reader_u32(&reader)};
    if (size_out->count > ENTRIES_MAX) return false;
    for (uint32_t i = 0; i < size_out->count; i++) {
        uint64_t term = kith_reader_u64(&reader);
        uint8_t type = kith_reader_u8(&reader);
        uint32_t bytes = kith_reader_u32(&reader);
        const uint8_t *data = kith_reader_bytes(&reader, bytes);
        if (reader.failed || !entry_is_sane(term, type, data, bytes)) return false;
        size_out->data_bytes += aligned(bytes);
    }
    return true;
}

/* The core wants all data of a message's entries in one allocation. */
static bool entries_decode(kith_reader *reader, struct raft_append_entries *message) {
    entries_size size;
    if (!entries_measure(*reader, &size)) return false;
    message->n_entries = kith_reader_u32(reader);
    message->entries = NULL;
    if (size.count == 0) return true;
    message->entries = raft_calloc(size.count, sizeof *message->entries);
    uint8_t *batch = raft_calloc(1, size.data_bytes + 8); /* never of no bytes */
    size_t at = 0;
    for (uint32_t i = 0; i < size.count; i++) {
        struct raft_entry *entry = &message->entries[i];
        entry->term = kith_reader_u64(reader);
        entry->type = kith_reader_u8(reader);
        uint32_t bytes = kith_reader_u32(reader);
        memcpy(batch + at, kith_reader_bytes(reader, bytes), bytes);
        entry->buf = (struct raft_buffer){.base = batch + at, .len = bytes};
        entry->batch = batch;
        at += aligned(bytes);
    }
    return true;
}

static bool append_entries_decode(kith_reader *reader, struct raft_append_entries *message) {
    message->term = kith_reader_u64(reader);
    message->prev_log_index = kith_reader_u64(reader);
    message->prev_log_term = kith_reader_u64(reader);
    message->leader_commit = kith_reader_u64(reader);
    /* A member's log never begins at 1 here, but behind a snapshot: entries that claim to be the first would be taken
     * without a look at what they follow. */
    if (reader->failed || message->prev_log_index == 0 || message->prev_log_term == 0) return false;
    return entries_decode(reader, message);
}

static bool request_vote_decode(kith_reader *reader, struct raft_request_vote *message) {
    message->term = kith_reader_u64(reader);
    message->candidate_id = kith_reader_u64(reader);
    message->last_log_index = kith_reader_u64(reader);
    message->last_log_term = kith_reader_u64(reader);
    message->disrupt_leader = kith_reader_u8(reader) != 0;
    message->pre_vote = kith_reader_u8(reader) != 0;
    return message->candidate_id != 0;
}

static bool request_vote_result_decode(kith_reader *reader, struct raft_request_vote_result *message) {
    message->term = kith_reader_u64(reader);
    message->vote_granted = kith_reader_u8(reader) != 0;
    uint8_t pre_vote = kith_reader_u8(reader);
    message->pre_vote = pre_vote == raft_tribool_true ? raft_tribool_true : raft_tribool_false;
    return true;
}

static bool snapshot_data_decode(kith_reader *reader, struct raft_buffer *data) {
    uint64_t bytes = kith_reader_u64(reader);
    if (bytes > KITH_META_SNAPSHOT_BYTES_MAX || bytes > kith_reader_left(reader)) return false;
    data->len = (size_t)bytes;
    data->base = raft_malloc(data->len + 1);
    if (!data->base) return false;
    if (bytes) memcpy(data->base, kith_reader_bytes(reader, data->len), data->len);
    return true;
}

static bool install_snapshot_decode(kith_reader *reader, struct raft_install_snapshot *message) {
    message->term = kith_reader_u64(reader);
    message->last_index = kith_reader_u64(reader);
    message->last_term = kith_reader_u64(reader);
    message->conf_index = kith_reader_u64(reader);
    if (reader->failed || message->last_index == 0 || message->last_term == 0) return false;
    if (message->conf_index == 0 || message->conf_index > message->last_index) return false;
    if (kith_raft_configuration_read(reader, &message->conf, NULL) != KITH_OK) return false;
    if (snapshot_data_decode(reader, &message->data)) return true;
    raft_configuration_close(&message->conf);
    return false;
}

static bool body_decode(kith_reader *reader, struct raft_message *message) {
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return append_entries_decode(reader, &message->append_entries);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        message->append_entries_result.term = kith_reader_u64(reader);
        message->append_entries_result.rejected = kith_reader_u64(reader);
        message->append_entries_result.last_log_index = kith_reader_u64(reader);
        return true;
    case RAFT_IO_REQUEST_VOTE:
        return request_vote_decode(reader, &message->request_vote);
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return request_vote_result_decode(reader, &message->request_vote_result);
    case RAFT_IO_INSTALL_SNAPSHOT:
        return install_snapshot_decode(reader, &message->install_snapshot);
    case RAFT_IO_TIMEOUT_NOW:
        message->timeout_now.term = kith_reader_u64(reader);
        message->timeout_now.last_log_index = kith_reader_u64(reader);
        message->timeout_now.last_log_term = kith_reader_u64(reader);
        return true;
    default:
        return false;
    }
}

static bool sender_decode(kith_reader *reader, uint16_t address_bytes, kith_meta_member *from_out) {
    const uint8_t *id = kith_reader_bytes(reader, sizeof from_out->id.bytes);
    const uint8_t *address = kith_reader_bytes(reader, address_bytes);
    if (reader->failed || address_bytes == 0 || address_bytes > KITH_NODE_ADDRESS_BYTES_MAX) return false;
    *from_out = (kith_meta_member){.address = {0}};
    memcpy(from_out->id.bytes, id, sizeof from_out->id.bytes);
    memcpy(from_out->address, address, address_bytes);
    return strlen(from_out->address) == address_bytes && !kith_node_id_is_none(&from_out->id);
}

static kith_status not_a_message(size_t byte_count, kith_err *err) {
    return kith_err_set(err, KITH_CORRUPT, "%zu bytes are no Raft message", byte_count);
}

kith_status kith_raft_message_decode(const void *bytes, size_t byte_count, kith_meta_member *from_out,
    struct raft_message *message_out, kith_err *err) {
    if (byte_count < 12 ||
        kith_load_u32((const uint8_t *)bytes + byte_count - 4) != kith_crc32c(0, bytes, byte_count - 4)) {
        return not_a_message(byte_count, err);
    }
    kith_reader reader = kith_reader_of(bytes, byte_count - 4);
    uint32_t magic = kith_reader_u32(&reader);
    uint8_t version = kith_reader_u8(&reader);
    if (magic == WIRE_MAGIC && version != WIRE_VERSION) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "a Raft message of version %u, this program reads version %u", version, WIRE_VERSION);
    }
    struct raft_message message = {.type = kith_reader_u8(&reader)};
    uint16_t address_bytes = kith_reader_u16(&reader);
    if (magic != WIRE_MAGIC || !sender_decode(&reader, address_bytes, from_out) ||
        !body_decode(&reader, &message)) {
        return not_a_message(byte_count, err);
    }
    message.server_id = kith_raft_id(&from_out->id);
    if (reader.failed || kith_reader_left(&reader) > 0) {
        kith_raft_message_fini(&message);
        return not_a_message(byte_count, err);
    }
    *message_out = message;
    return KITH_OK;
}

void kith_raft_message_fini(struct raft_message *message) {
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}

/* --- answers --- */

void kith_raft_answer_encode(uint64_t configuration_index, kith_buf *buf) {
    kith_buf_u32(buf, ANSWER_MAGIC);
    kith_buf_u8(buf, WIRE_VERSION);
    kith_buf_u64(buf, configuration_index);
}

bool kith_raft_answer_decode(const void *bytes, size_t byte_count, uint64_t *configuration_index_out) {
    kith_reader reader = kith_reader_of(bytes, byte_count);
    if (kith_reader_u32(&reader) != ANSWER_MAGIC || kith_reader_u8(&reader) != WIRE_VERSION) return false;
    uint64_t index = kith_reader_u64(&reader);
    if (reader.failed || kith_reader_left(&reader) > 0) return false;
    *configuration_index_out = index;
    return true;
}
