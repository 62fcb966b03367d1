#include "host/role/coordinator_form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"

#define MS_NS       UINT64_C(1000000)
#define ROUND_NS    (200 * MS_NS)
#define ASK_NS      (1000 * MS_NS)
#define TELL_ROUNDS 25u /* every 5 s: whom it waits for */

/* One address of the configuration. */
typedef struct form_peer {
    kith_transport_call call;
    kith_task task;
    kith_coordinator_form *form;
    const char *address;
    kith_status status;
    kith_buf reply;
    bool heard, fresh;
    kith_meta_member member;
    /* Of a cluster: */
    uint32_t member_count;
    kith_meta_member members[KITH_COORDINATORS_MAX];
} form_peer;

struct kith_coordinator_form {
    kith_coordinator_form_options options;
    kith_buf question;
    kith_timer timer;
    form_peer *peers; /* [address_count] */
    uint32_t open;    /* questions under way */
    uint32_t rounds;
    bool stopped, done;
};

static void round_start(kith_coordinator_form *form);

static void form_end(
    kith_coordinator_form *form, kith_status status, const kith_meta_member *members, uint32_t member_count) {
    form->done = true;
    form->options.done(form->options.ctx, status, members, member_count);
}

/* --- judging --- */

static int member_compare(const void *a, const void *b) {
    return memcmp(((const kith_meta_member *)a)->id.bytes, ((const kith_meta_member *)b)->id.bytes,
        sizeof(kith_node_id));
}

static bool lists_self(const kith_coordinator_form *form, const kith_meta_member *members, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (kith_node_id_equal(&members[i].id, &form->options.self)) return true;
    }
    return false;
}

static bool has_address(const kith_meta_member *members, uint32_t count, const char *address) {
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(members[i].address, address) == 0) return true;
    }
    return false;
}

/* The cluster of a peer is the one of the configuration, as it was when it began. */
static bool is_ours(const kith_coordinator_form *form, const form_peer *peer) {
    if (peer->member_count != form->options.address_count) return false;
    for (uint32_t i = 0; i < form->options.address_count; i++) {
        if (!has_address(peer->members, peer->member_count, form->options.addresses[i])) return false;
    }
    return lists_self(form, peer->members, peer->member_count);
}

/* True: it has ended. */
static bool cluster_found(kith_coordinator_form *form) {
    for (uint32_t i = 0; i < form->options.address_count; i++) {
        form_peer *peer = &form->peers[i];
        /* One that is of a cluster and knows no members yet is itself waiting, or has just begun. */
        if (!peer->heard || peer->fresh || peer->member_count == 0) continue;
        bool ours = is_ours(form, peer);
        qsort(peer->members, peer->member_count, sizeof *peer->members, member_compare);
        form_end(form, KITH_OK, peer->members, ours ? peer->member_count : 0);
        return true;
    }
    return false;
}

/* Two addresses of one coordinator: it would have two votes. The rounds go on, for whoever reads the log. */
static bool one_is_there_twice(const kith_meta_member *members, uint32_t count) {
    for (uint32_t i = 1; i < count; i++)
        if (kith_node_id_equal(&members[i - 1].id, &members[i].id)) return true;
    return false;
}

/* True: it has ended. */
static bool all_are_fresh(kith_coordinator_form *form) {
    kith_meta_member members[KITH_COORDINATORS_MAX];
    uint32_t count = form->options.address_count;
    for (uint32_t i = 0; i < count; i++) {
        if (!form->peers[i].heard || !form->peers[i].fresh) return false;
        members[i] = form->peers[i].member;
    }
    qsort(members, count, sizeof *members, member_compare);
    if (one_is_there_twice(members, count)) return false;
    form_end(form, KITH_OK, members, lists_self(form, members, count) ? count : 0);
    return true;
}

/* Another address at which the same one answered before; NULL: there is none. */
static const char *other_address(const kith_coordinator_form *form, uint32_t index) {
    const form_peer *peer = &form->peers[index];
    for (uint32_t i = 0; i < index; i++) {
        const form_peer *other = &form->peers[i];
        if (other->heard && kith_node_id_equal(&other->member.id, &peer->member.id)) return other->address;
    }
    return NULL;
}

/* What it waits for. */
static void delay_tell(const kith_coordinator_form *form) {
    for (uint32_t i = 0; i < form->options.address_count; i++) {
        const form_peer *peer = &form->peers[i];
        const char *other = peer->heard ? other_address(form, i) : NULL;
        if (!peer->heard)
            kith_log_warn("coordinator_awaited", kith_kv_text("address", peer->address));
        else if (other)
            kith_log_error("coordinator_listed_twice", kith_kv_text("address", peer->address),
                kith_kv_text("also", other));
    }
}

