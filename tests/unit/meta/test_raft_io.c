/* One real member, and two peers that say what the test has them say: leaders of terms that would take a long history to
 * come about. Each test is a fault of libraft's core that is mended around it (host/meta/raft_guard.h, raft_io_net.c). */
#include "host/meta/raft_guard.h"
#include "host/meta/raft_io.h"
#include "tests/unit/meta/raft_cluster.h"

typedef struct stage stage;

typedef struct peer {
    stage *stage;
    kith_transport *transport;
    kith_meta_member member;
    /* What it was sent by the real one. */
    uint32_t snapshot_count;
    uint64_t snapshot_index; /* of the last one */
    uint64_t append_prev_index;
    uint32_t append_entry_count;
    uint32_t answer_count;
    struct raft_append_entries_result answer; /* the last one */
} peer;

struct stage {
    cluster *all;
    cluster_node *node; /* the real one */
    peer peers[2];
    /* The last acknowledgement. */
    bool answered;
    struct raft_append_entries_result answer;
    struct raft_request_vote_result vote; /* the last answer to who stands for election */
};

static void peer_heard(void *ctx, kith_transport_request *request) {
    peer *self = ctx;
    kith_meta_member from;
    struct raft_message message;
    kith_err err;
    assert_ok(kith_raft_message_decode(request->bytes, request->byte_count, &from, &message, &err), &err);
    if (message.type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        self->stage->answered = true;
        self->stage->answer = message.append_entries_result;
        self->answer_count++;
        self->answer = message.append_entries_result;
    }
    if (message.type == RAFT_IO_REQUEST_VOTE_RESULT) self->stage->vote = message.request_vote_result;
    if (message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        self->snapshot_count++;
        self->snapshot_index = message.install_snapshot.last_index;
    }
    if (message.type == RAFT_IO_APPEND_ENTRIES) {
        self->append_prev_index = message.append_entries.prev_log_index;
        self->append_entry_count = message.append_entries.n_entries;
    }
    kith_raft_message_fini(&message);
    kith_transport_reply(request, self->transport, KITH_OK, NULL, 0, NULL);
}

static stage *stage_create(uint32_t threshold, uint32_t trailing) {
    stage *s = kith_alloc_zero(sizeof *s);
    s->all = cluster_create(test_seed(1), 3, 3, threshold, trailing);
    s->node = &s->all->nodes[0];
    for (uint32_t i = 0; i < 2; i++) {
        cluster_node *away = &s->all->nodes[i + 1];
        cluster_node_stop(away);
        peer *own = &s->peers[i];
        own->stage = s;
        own->member = away->member;
        kith_transport_sim_options options = {.env = away->env,
            .network = s->all->network,
            .node = own->member.id,
            .address = own->member.address,
            .in_flight_max = 100};
        kith_err err;
        assert_ok(kith_transport_sim_create(&options, &own->transport, &err), &err);
        kith_transport_handle(own->transport, KITH_AM_RAFT, NULL, peer_heard, own);
    }
    return s;
}

static void stage_destroy(stage *s) {
    if (s->node->running) cluster_node_stop(s->node);
    cluster_run_ms(s->all, 500);
    for (uint32_t i = 0; i < 2; i++)
        kith_transport_destroy(s->peers[i].transport);
    cluster_destroy(s->all);
    kith_free(s);
}

/* --- what peers say --- */

typedef struct spoken {
    kith_transport_call call;
    bool done;
    kith_status status;
} spoken;

static void spoken_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    (void)reply;
    (void)reply_bytes;
    (void)err;
    spoken *own = (spoken *)(void *)call;
    own->done = true;
    own->status = status;
}

static kith_status say_bytes(stage *s, uint32_t number, const void *bytes, size_t byte_count) {
    spoken own = {.call = {.node = s->node->member.id,
                      .address = s->node->member.address,
                      .kind = KITH_AM_RAFT,
                      .bytes = bytes,
                      .byte_count = byte_count,
                      .deadline_ns = kith_env_now_ns(s->node->env) + 1000 * MS,
                      .done = spoken_done}};
    s->answered = false;
    kith_transport_start(s->peers[number].transport, &own.call);
    cluster_run_ms(s->all, 20);
    assert_true(own.done);
    return own.status;
}

static kith_status say_as(
    stage *s, uint32_t number, const kith_meta_member *from, const struct raft_message *message) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_raft_message_encode(from, message, &buf);
    kith_status status = say_bytes(s, number, buf.data, buf.bytes);
    kith_buf_fini(&buf);
    return status;
}

static void say(stage *s, uint32_t number, const struct raft_message *message) {
    assert_int_equal(say_as(s, number, &s->peers[number].member, message), KITH_OK);
}

