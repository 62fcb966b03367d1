/* kithd: the daemon. Reads its configuration, runs the role, waits for signals.
 *
 * Exit codes: 0 a clean stop, 1 it could not start or serve, 2 the command line or the configuration is wrong. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/hash.h"
#include "host/base/log.h"
#include "host/role/kithd_options.h"
#include "host/role/service.h"

#define EXIT_START 1
#define EXIT_USAGE 2

/* Calls in flight get this long at a stop, which is below Kubernetes' 30 s of grace. */
#define DRAIN_NS (20ULL * 1000 * 1000 * 1000)

extern char **environ;

static kith_config_options config_options(const kithd_options *options) {
    return (kith_config_options){
        .path = options->config_path,
        .env = (const char *const *)environ,
        .overrides = options->overrides,
    };
}

static void text_print(FILE *stream, const kith_buf *buf) {
    (void)fwrite(buf->data, 1, buf->bytes, stream);
}

static int config_print(const kith_config *config) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_config_print(config, &buf);
    text_print(stdout, &buf);
    kith_buf_fini(&buf);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_START;
}

static bool config_load(const kithd_options *options, kith_config *config_out) {
    kith_config_options load = config_options(options);
    kith_buf errors;
    kith_buf_init(&errors);
    kith_status status = kith_config_load(&load, config_out, &errors);
    if (status != KITH_OK) text_print(stderr, &errors);
    kith_buf_fini(&errors);
    return status == KITH_OK;
}

/* SIGHUP: the file is read again. A mistake in it changes nothing. */
static void config_reload(const kithd_options *options, kith_config *config, kith_service *service) {
    kith_config_options load = config_options(options);
    kith_buf errors, restart_keys;
    kith_buf_init(&errors);
    kith_buf_init(&restart_keys);
    kith_config next;
    kith_status status = kith_config_reload(config, &load, &next, &restart_keys, &errors);
    kith_buf_u8(&errors, 0);
    kith_buf_u8(&restart_keys, 0);
    if (status != KITH_OK) {
        kith_log_error("config_reload_failed", kith_kv_text("errors", (const char *)errors.data));
    } else {
        *config = next;
        service->ops->reload(service, config);
        kith_log_info("config_reloaded");
        if (restart_keys.bytes > 1) {
            kith_log_warn("config_needs_restart", kith_kv_text("keys", (const char *)restart_keys.data));
        }
    }
    kith_buf_fini(&restart_keys);
    kith_buf_fini(&errors);
}

static void signal_set_make(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

/* A second SIGTERM or SIGINT while stopping: whoever asks twice does not want to wait. Nothing acknowledged is lost by
 * it. From here on the kernel's default does it, for every thread has the signals blocked but this one. */
static void second_signal_kills(void) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &stop, NULL);
}

static void signals_wait(const kithd_options *options, kith_config *config, kith_service *service) {
    sigset_t set;
    signal_set_make(&set);
    for (;;) {
        int number = 0;
        if (sigwait(&set, &number) != 0) continue;
        if (number != SIGHUP) {
            kith_log_info("kithd_stopping", kith_kv_text("signal", number == SIGTERM ? "SIGTERM" : "SIGINT"));
            return;
        }
        config_reload(options, config, service);
    }
}

/* Scripts wait for this line. */
static void ready_tell(const kith_config *config, const kith_service *service) {
    kith_service_ports ports = service->ops->ports(service);
    const struct {
        const char *name;
        uint32_t port;
    } listeners[] = {{"grpc", ports.grpc}, {"http", ports.http}, {"node", ports.node}};
    printf("kithd ready:");
    for (size_t i = 0; i < sizeof listeners / sizeof *listeners; i++) {
        if (listeners[i].port)
            printf(" %s %s:%u,", listeners[i].name, config->bind_address, listeners[i].port);
    }
    printf(" data %s\n", config->data_dir);
    (void)fflush(stdout);
    kith_log_info("kithd_ready", kith_kv_u64("grpc_port", ports.grpc), kith_kv_u64("http_port", ports.http),
        kith_kv_u64("node_port", ports.node), kith_kv_text("data_dir", config->data_dir),
        kith_kv_text("version", KITH_VERSION));
}

/* Clients choose ids: they must not know which of them meet in a table. */
static void table_seed_draw(kith_env *env) {
    uint64_t seed;
    kith_env_random(env, &seed, sizeof seed);
    kith_hash_table_seed_set(seed);
}

static int serve(const kithd_options *options, kith_config *config) {
    kith_err err;
    kith_env *env;
    kith_service *service;
    sigset_t set;
    /* Before the first thread, so that all inherit it and signals come to sigwait alone. */
    signal_set_make(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    kith_log_configure((kith_log_level)config->log_level, (kith_log_format)config->log_format, NULL, NULL);
    kith_status status = kith_env_posix_create(&env, &err);
    if (status != KITH_OK) {
        fprintf(stderr, "kithd: %s\n", err.text);
        return EXIT_START;
    }
    table_seed_draw(env);
    status = kith_service_start(env, config, &service, &err);
    if (status != KITH_OK) {
        fprintf(stderr, "kithd: %s\n", err.text);
        kith_env_posix_destroy(env);
        return EXIT_START;
    }
    ready_tell(config, service);
    signals_wait(options, config, service);
    second_signal_kills();
    service->ops->stop(service, DRAIN_NS);
    kith_log_info("kithd_stopped");
    kith_env_posix_destroy(env);
    return EXIT_SUCCESS;
}

int main(int argument_count, char **arguments) {
    kithd_options options;
    kith_config config;
    kith_err err;
    kith_memory_tune();
    kith_status status = kithd_options_parse(argument_count, arguments, &options, &err);
    if (status != KITH_OK) {
        fprintf(stderr, "kithd: %s\n", err.text);
        return EXIT_USAGE;
    }
    int code = EXIT_SUCCESS;
    if (options.help)
        fputs(kithd_options_help(), stdout);
    else if (options.version)
        printf("kithd %s\n", KITH_VERSION);
    else if (!config_load(&options, &config))
        code = EXIT_USAGE;
    else if (options.print_config)
        code = config_print(&config);
    else
        code = serve(&options, &config);
    kithd_options_fini(&options);
    return code;
}
