#include "tests/kernels/cuda_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"

/* Of the emulated plugin, linked into the test. */
const kith_cuda_plugin *kith_cuda_plugin_table(void);

enum { EMULATED = 1, REAL = 2 };

#ifndef KITH_TEST_CUDA_PLUGIN
#define KITH_TEST_CUDA_PLUGIN "libkith_cuda.so"
#endif

/* On a machine that did not build it, it lies elsewhere. */
static const char *plugin_path(void) {
    const char *path = getenv("KITH_TEST_CUDA_PLUGIN");
    return path ? path : KITH_TEST_CUDA_PLUGIN;
}

uint32_t cuda_fixture_kinds(void) {
    static uint32_t kinds;
    if (kinds) return kinds;
    const char *wanted = getenv("KITH_TEST_CUDA");
    kith_cuda *cuda = NULL;
    kith_err err;
    if (!wanted || strcmp(wanted, "real") != 0) kinds |= EMULATED;
    if (wanted && strcmp(wanted, "emu") == 0) return kinds;
    if (kith_cuda_open(plugin_path(), &cuda, &err) == KITH_OK) {
        kinds |= REAL;
        print_message("on %u cuda devices, too\n", kith_cuda_device_count(cuda));
    } else {
        print_message("no real device: %s\n", err.text);
        if (kinds == 0) fail_msg("KITH_TEST_CUDA=real: %s", err.text);
    }
    kith_cuda_close(cuda);
    return kinds;
}

static void on_retired(void *ctx, const char *reason) {
    cuda_fixture *f = ctx;
    f->retired_count++;
    print_message("retired: %s\n", reason);
}

void cuda_fixture_open(
    cuda_fixture *f, bool emulated, uint64_t seed, const kith_cuda_backend_options *options) {
    kith_err err;
    *f = (cuda_fixture){.emulated = emulated, .options = *options};
    if (emulated) {
        cuda_emu_reset(seed);
        if (options->scan == KITH_CUDA_SCAN_WGMMA) cuda_emu_arch(9, 0);
        assert_ok(kith_cuda_open_table("emulated", kith_cuda_plugin_table(), &f->cuda, &err), &err);
    } else {
        assert_ok(kith_cuda_open(plugin_path(), &f->cuda, &err), &err);
    }
    f->options.cuda = f->cuda;
    if (!f->options.retired) {
        f->options.retired = on_retired;
        f->options.ctx = f;
    }
    assert_ok(kith_cuda_backend_create(&f->options, &f->backend, &err), &err);
    kith_cuda_backend_install(f->backend);
}

void cuda_fixture_close(cuda_fixture *f) {
    kith_cuda_backend_destroy(f->backend);
    kith_cuda_close(f->cuda);
    if (!f->emulated) return;
    if (cuda_emu_report_count()) fail_msg("%s", cuda_emu_report(0));
    assert_int_equal(cuda_emu_object_count(), 0);
}

void cuda_answer_make(const kernels_case *c, const kith_compute_ops *ops, cuda_answer *out) {
    size_t hit_count = (size_t)c->shape.query_count * c->shape.k;
    out->hits = kith_alloc_array(hit_count + 1, sizeof *out->hits);
    out->counts = kith_alloc_array(c->shape.query_count + 1, sizeof *out->counts);
    kith_top_k_stats stats = {0};
    case_top_k(c, ops, out->hits, out->counts, &stats);
}

void cuda_answer_free(cuda_answer *answer) {
    kith_free(answer->hits);
    kith_free(answer->counts);
}

bool cuda_answers_equal(const kernels_case *c, const cuda_answer *a, const cuda_answer *b) {
    return case_hits_equal(c, a->hits, a->counts, b->hits, b->counts);
}

static void shape_fail(const cuda_fixture *f, const case_shape *s, const char *what) {
    fail_msg(
        "%s cuda: %s: metric %d type %d data %d codes %d dim %u rows %u queries %u k %u dead %d allow %d "
        "floors %d part %d seed %llu; emulator: %s",
        f->emulated ? "emulated" : "real", what, s->metric, s->type, s->data, s->codes, s->dim, s->row_count,
        s->query_count, s->k, s->dead, s->allow, s->floors, s->part, (unsigned long long)s->seed,
        f->emulated ? cuda_emu_report(0) : "");
}

void cuda_fixture_check(cuda_fixture *f, const case_shape *shape, kith_top_k_stats *stats) {
    kernels_case c;
    kith_err err;
    case_create(shape, &c);
    cuda_answer want, got;
    cuda_answer_make(&c, kith_compute_ref(), &want);
    assert_ok(kith_cuda_backend_upload(f->backend, &c.rows, &err), &err);
    size_t hit_count = (size_t)shape->query_count * shape->k;
    got.hits = kith_alloc_array(hit_count + 1, sizeof *got.hits);
    got.counts = kith_alloc_array(shape->query_count + 1, sizeof *got.counts);
    kith_top_k_job job = c.job;
    job.rows = &c.rows;
    job.scratch_bytes = kith_compute_cuda()->scratch_bytes(shape->dim, shape->query_count, shape->k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes);
    memset(job.scratch, 0xff, job.scratch_bytes);
    kith_top_k_stats own = {0};
    if (kith_compute_cuda()->top_k(&job, got.hits, got.counts, &own, &err) != KITH_OK)
        shape_fail(f, shape, err.text);
    if (!cuda_answers_equal(&c, &want, &got)) shape_fail(f, shape, "differs from ref");
    stats->rows_scanned += own.rows_scanned;
    stats->rows_coded += own.rows_coded;
    stats->code_survivors += own.code_survivors;
    stats->rows_rescored += own.rows_rescored;
    stats->wide_scans += own.wide_scans;
    kith_free(job.scratch);
    cuda_answer_free(&want);
    cuda_answer_free(&got);
    kith_cuda_backend_drop(f->backend, c.rows.vectors);
    case_destroy(&c);
}
