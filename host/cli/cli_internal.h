/* Private to host/cli: arguments, the session with the server, and output. A command is a row of the table in
 * cli.c and one function. Errors are written once, to stderr, by the function that returns an exit status
 * other than 0. */
#ifndef KITH_CLI_CLI_INTERNAL_H
#define KITH_CLI_CLI_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/cli/cli.h"
#include "host/codec/codec_client.h"
#include "host/codec/codec_cluster_api.h"
#include "host/env/env.h"
#include "host/grpc/grpc_client.h"

#define KITH_CLI_OPTIONS_MAX   64u   /* options given in one command */
#define KITH_CLI_ARGUMENTS_MAX 4096u /* ids on one command line */

typedef struct kith_cli kith_cli;

/* --- arguments (cli_args.c) --------------------------------------------------------------------------------
 */

typedef struct kith_cli_option {
    const char *name;  /* "--dim"; a table ends with NULL */
    const char *value; /* what help calls its value; NULL: it takes none */
    const char *help;
} kith_cli_option;

typedef struct kith_cli_command {
    const char *name;      /* of a group of commands two words: "cluster status" */
    const char *arguments; /* as help shows them: "NAME FILE" */
    uint32_t arguments_least, arguments_most;
    const char *summary; /* one line of the command list */
    const kith_cli_option *options;
    const char *details; /* the rest of the help page: what to know, then examples */
    int (*run)(kith_cli *cli);
} kith_cli_command;

typedef struct kith_cli_given {
    const kith_cli_option *option;
    const char *value; /* NULL for a switch */
} kith_cli_given;

typedef struct kith_cli_args {
    const kith_cli_command *command;
    const char *group; /* the first word of one of two, while the second has not come */
    const char *arguments[KITH_CLI_ARGUMENTS_MAX];
    uint32_t argument_count;
    kith_cli_given given[KITH_CLI_OPTIONS_MAX]; /* in the order written */
    uint32_t given_count;
    bool help;
} kith_cli_args;

extern const kith_cli_option kith_cli_global_options[];

/* INVALID with a sentence for the person when the line is wrong. */
KITH_CHECK kith_status kith_cli_args_parse(
    int argc, char **argv, const kith_cli_command *commands, kith_cli_args *args_out, kith_err *err);
bool kith_cli_args_has(const kith_cli_args *args, const char *name);
/* The last one given, or `otherwise`. */
const char *kith_cli_args_text(const kith_cli_args *args, const char *name, const char *otherwise);
/* False (and the message on stderr) when the value is not a number in least..most. */
bool kith_cli_args_u64(const kith_cli_args *args, const char *name, uint64_t otherwise, uint64_t least,
    uint64_t most, uint64_t *value_out);
bool kith_cli_args_f64(const kith_cli_args *args, const char *name, double otherwise, double least,
    double most, double *value_out);
/* --read; false (and the message on stderr) when it is none of its words. */
bool kith_cli_args_read(const kith_cli_args *args, kith_read_consistency *read_out);
/* The entry of `names` (NULL at the end) with the fewest edits to `text`; NULL when none is near. */
const char *kith_cli_nearest(const char *text, const char *const *names);
/* `group` NULL: of all. */
void kith_cli_help(const kith_cli_command *commands, const char *group);
void kith_cli_command_help(const kith_cli_command *command);

/* --- the session (cli_session.c) ---------------------------------------------------------------------------
 */

struct kith_cli {
    kith_env *env;
    kith_cli_args args;
    const char *server;
    uint64_t timeout_ms;
    bool json;
    kith_grpc_client *client;
    kith_arena arena; /* of the command */
    kith_buf request; /* of the next call */
    kith_buf reply;
    kith_buf out; /* stdout, until kith_cli_flush */
    kith_err err;
};

/* Prints "kith: <message>" and returns `status`. */
int kith_cli_fail(kith_cli_exit status, const char *format, ...) KITH_PRINTF(2, 3);
/* An exit status; not OK has said why. */
int kith_cli_connect(kith_cli *cli, uint32_t connections);
/* Sends cli->request (and clears it) to `method`; cli->reply is the answer. An exit status. */
int kith_cli_call(kith_cli *cli, const char *method);
/* The sentence for a refusal, with what to do next. */
void kith_cli_explain(kith_buf *text, int grpc_code, const char *message);
/* The answer's bytes were wrong: prints cli->err. */
int kith_cli_broken(kith_cli *cli);
/* A command-line id: digits are a number; in double quotes, or anything else, a string (or UUID). */
KITH_CHECK kith_status kith_cli_id(kith_cli *cli, const char *text, kith_id *id_out, kith_err *err);
kith_request_id kith_cli_request_id(kith_cli *cli);
/* Of the collection named by the first argument. An exit status. */
int kith_cli_describe(kith_cli *cli, kith_codec_client_collection *collection_out);
/* Queries are bytes to the server, which would take one of twice the dim for two. An exit status. */
int kith_cli_check_dim(kith_cli *cli, const char *field, uint32_t dim);