/* A command that makes the collection "c<index>". */
static void command_make(uint64_t index, kith_buf *buf) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .collection = {.shard_count = 1,
            .schema = {
                .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}}}};
    snprintf(command.collection.name, sizeof command.collection.name, "c%llu", (unsigned long long)index);
    kith_codec_meta_command_encode(&command, buf);
}

typedef struct append_terms {
    uint64_t term, prev_index, prev_term, commit;
    uint32_t count;
    uint64_t entry_term;
} append_terms;

static void say_append(stage *s, uint32_t number, append_terms terms) {
    struct raft_entry entries[16];
    kith_buf bufs[16];
    for (uint32_t i = 0; i < terms.count; i++) {
        kith_buf_init(&bufs[i]);
        command_make(terms.prev_index + 1 + i, &bufs[i]);
        entries[i] = (struct raft_entry){.term = terms.entry_term,
            .type = RAFT_COMMAND,
            .buf = {.base = bufs[i].data, .len = bufs[i].bytes}};
    }
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {.term = terms.term,
            .prev_log_index = terms.prev_index,
            .prev_log_term = terms.prev_term,
            .leader_commit = terms.commit,
            .entries = entries,
            .n_entries = terms.count}};
    say(s, number, &message);
    for (uint32_t i = 0; i < terms.count; i++)
        kith_buf_fini(&bufs[i]);
}

static void assert_acknowledged(const stage *s, uint64_t index) {
    assert_true(s->answered);
    assert_int_equal(s->answer.rejected, 0);
    assert_int_equal(s->answer.last_log_index, index);
}

/* --- tests --- */

static void test_raft_io__leftovers_of_another_leader_are_not_acknowledged(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    say_append(s, 0, (append_terms){.term = 5, .prev_index = 1, .prev_term = 1, .count = 4, .entry_term = 5});
    assert_acknowledged(s, 5);
    /* A later leader whose log ends at 3 so far: 4 and 5 are not its entries. */
    say_append(s, 1, (append_terms){.term = 6, .prev_index = 3, .prev_term = 5});
    assert_acknowledged(s, 3);
    say_append(s, 1, (append_terms){.term = 6, .prev_index = 3, .prev_term = 5, .count = 1, .entry_term = 6});
    assert_acknowledged(s, 4);
    stage_destroy(s);
}

static void say_snapshot(stage *s, uint32_t number, uint64_t term, uint64_t index, uint64_t last_term) {
    kith_meta_fsm fsm;
    kith_meta_result result;
    kith_meta_fsm_init(&fsm);
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .collection = {.name = "of-the-snapshot",
            .shard_count = 1,
            .schema = {
                .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}}}};
    kith_meta_state_apply(&fsm.state, index, &command, &result);
    kith_buf data;
    kith_buf_init(&data);
    kith_meta_fsm_snapshot(&fsm, &data);
    kith_meta_fsm_fini(&fsm);
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT,
        .install_snapshot = {.term = term,
            .last_index = index,
            .last_term = last_term,
            .conf_index = 1,
            .data = {.base = data.data, .len = data.bytes}}};
    raft_configuration_init(&message.install_snapshot.conf);
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    for (uint32_t i = 0; i < 3; i++) {
        const kith_meta_member *member = &s->all->nodes[i].member;
        kith_raft_address_format(member, address);
        assert_int_equal(raft_configuration_add(
                             &message.install_snapshot.conf, kith_raft_id(&member->id), address, RAFT_VOTER),
            0);
    }
    say(s, number, &message);
    raft_configuration_close(&message.install_snapshot.conf);
    kith_buf_fini(&data);
}

static void test_raft_io__later_entry_is_not_taken_for_a_snapshots(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    /* A leader of term 5 that reached no majority; what won is of term 3 and was committed by the leader of term 7. */
    say_append(s, 0, (append_terms){.term = 5, .prev_index = 1, .prev_term = 1, .count = 4, .entry_term = 5});
    say_snapshot(s, 1, 7, 4, 3);
    assert_acknowledged(s, 4);
    assert_int_equal(s->node->restored_count, 1);
    assert_true(cluster_node_has(s->node, "of-the-snapshot"));
    say_append(s, 1,
        (append_terms){.term = 7, .prev_index = 4, .prev_term = 3, .commit = 5, .count = 1, .entry_term = 7});
    assert_acknowledged(s, 5);
    assert_true(cluster_node_has(s->node, "c5"));
    cluster_node_crash(s->node, SIM_CRASH_LOSE_ALL);
    cluster_node_restart(s->node);
    say_append(s, 1, (append_terms){.term = 7, .prev_index = 5, .prev_term = 7, .commit = 5});
    assert_acknowledged(s, 5);
    assert_true(cluster_node_has(s->node, "of-the-snapshot"));
    assert_true(cluster_node_has(s->node, "c5"));
    stage_destroy(s);
}

