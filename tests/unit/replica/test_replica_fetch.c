/* Copies of a shard as their source gives them out, asked for by readers that are no replicas: how many at once, and for how long. */
#include "host/codec/codec_replica.h"
#include "tests/unit/replica/replica_bed.h"

#include <stdio.h>
#include <string.h>

#define SOURCES_MAX 4u /* of replica_fetch.c */
#define READERS     (SOURCES_MAX + 1)

typedef struct reader {
    kith_transport_call call; /* first */
    bed *all;
    kith_transport *transport;
    uint64_t snapshot_id, offset, total_bytes;
    kith_buf bytes; /* of the call */
    bool is_done;
    kith_status status;
} reader;

/* Beside machine 1, with an address and an id of its own. */
static void reader_begin(bed *all, uint32_t number, reader *own) {
    kith_err err;
    char address[16];
    snprintf(address, sizeof address, "r%u:1", number);
    *own = (reader){.all = all};
    kith_transport_sim_options options = {.env = all->machines[1].env,
        .network = all->network,
        .node = {{(uint8_t)(100 + number)}},
        .address = address,
        .in_flight_max = 10};
    uint32_t host = kith_transport_sim_host(all->network, address);
    assert_ok(kith_transport_sim_create(&options, &own->transport, &err), &err);
    kith_transport_sim_power_set(all->network, host, KITH_TRANSPORT_SIM_UP);
}

static void read_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    reader *own = (reader *)call;
    kith_codec_fetch_reply piece;
    kith_err decode_err;
    (void)err;
    own->is_done = true;
    own->status = status;
    if (status != KITH_OK) return;
    assert_ok(kith_codec_fetch_reply_decode(reply, reply_bytes, &piece, &decode_err), &decode_err);
    assert_int_equal(piece.offset, own->offset);
    own->snapshot_id = piece.snapshot_id;
    own->total_bytes = piece.total_bytes;
    own->offset += piece.bytes;
}

/* For the next piece of machine 0's copy; the first takes it. */
static void reader_ask(reader *own, uint32_t bytes_max) {
    kith_codec_fetch_request request = {.shard_id = BED_SHARD,
        .epoch = own->all->shards[0].epoch,
        .snapshot_id = own->snapshot_id,
        .offset = own->offset,
        .bytes_max = bytes_max};
    kith_buf_init(&own->bytes);
    kith_codec_fetch_request_encode(&request, &own->bytes);
    own->is_done = false;
    own->call = (kith_transport_call){.node = own->all->nodes[0].id,
        .address = own->all->machines[0].address,
        .kind = KITH_AM_FETCH,
        .bytes = own->bytes.data,
        .byte_count = own->bytes.bytes,
        .deadline_ns = kith_env_now_ns(own->all->machines[1].env) + 1000 * BED_MS,
        .done = read_done};
    kith_transport_start(own->transport, &own->call);
}

static kith_status reader_await(reader *own) {
    for (uint32_t i = 0; !own->is_done && i < 1000; i++)
        bed_run_ms(own->all, 2);
    assert_true(own->is_done);
    kith_buf_fini(&own->bytes);
    return own->status;
}

static kith_status read_piece(reader *own, uint32_t bytes_max) {
    reader_ask(own, bytes_max);
    return reader_await(own);
}

static void read_all(reader *own) {
    do {
        assert_int_equal(read_piece(own, 500), KITH_OK);
    } while (own->offset < own->total_bytes);
}

static void readers_begin(bed *all, reader *readers) {
    bed_begin(all, &(bed_options){.min_in_sync = 2, .log_file_bytes = 64 << 10});
    for (uint64_t number = 0; number < 10; number++)
        assert_int_equal(bed_write(all, 0, number, 100, 1000), KITH_OK);
    for (uint32_t i = 0; i < READERS; i++)
        reader_begin(all, i, &readers[i]);
}

static void readers_end(bed *all, reader *readers) {
    for (uint32_t i = 0; i < READERS; i++)
        kith_transport_destroy(readers[i].transport);
    bed_end(all);
}

/* A node that comes back needs copies of many shards: those that it has read must not keep it from the others. */
static void test_replica_fetch__copies_that_were_read_make_room(void **state) {
    (void)state;
    bed all;
    reader readers[READERS];
    readers_begin(&all, readers);
    for (uint32_t i = 0; i < READERS; i++)
        read_all(&readers[i]);
    readers_end(&all, readers);
}

