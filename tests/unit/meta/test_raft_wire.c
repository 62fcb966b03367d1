/* Raft messages: each kind there and back, and nothing that is not one gets through. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/raft_wire.h"
#include "tests/lib/test_lib.h"

static kith_meta_member member_of(uint8_t fill, const char *address) {
    kith_meta_member member = {.address = {0}};
    memset(member.id.bytes, fill, sizeof member.id.bytes);
    snprintf(member.address, sizeof member.address, "%s", address);
    return member;
}

static void configuration_make(struct raft_configuration *configuration) {
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    raft_configuration_init(configuration);
    for (uint8_t i = 1; i <= 3; i++) {
        kith_meta_member member = member_of(i, "h:1");
        member.address[2] = (char)('0' + i);
        kith_raft_address_format(&member, address);
        assert_int_equal(raft_configuration_add(configuration, kith_raft_id(&member.id), address,
                             i == 3 ? RAFT_SPARE : RAFT_VOTER),
            0);
    }
}

/* Through the wire; every prefix and every flipped byte of it is refused. The result is the caller's. */
static struct raft_message there(const struct raft_message *message) {
    kith_meta_member from = member_of(9, "coordinator-9.example:7442"), from_out;
    kith_buf buf;
    kith_err err;
    struct raft_message out;
    kith_buf_init(&buf);
    kith_raft_message_encode(&from, message, &buf);
    for (size_t bytes = 0; bytes < buf.bytes; bytes++)
        assert_int_equal(kith_raft_message_decode(buf.data, bytes, &from_out, &out, &err), KITH_CORRUPT);
    for (size_t at = 0; at < buf.bytes; at++) {
        buf.data[at] ^= 0x20;
        assert_int_not_equal(kith_raft_message_decode(buf.data, buf.bytes, &from_out, &out, &err), KITH_OK);
        buf.data[at] ^= 0x20;
    }
    assert_ok(kith_raft_message_decode(buf.data, buf.bytes, &from_out, &out, &err), &err);
    assert_int_equal(out.type, message->type);
    assert_int_equal(out.server_id, kith_raft_id(&from.id));
    assert_true(kith_node_id_equal(&from_out.id, &from.id));
    assert_string_equal(from_out.address, from.address);
    kith_buf_fini(&buf);
    return out;
}

static void test_raft_wire__small_messages(void **unused) {
    (void)unused;
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE,
        .request_vote = {
            .term = 7, .candidate_id = 5, .last_log_index = 9, .last_log_term = 6, .pre_vote = true}};
    struct raft_message out = there(&vote);
    assert_int_equal(out.request_vote.term, 7);
    assert_int_equal(out.request_vote.candidate_id, 5);
    assert_int_equal(out.request_vote.last_log_index, 9);
    assert_int_equal(out.request_vote.last_log_term, 6);
    assert_true(out.request_vote.pre_vote);
    assert_false(out.request_vote.disrupt_leader);
    struct raft_message voted = {.type = RAFT_IO_REQUEST_VOTE_RESULT,
        .request_vote_result = {.term = 3, .vote_granted = true, .pre_vote = raft_tribool_false}};
    out = there(&voted);
    assert_true(out.request_vote_result.vote_granted);
    assert_int_equal(out.request_vote_result.pre_vote, raft_tribool_false);
    struct raft_message result = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.term = 3, .rejected = 12, .last_log_index = 8}};
    out = there(&result);
    assert_int_equal(out.append_entries_result.rejected, 12);
    assert_int_equal(out.append_entries_result.last_log_index, 8);
    struct raft_message now = {
        .type = RAFT_IO_TIMEOUT_NOW, .timeout_now = {.term = 3, .last_log_index = 2, .last_log_term = 1}};
    out = there(&now);
    assert_int_equal(out.timeout_now.last_log_index, 2);
}

/* Lengths that are and are not multiples of 8, one of them 0. */
static void test_raft_wire__entries_keep_their_lengths(void **unused) {
    (void)unused;
    char data[40];
    memset(data, 'x', sizeof data);
    struct raft_entry entries[12];
    for (uint32_t i = 0; i < 12; i++) {
        entries[i] = (struct raft_entry){.term = 4 + i / 6,
            .type = i % 2 ? RAFT_COMMAND : RAFT_BARRIER,
            .buf = {.base = data, .len = i * 3}};
    }
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {.term = 5,
            .prev_log_index = 3,
            .prev_log_term = 2,
            .leader_commit = 1,
            .entries = entries,
            .n_entries = 12}};
    struct raft_message out = there(&message);
    assert_int_equal(out.append_entries.n_entries, 12);
    for (uint32_t i = 0; i < 12; i++) {
        const struct raft_entry *entry = &out.append_entries.entries[i];
        assert_int_equal(entry->term, entries[i].term);
        assert_int_equal(entry->type, entries[i].type);
        assert_int_equal(entry->buf.len, i * 3);
        assert_int_equal((uintptr_t)entry->buf.base % 8, 0);
        if (i) assert_memory_equal(entry->buf.base, data, i * 3);
        assert_ptr_equal(entry->batch, out.append_entries.entries[0].batch);
    }
    kith_raft_message_fini(&out);
    message.append_entries.n_entries = 0;
    out = there(&message);
    assert_null(out.append_entries.entries);
}

