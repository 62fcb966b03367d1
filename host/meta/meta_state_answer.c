/* The first answers to commands with a request id, so that a repeat gets the first answer. Part of the state, bounded,
 * and walked from end to end: commands are rare. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/meta_state_internal.h"

static void answer_free(kith_codec_meta_answer *answer) {
    kith_free((void *)answer->message);
    kith_free((void *)answer->collection);
}

void kith_meta_state_answers_free(kith_meta_state *state) {
    for (uint32_t i = 0; i < state->answer_count; i++)
        answer_free(&state->answers[i]);
    kith_free(state->answers);
    state->answers = NULL;
    state->answer_count = 0;
}

void kith_meta_state_answer_add(kith_meta_state *state, const kith_codec_meta_answer *answer) {
    if (!state->answers) state->answers = kith_alloc_array(KITH_META_ANSWERS_MAX, sizeof *state->answers);
    if (state->answer_count == KITH_META_ANSWERS_MAX) {
        answer_free(&state->answers[0]);
        state->answer_count--;
        memmove(state->answers, state->answers + 1, state->answer_count * sizeof *state->answers);
    }
    kith_codec_meta_answer *added = &state->answers[state->answer_count++];
    *added = *answer;
    added->message = kith_strdup(answer->message);
    if (!answer->collection) return;
    kith_collection *collection = kith_alloc(sizeof *collection);
    *collection = *answer->collection;
    added->collection = collection;
}

bool kith_meta_state_answered(
    const kith_meta_state *state, const kith_request_id *request_id, kith_meta_result *result) {
    for (uint32_t i = 0; i < state->answer_count; i++) {
        const kith_codec_meta_answer *answer = &state->answers[i];
        bool same = answer->request_id.number == request_id->number &&
                    memcmp(answer->request_id.client, request_id->client, sizeof request_id->client) == 0;
        if (!same) continue;
        result->status = answer->status;
        result->answer_changed = answer->changed;
        if (answer->collection) result->collection = *answer->collection;
        if (answer->status != KITH_OK) kith_err_set(&result->err, answer->status, "%s", answer->message);
        return true;
    }
    return false;
}
