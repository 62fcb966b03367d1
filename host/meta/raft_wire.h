/* What coordinators send each other: one Raft message as the body of KITH_AM_RAFT, and the answer to it. Also how members
 * are named inside Raft, whose own words for them are a u64 and a text.
 *
 * Format of a message, version 1, little-endian: u32 magic, u8 version, u8 type (libraft's), u16 bytes of the sender's
 * address, the sender's node id (16 bytes), its address, a body by type, u32 CRC-32C of all before it. Entries: u64 term,
 * u8 type, u32 bytes, data. A configuration: u32 bytes, then as libraft encodes it. The answer is empty, or says that the
 * sender is no member any more: u32 magic, u8 version, u64 index of the committed configuration without it.
 *
 * A decoder trusts nothing: libraft's core is built without its assertions and would take a bad configuration or an entry
 * without a term for good.
 *
 * Threads: pure functions. Ownership: what a decoded message holds is raft_malloc's, as the core wants it. */
#ifndef KITH_META_RAFT_WIRE_H
#define KITH_META_RAFT_WIRE_H

#include <stdint.h>

#include <raft.h>

#include "host/base/buf.h"
#include "host/base/bytes.h"
#include "host/base/err.h"
#include "host/meta/meta_log_raft.h"

/* A member inside Raft has the address "<uuid>@<host:port>", so that a configuration says all there is to know. */
#define KITH_RAFT_ADDRESS_BYTES_MAX (KITH_NODE_ID_TEXT_BYTES + KITH_NODE_ADDRESS_BYTES_MAX + 1)

/* Entries of one message; what is over it waits for the next one, but one entry always goes. */
#define KITH_RAFT_ENTRIES_BYTES_MAX (4u << 20)

_Static_assert(KITH_META_COMMAND_BYTES_MAX <= KITH_RAFT_ENTRIES_BYTES_MAX, "a message holds any one entry");

/* The first 8 bytes of the UUID; never 0, which is libraft's "none". */
uint64_t kith_raft_id(const kith_node_id *id);
void kith_raft_address_format(const kith_meta_member *member, char text_out[KITH_RAFT_ADDRESS_BYTES_MAX]);
bool kith_raft_address_parse(const char *text, kith_meta_member *member_out);

/* As libraft encodes it, in a configuration entry for example. CORRUPT unless whole and sane; on success
 * raft_configuration_close the result. */
KITH_CHECK kith_status kith_raft_configuration_decode(
    const void *bytes, size_t byte_count, struct raft_configuration *configuration_out, kith_err *err);
/* With its length before it. */
void kith_raft_configuration_append(const struct raft_configuration *configuration, kith_buf *buf);
KITH_CHECK kith_status kith_raft_configuration_read(
    kith_reader *reader, struct raft_configuration *configuration_out, kith_err *err);
void kith_raft_configuration_copy(
    const struct raft_configuration *configuration, struct raft_configuration *copy_out);

void kith_raft_message_encode(
    const kith_meta_member *from, const struct raft_message *message, kith_buf *buf);
/* `message_out`->server_id is the sender's; its server_address is left for the caller. CORRUPT when the bytes are no
 * message of this version. */
KITH_CHECK kith_status kith_raft_message_decode(const void *bytes, size_t byte_count,
    kith_meta_member *from_out, struct raft_message *message_out, kith_err *err);
/* Of a message that the core did not get. */
void kith_raft_message_fini(struct raft_message *message);

void kith_raft_answer_encode(uint64_t configuration_index, kith_buf *buf);
/* False: an empty answer, or none of this version. */
bool kith_raft_answer_decode(const void *bytes, size_t byte_count, uint64_t *configuration_index_out);

#endif