static void test_raft_wire__long_messages_send_what_fits(void **unused) {
    (void)unused;
    size_t bytes = KITH_META_COMMAND_BYTES_MAX;
    char *data = kith_alloc_zero(bytes);
    struct raft_entry entries[9];
    for (uint32_t i = 0; i < 9; i++)
        entries[i] =
            (struct raft_entry){.term = 1, .type = RAFT_COMMAND, .buf = {.base = data, .len = bytes}};
    struct raft_message out,
        message = {.type = RAFT_IO_APPEND_ENTRIES,
            .append_entries = {
                .term = 1, .prev_log_index = 1, .prev_log_term = 1, .entries = entries, .n_entries = 9}};
    kith_meta_member from = member_of(1, "h:1"), from_out;
    kith_buf buf;
    kith_err err;
    kith_buf_init(&buf);
    kith_raft_message_encode(&from, &message, &buf);
    assert_ok(kith_raft_message_decode(buf.data, buf.bytes, &from_out, &out, &err), &err);
    assert_int_equal(out.append_entries.n_entries, 3);
    kith_raft_message_fini(&out);
    kith_buf_fini(&buf);
    kith_free(data);
}

static void test_raft_wire__snapshot_and_configuration(void **unused) {
    (void)unused;
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT,
        .install_snapshot = {.term = 9,
            .last_index = 30,
            .last_term = 8,
            .conf_index = 20,
            .data = {.base = (char[]){"metadata"}, .len = 8}}};
    configuration_make(&message.install_snapshot.conf);
    struct raft_message out = there(&message);
    assert_int_equal(out.install_snapshot.conf.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        const struct raft_server *server = &out.install_snapshot.conf.servers[i];
        assert_int_equal(server->id, message.install_snapshot.conf.servers[i].id);
        assert_string_equal(server->address, message.install_snapshot.conf.servers[i].address);
        assert_int_equal(server->role, i == 2 ? RAFT_SPARE : RAFT_VOTER);
    }
    assert_int_equal(out.install_snapshot.data.len, 8);
    assert_memory_equal(out.install_snapshot.data.base, "metadata", 8);
    kith_raft_message_fini(&out);
    raft_configuration_close(&message.install_snapshot.conf);
}

/* Whole, with a good checksum, and no sense: what the core would not check. */
static void assert_refused(const struct raft_message *message) {
    kith_meta_member from = member_of(1, "h:1"), from_out;
    struct raft_message out;
    kith_buf buf;
    kith_err err;
    kith_buf_init(&buf);
    kith_raft_message_encode(&from, message, &buf);
    assert_int_equal(kith_raft_message_decode(buf.data, buf.bytes, &from_out, &out, &err), KITH_CORRUPT);
    kith_buf_fini(&buf);
}

static void test_raft_wire__senseless_messages_are_refused(void **unused) {
    (void)unused;
    struct raft_entry entry = {.term = 1, .type = RAFT_COMMAND, .buf = {.base = (char[]){"x"}, .len = 1}};
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {
            .term = 1, .prev_log_index = 0, .prev_log_term = 0, .entries = &entry, .n_entries = 1}};
    assert_refused(&message);
    message.append_entries.prev_log_index = message.append_entries.prev_log_term = 1;
    entry.term = 0;
    assert_refused(&message);
    entry.term = 1;
    entry.type = 9;
    assert_refused(&message);
    entry.type = RAFT_CHANGE; /* not a configuration */
    assert_refused(&message);
    struct raft_message snapshot = {.type = RAFT_IO_INSTALL_SNAPSHOT,
        .install_snapshot = {.term = 9, .last_index = 5, .last_term = 8, .conf_index = 6}};
    configuration_make(&snapshot.install_snapshot.conf);
    assert_refused(&snapshot);
    raft_configuration_close(&snapshot.install_snapshot.conf);
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE, .request_vote = {.term = 1}};
    assert_refused(&vote);
}

static void test_raft_wire__names(void **unused) {
    (void)unused;
    char text[KITH_RAFT_ADDRESS_BYTES_MAX];
    kith_meta_member member = member_of(0xab, "[::1]:7442"), out;
    kith_raft_address_format(&member, text);
    assert_string_equal(text, "abababab-abab-abab-abab-abababababab@[::1]:7442");
    assert_true(kith_raft_address_parse(text, &out));
    assert_true(kith_node_id_equal(&out.id, &member.id));
    assert_string_equal(out.address, member.address);
    assert_false(kith_raft_address_parse("", &out));
    assert_false(kith_raft_address_parse("h:1", &out));
    assert_false(kith_raft_address_parse("abababab-abab-abab-abab-abababababab@", &out));
    assert_false(kith_raft_address_parse("abababab-abab-abab-abab-ababababababx[::1]:7442", &out));
    assert_false(kith_raft_address_parse("xbababab-abab-abab-abab-abababababab@h:1", &out));
    assert_int_equal(kith_raft_id(&(kith_node_id){{0}}), 1);
    uint64_t index;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_raft_answer_encode(44, &buf);
    assert_true(kith_raft_answer_decode(buf.data, buf.bytes, &index));
    assert_int_equal(index, 44);
    assert_false(kith_raft_answer_decode(buf.data, buf.bytes - 1, &index));
    assert_false(kith_raft_answer_decode("", 0, &index));
    kith_buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_wire__small_messages),
        cmocka_unit_test(test_raft_wire__entries_keep_their_lengths),
        cmocka_unit_test(test_raft_wire__long_messages_send_what_fits),
        cmocka_unit_test(test_raft_wire__snapshot_and_configuration),
        cmocka_unit_test(test_raft_wire__senseless_messages_are_refused),
        cmocka_unit_test(test_raft_wire__names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