/* The configuration with the second peer alone, as an entry that no majority has. */
static void say_change(stage *s, append_terms terms) {
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    for (uint32_t i = 0; i < 2; i++) {
        kith_raft_address_format(&s->all->nodes[i].member, address);
        assert_int_equal(raft_configuration_add(
                             &configuration, kith_raft_id(&s->all->nodes[i].member.id), address, RAFT_VOTER),
            0);
    }
    struct raft_buffer encoded;
    assert_int_equal(raft_configuration_encode(&configuration, &encoded), 0);
    struct raft_entry entry = {.term = terms.entry_term, .type = RAFT_CHANGE, .buf = encoded};
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {.term = terms.term,
            .prev_log_index = terms.prev_index,
            .prev_log_term = terms.prev_term,
            .leader_commit = terms.commit,
            .entries = &entry,
            .n_entries = 1}};
    say(s, 0, &message);
    raft_free(encoded.base);
    raft_configuration_close(&configuration);
}

static uint32_t member_count(const stage *s) {
    kith_meta_log_raft_status_report report;
    kith_meta_log_raft_status(s->node->log, &report);
    return report.member_count;
}

static void configuration_rolls_back(bool restart) {
    stage *s = stage_create(4, 1);
    uint64_t index = 1;
    /* The first configuration goes into a snapshot. */
    for (uint32_t i = 0; i < 6; i++, index += 2) {
        say_append(s, 0,
            (append_terms){.term = 5,
                .prev_index = index,
                .prev_term = i ? 5 : 1,
                .commit = index,
                .count = 2,
                .entry_term = 5});
        assert_acknowledged(s, index + 2);
    }
    say_change(
        s, (append_terms){.term = 5, .prev_index = index, .prev_term = 5, .commit = index, .entry_term = 5});
    assert_acknowledged(s, index + 1);
    assert_int_equal(member_count(s), 2);
    if (restart) {
        cluster_node_crash(s->node, SIM_CRASH_LOSE_ALL);
        cluster_node_restart(s->node);
        assert_int_equal(member_count(s), 2);
    }
    say_append(s, 1,
        (append_terms){.term = 6,
            .prev_index = index,
            .prev_term = 5,
            .commit = index + 1,
            .count = 1,
            .entry_term = 6});
    assert_acknowledged(s, index + 1);
    assert_int_equal(member_count(s), 3);
    assert_int_equal(s->node->fsm.state.collection_count, index);
    stage_destroy(s);
}

static void test_raft_io__configuration_rolls_back_behind_a_snapshot(void **unused) {
    (void)unused;
    configuration_rolls_back(false);
}

static void test_raft_io__configuration_rolls_back_after_a_restart(void **unused) {
    (void)unused;
    configuration_rolls_back(true);
}

static uint64_t snapshot_index_on_disk(const stage *s) {
    kith_raft_snapshot snapshot;
    kith_err err;
    assert_ok(kith_raft_snapshot_read(s->node->env, "data/meta", &snapshot, &err), &err);
    uint64_t index = snapshot.index;
    kith_raft_snapshot_fini(&snapshot);
    return index;
}

static void test_raft_io__install_ends_what_was_not_committed(void **unused) {
    (void)unused;
    stage *s = stage_create(4, 1);
    say_change(s, (append_terms){.term = 5, .prev_index = 1, .prev_term = 1, .commit = 1, .entry_term = 5});
    assert_int_equal(member_count(s), 2);
    say_snapshot(s, 1, 6, 20, 6);
    assert_acknowledged(s, 20);
    assert_int_equal(member_count(s), 3);
    say_append(s, 1,
        (append_terms){
            .term = 6, .prev_index = 20, .prev_term = 6, .commit = 28, .count = 8, .entry_term = 6});
    assert_acknowledged(s, 28);
    cluster_run_ms(s->all, 20);
    assert_int_equal(snapshot_index_on_disk(s), 28);
    stage_destroy(s);
}