/* --- output (cli_output.c) ---------------------------------------------------------------------------------
 */

/* Writes cli->out to stdout. An exit status. */
int kith_cli_flush(kith_cli *cli);
/* cli->out, member by member: `"key": ` behind a comma unless it follows '{'. */
void kith_cli_json_key(kith_buf *out, const char *key);
void kith_cli_json_text(kith_buf *out, const char *key, const char *value);
void kith_cli_json_u64(kith_buf *out, const char *key, uint64_t value);
void kith_cli_json_f64(kith_buf *out, const char *key, double value);
void kith_cli_json_bool(kith_buf *out, const char *key, bool value);
/* JSON that is kept as it was written, without line breaks; NULL: null. `key` NULL: it alone. */
void kith_cli_json_raw(kith_buf *out, const char *key, const char *json, size_t bytes);
/* Its members, for an object that the caller opens and closes; and as an object. */
void kith_cli_json_collection_members(kith_buf *out, const kith_codec_client_collection *collection);
void kith_cli_json_collection(kith_buf *out, const kith_codec_client_collection *collection);
/* As the member "coverage". */
void kith_cli_json_coverage(kith_buf *out, const kith_codec_client_coverage *coverage);
/* Says on stderr which shards did not answer, and returns PARTIAL; OK when all did. */
int kith_cli_say_coverage(const kith_codec_client_coverage *coverage);
/* 1234567 as 1,234,567. */
void kith_cli_append_grouped(kith_buf *out, uint64_t value);
/* "12.3 MiB". */
void kith_cli_append_size(kith_buf *out, uint64_t bytes);

/* No copy of it that is in sync is on a node that is up: nobody leads it. */
bool kith_cli_shard_is_lost(const kith_codec_cluster_shard *shard);
/* "data-1, data-2 (DOWN)": who has it, and what is wrong with each. */
void kith_cli_append_replicas(kith_buf *out, const kith_codec_cluster_shard *shard);

/* A table whose columns are as wide as their widest cell; numbers (right-aligned columns) are marked '>'. */
typedef struct kith_cli_table {
    const char *alignment; /* one of '<' and '>' a column */
    kith_buf cells;        /* NUL-terminated texts, row by row */
    uint32_t cell_count;
} kith_cli_table;

void kith_cli_table_init(kith_cli_table *table, const char *alignment);
void kith_cli_table_cell(kith_cli_table *table, const char *format, ...) KITH_PRINTF(2, 3);
/* Appends the table to `out` and ends it. */
void kith_cli_table_fini(kith_cli_table *table, kith_buf *out);

/* One line on stderr that rewrites itself, only when stderr is a terminal. */
typedef struct kith_cli_progress {
    kith_env *env;
    const char *what; /* "points" */
    uint64_t began_ns, shown_ns;
    bool on;
} kith_cli_progress;

void kith_cli_progress_init(kith_cli_progress *progress, kith_env *env, const char *what);
/* `fraction` of the work is done, `count` things. */
void kith_cli_progress_show(kith_cli_progress *progress, double fraction, uint64_t count);
void kith_cli_progress_fini(kith_cli_progress *progress);

/* --- commands ----------------------------------------------------------------------------------------------
 */

int kith_cli_create(kith_cli *cli);
int kith_cli_list(kith_cli *cli);
int kith_cli_describe_run(kith_cli *cli);
int kith_cli_update(kith_cli *cli);
int kith_cli_drop(kith_cli *cli);
int kith_cli_load(kith_cli *cli);
int kith_cli_search(kith_cli *cli);
int kith_cli_get(kith_cli *cli);
int kith_cli_delete(kith_cli *cli);
int kith_cli_count(kith_cli *cli);
int kith_cli_scroll(kith_cli *cli);
int kith_cli_status(kith_cli *cli);
int kith_cli_bench(kith_cli *cli);
int kith_cli_cluster_status(kith_cli *cli);
int kith_cli_cluster_nodes(kith_cli *cli);
int kith_cli_cluster_shards(kith_cli *cli);
int kith_cli_cluster_join(kith_cli *cli);
int kith_cli_cluster_leave(kith_cli *cli);
int kith_cli_cluster_drain(kith_cli *cli);
int kith_cli_cluster_accept_loss(kith_cli *cli);
int kith_cli_cluster_up(kith_cli *cli);
int kith_cli_cluster_certs(kith_cli *cli);

#endif