static void round_due(kith_task *task) {
    kith_coordinator_form *form =
        (kith_coordinator_form *)(void *)((char *)task - offsetof(kith_coordinator_form, timer.task));
    if (form->stopped)
        form_end(form, KITH_CLOSED, NULL, 0); /* it came while this task was queued */
    else
        round_start(form);
}

static void round_end(kith_coordinator_form *form) {
    if (form->stopped) {
        form_end(form, KITH_CLOSED, NULL, 0);
        return;
    }
    if (cluster_found(form) || all_are_fresh(form)) return;
    if (++form->rounds % TELL_ROUNDS == 0) delay_tell(form);
    form->timer = (kith_timer){
        .task = {.run = round_due},
        .executor = form->options.executor,
        .due_ns = kith_env_now_ns(form->options.env) + ROUND_NS,
    };
    kith_timer_start(&form->timer);
}

/* --- asking --- */

static void reply_read(form_peer *peer) {
    kith_arena arena;
    kith_err err;
    kith_codec_coordinator_reply reply;
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_coordinator_reply_decode(peer->reply.data, peer->reply.bytes, &arena, &reply, &err);
    if (status == KITH_OK && !kith_node_id_is_none(&reply.self_id)) {
        peer->heard = true;
        peer->fresh = reply.fresh;
        peer->member.id = reply.self_id;
        snprintf(peer->member.address, sizeof peer->member.address, "%s", peer->address);
        peer->member_count = reply.member_count;
        for (uint32_t i = 0; i < reply.member_count; i++) {
            peer->members[i].id = reply.members[i].id;
            snprintf(
                peer->members[i].address, sizeof peer->members[i].address, "%s", reply.members[i].address);
        }
    }
    kith_arena_fini(&arena);
}

static void peer_answered(kith_task *task) {
    form_peer *peer = (form_peer *)(void *)((char *)task - offsetof(form_peer, task));
    peer->heard = false; /* what it said in an earlier round may have changed */
    if (peer->status == KITH_OK) reply_read(peer);
    kith_buf_fini(&peer->reply);
    if (--peer->form->open == 0) round_end(peer->form);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    form_peer *peer = (form_peer *)call;
    (void)err;
    peer->status = status;
    if (status == KITH_OK) kith_buf_append(&peer->reply, reply, reply_bytes);
    peer->task = (kith_task){.run = peer_answered};
    kith_executor_post(peer->form->options.executor, &peer->task);
}

static void round_start(kith_coordinator_form *form) {
    uint32_t count = form->options.address_count;
    form->open = count;
    for (uint32_t i = 0; i < count; i++) {
        form_peer *peer = &form->peers[i];
        kith_buf_init(&peer->reply);
        peer->call = (kith_transport_call){
            .address = peer->address,
            .kind = KITH_AM_COORDINATOR,
            .bytes = form->question.data,
            .byte_count = form->question.bytes,
            .deadline_ns = kith_env_now_ns(form->options.env) + ASK_NS,
            .done = call_done,
        };
        kith_transport_start(form->options.transport, &peer->call);
    }
}

/* --- life --- */

kith_coordinator_form *kith_coordinator_form_create(const kith_coordinator_form_options *options) {
    kith_coordinator_form *form = kith_alloc_zero(sizeof *form);
    form->options = *options;
    form->peers = kith_alloc_zero(options->address_count * sizeof *form->peers);
    kith_buf_init(&form->question);
    kith_codec_coordinator_request_encode(
        &(kith_codec_coordinator_request){.kind = KITH_CODEC_COORDINATOR_STATUS, .address = ""},
        &form->question);
    for (uint32_t i = 0; i < options->address_count; i++) {
        form->peers[i].form = form;
        form->peers[i].address = options->addresses[i];
    }
    form->timer = (kith_timer){
        .task = {.run = round_due}, .executor = options->executor, .due_ns = kith_env_now_ns(options->env)};
    kith_timer_start(&form->timer);
    return form;
}

void kith_coordinator_form_stop(kith_coordinator_form *form) {
    if (form->stopped || form->done) return;
    form->stopped = true;
    if (form->open > 0) {
        for (uint32_t i = 0; i < form->options.address_count; i++)
            kith_transport_cancel(form->options.transport, &form->peers[i].call);
    } else if (kith_timer_cancel(&form->timer)) {
        form_end(form, KITH_CLOSED, NULL, 0);
    } /* else the timer's task is queued: it ends it */
}

void kith_coordinator_form_destroy(kith_coordinator_form *form) {
    if (!form) return;
    kith_buf_fini(&form->question);
    kith_free(form->peers);
    kith_free(form);
}