/* A leader that missed the acknowledgements begins where the log is a snapshot by now. */
static void test_raft_io__entries_that_a_snapshot_has_are_acknowledged(void **unused) {
    (void)unused;
    stage *s = stage_create(4, 1);
    append_terms all = {.term = 5, .prev_index = 1, .prev_term = 1, .commit = 9, .count = 8, .entry_term = 5};
    say_append(s, 0, all);
    assert_acknowledged(s, 9);
    cluster_run_ms(s->all, 20);
    assert_int_equal(snapshot_index_on_disk(s), 9);
    say_append(s, 0, all);
    assert_acknowledged(s, 9);
    all.count = 3;
    say_append(s, 0, all);
    assert_acknowledged(s, 9);
    all.count = 0;
    say_append(s, 0, all);
    assert_acknowledged(s, 9);
    all.count = 10;
    say_append(s, 0, all);
    assert_acknowledged(s, 11);
    assert_int_equal(s->node->fsm.state.collection_count, 8);
    stage_destroy(s);
}

static void assert_term_on_disk(const stage *s, uint64_t term, uint64_t vote) {
    kith_raft_term found;
    kith_err err;
    assert_ok(kith_raft_term_open(s->node->env, "data/meta", &found, &err), &err);
    assert_int_equal(found.term, term);
    assert_int_equal(found.vote, vote);
    kith_raft_term_close(&found);
}

/* By peer 0, whose log nobody's is ahead of. */
static struct raft_message vote_asked(const stage *s, raft_term term) {
    return (struct raft_message){.type = RAFT_IO_REQUEST_VOTE,
        .request_vote = {.term = term,
            .candidate_id = kith_raft_id(&s->peers[0].member.id),
            .last_log_index = 9,
            .last_log_term = 9,
            .disrupt_leader = true}};
}

static void test_raft_io__vote_survives_a_crash_and_ends_with_its_term(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    struct raft_message vote = vote_asked(s, 40);
    say(s, 0, &vote);
    cluster_node_crash(s->node, SIM_CRASH_LOSE_ALL);
    cluster_node_restart(s->node);
    assert_term_on_disk(s, 40, kith_raft_id(&s->peers[0].member.id));
    say_append(s, 1, (append_terms){.term = 41, .prev_index = 1, .prev_term = 1});
    cluster_node_stop(s->node);
    assert_term_on_disk(s, 41, 0);
    stage_destroy(s);
}

/* Else a candidate that is two terms behind, and whose log is longer, is refused for ever, and refuses the other. */
static void test_raft_io__who_is_terms_behind_hears_the_term(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    struct raft_message vote = vote_asked(s, 40);
    say(s, 0, &vote);
    assert_true(s->vote.vote_granted);
    vote.request_vote.pre_vote = true;
    for (raft_term asked = 38; asked <= 41; asked++) {
        vote.request_vote.term = asked;
        say(s, 0, &vote);
        assert_int_equal(s->vote.vote_granted, asked >= 40);
        assert_int_equal(s->vote.term, asked < 40 ? 40 : asked); /* granted, the term that was asked for */
    }
    stage_destroy(s);
}

/* --- the real one leads --- */

enum { LED_TERM = 6, LED_SNAPSHOT_INDEX = 9 };

/* It leads in term 6; the log before entry 9 has gone into a snapshot, and entry 10 is the first of its own. */
static void lead(stage *s) {
    say_append(s, 1,
        (append_terms){.term = 5, .prev_index = 1, .prev_term = 1, .commit = 9, .count = 8, .entry_term = 5});
    assert_acknowledged(s, LED_SNAPSHOT_INDEX);
    cluster_run_ms(s->all, 20);
    assert_int_equal(snapshot_index_on_disk(s), LED_SNAPSHOT_INDEX);
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW,
        .timeout_now = {.term = 5, .last_log_index = LED_SNAPSHOT_INDEX, .last_log_term = 5}};
    say(s, 1, &now);
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE_RESULT,
        .request_vote_result = {.term = LED_TERM, .vote_granted = true, .pre_vote = raft_tribool_false}};
    say(s, 1, &vote);
    assert_true(s->peers[0].append_prev_index >= LED_SNAPSHOT_INDEX);
}

static void say_result(stage *s, uint64_t rejected, uint64_t last_index) {
    struct raft_message result = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.term = LED_TERM, .rejected = rejected, .last_log_index = last_index}};
    say(s, 0, &result);
}

/* To peer 0, which has entry 1 alone. */
static void be_sent_snapshot(stage *s) {
    say_result(s, LED_SNAPSHOT_INDEX, 1);
    cluster_run_ms(s->all, 100);
    assert_int_equal(s->peers[0].snapshot_count, 1);
    assert_int_equal(s->peers[0].snapshot_index, LED_SNAPSHOT_INDEX);
    assert_true(s->peers[0].append_prev_index > LED_SNAPSHOT_INDEX); /* heartbeats meanwhile */
}