static void test_replica_fetch__copies_that_are_being_read_do_not(void **state) {
    (void)state;
    bed all;
    reader readers[READERS];
    readers_begin(&all, readers);
    for (uint32_t i = 0; i < SOURCES_MAX; i++)
        assert_int_equal(read_piece(&readers[i], 500), KITH_OK);
    assert_int_equal(read_piece(&readers[SOURCES_MAX], 500), KITH_BUSY);
    for (uint32_t i = 0; i < SOURCES_MAX; i++)
        read_all(&readers[i]);
    read_all(&readers[SOURCES_MAX]);
    readers_end(&all, readers);
}

/* Its reader may not have got the end. */
static void test_replica_fetch__a_copy_that_was_read_stays_until_its_place_is_needed(void **state) {
    (void)state;
    bed all;
    reader readers[READERS];
    readers_begin(&all, readers);
    for (uint32_t i = 0; i < SOURCES_MAX; i++)
        read_all(&readers[i]);
    for (uint32_t i = 0; i < SOURCES_MAX; i++) {
        readers[i].offset = 0;
        read_all(&readers[i]);
    }
    /* The oldest goes. */
    read_all(&readers[SOURCES_MAX]);
    readers[0].offset = 0;
    assert_int_equal(read_piece(&readers[0], 500), KITH_NOT_FOUND);
    readers[1].offset = 0;
    read_all(&readers[1]);
    readers_end(&all, readers);
}

/* Or a shard whose copy takes longer than its reader waits would be taken again and again, and never read. */
static void test_replica_fetch__a_copy_that_came_too_late_is_there_for_who_asks_again(void **state) {
    (void)state;
    bed all;
    reader readers[READERS];
    readers_begin(&all, readers);
    bed_run_ms(&all, 100);
    bed_background_hold(&all, 0, true);
    reader_ask(&readers[0], 500);
    bed_run_ms(&all, 10);
    assert_true(bed_background_step(&all, 0)); /* what is asked; the taking is held */
    assert_int_equal(reader_await(&readers[0]), KITH_DEADLINE);
    reader_ask(&readers[0], 500);
    bed_run_ms(&all, 10);
    bed_background_hold(&all, 0, false);
    assert_int_equal(reader_await(&readers[0]), KITH_OK);
    read_all(&readers[0]);
    assert_int_equal(readers[0].snapshot_id, 1);
    readers_end(&all, readers);
}

/* Its node is not to blame, and must not lose it for that. */
static void test_replica_fetch__who_waits_for_its_turn_is_not_taken_for_stalled(void **state) {
    (void)state;
    enum { BIG = 700000, WAITS_S = 20 };
    bed all;
    reader readers[READERS];
    kith_replica_stalled stalled;
    readers_begin(&all, readers);
    bed_crash(&all, 2);
    for (uint64_t number = 100; number < 112; number++)
        assert_int_equal(bed_write(&all, 0, number, BIG, 5000), KITH_OK);
    bed_seal(&all, 0);
    assert_int_equal(bed_write(&all, 0, 10, 10, 5000), KITH_OK); /* begins another log file */
    bed_seal(&all, 0);
    for (uint32_t i = 0; i < SOURCES_MAX; i++)
        assert_int_equal(read_piece(&readers[i], 500), KITH_OK);
    bed_start(&all, 2);
    bed_run_ms(&all, WAITS_S * 1000);
    assert_true(bed_events("replica_install_waits") > 0);
    kith_replica_set *replicas = all.machines[2].replicas;
    assert_int_equal(kith_replica_set_stalled(replicas, WAITS_S * 1000 / 2 * BED_MS, 1, &stalled), 0);
    readers_end(&all, readers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica_fetch__copies_that_were_read_make_room),
        cmocka_unit_test(test_replica_fetch__copies_that_are_being_read_do_not),
        cmocka_unit_test(test_replica_fetch__a_copy_that_was_read_stays_until_its_place_is_needed),
        cmocka_unit_test(test_replica_fetch__a_copy_that_came_too_late_is_there_for_who_asks_again),
        cmocka_unit_test(test_replica_fetch__who_waits_for_its_turn_is_not_taken_for_stalled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