static void assert_sent_what_is_behind_snapshot(stage *s) {
    cluster_run_ms(s->all, 100);
    assert_int_equal(s->peers[0].append_prev_index, LED_SNAPSHOT_INDEX);
    assert_true(s->peers[0].append_entry_count > 0);
}

static void test_raft_io__refusal_behind_an_acknowledgement_is_not_heard(void **unused) {
    (void)unused;
    stage *s = stage_create(4, 1);
    lead(s);
    be_sent_snapshot(s);
    say_result(s, 0, LED_SNAPSHOT_INDEX);
    say_result(s, LED_SNAPSHOT_INDEX, 1); /* said before the snapshot came */
    assert_sent_what_is_behind_snapshot(s);
    assert_int_equal(s->peers[0].snapshot_count, 1);
    stage_destroy(s);
}

/* Without the peer no command is taken: it must not wait as long as the largest snapshot may take. */
static void test_raft_io__unanswered_small_snapshot_is_soon_sent_again(void **unused) {
    (void)unused;
    stage *s = stage_create(4, 1);
    lead(s);
    be_sent_snapshot(s);
    for (uint32_t i = 0; i < 150 && s->peers[0].snapshot_count == 1; i++)
        say_result(s, s->peers[0].append_prev_index, 1);
    assert_int_equal(s->peers[0].snapshot_count, 2);
    say_result(s, 0, LED_SNAPSHOT_INDEX);
    assert_sent_what_is_behind_snapshot(s);
    stage_destroy(s);
}

static void assert_one_acknowledgement(const peer *own, uint64_t term, uint64_t index) {
    assert_int_equal(own->answer_count, 1);
    assert_int_equal(own->answer.rejected, 0);
    assert_int_equal(own->answer.term, term);
    assert_int_equal(own->answer.last_log_index, index);
}

static void test_raft_io__messages_wait_for_the_disk(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    sim_env_space_set(s->node->sim, 1); /* the append waits for room */
    say_append(s, 0, (append_terms){.term = 5, .prev_index = 1, .prev_term = 1, .count = 1, .entry_term = 5});
    assert_false(s->answered);
    say_append(s, 1, (append_terms){.term = 6, .prev_index = 1, .prev_term = 1, .count = 1, .entry_term = 6});
    cluster_run_ms(s->all, 2000); /* and it does not stand for election meanwhile */
    assert_false(s->answered);
    kith_meta_log_raft_status_report report;
    kith_meta_log_raft_status(s->node->log, &report);
    assert_int_equal(report.term, 5);
    sim_env_space_set(s->node->sim, UINT64_MAX);
    cluster_run_ms(s->all, 200);
    /* Each as its leader said it, one after the other. (Which of the two answers the network brings first is open.) */
    assert_one_acknowledgement(&s->peers[0], 5, 2);
    assert_one_acknowledgement(&s->peers[1], 6, 2);
    kith_meta_log_raft_status(s->node->log, &report);
    assert_int_equal(report.term, 6);
    stage_destroy(s);
}

static void test_raft_io__refuses_forgeries_and_noise(void **unused) {
    (void)unused;
    stage *s = stage_create(0, 0);
    assert_int_equal(say_bytes(s, 0, "noise", 5), KITH_INVALID);
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW, .timeout_now = {.term = 50}};
    assert_int_equal(say_as(s, 0, &s->peers[1].member, &now), KITH_DENIED);
    cluster_node_stop_log(s->node);
    assert_int_equal(say_as(s, 0, &s->peers[0].member, &now), KITH_UNAVAILABLE);
    cluster_node_free(s->node);
    stage_destroy(s);
}

int main(void) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_io__leftovers_of_another_leader_are_not_acknowledged),
        cmocka_unit_test(test_raft_io__later_entry_is_not_taken_for_a_snapshots),
        cmocka_unit_test(test_raft_io__configuration_rolls_back_behind_a_snapshot),
        cmocka_unit_test(test_raft_io__configuration_rolls_back_after_a_restart),
        cmocka_unit_test(test_raft_io__install_ends_what_was_not_committed),
        cmocka_unit_test(test_raft_io__entries_that_a_snapshot_has_are_acknowledged),
        cmocka_unit_test(test_raft_io__vote_survives_a_crash_and_ends_with_its_term),
        cmocka_unit_test(test_raft_io__who_is_terms_behind_hears_the_term),
        cmocka_unit_test(test_raft_io__refusal_behind_an_acknowledgement_is_not_heard),
        cmocka_unit_test(test_raft_io__unanswered_small_snapshot_is_soon_sent_again),
        cmocka_unit_test(test_raft_io__messages_wait_for_the_disk),
        cmocka_unit_test(test_raft_io__refuses_forgeries_and_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
