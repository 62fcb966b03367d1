/* The command line: one command, its arguments, and options anywhere, as "--name value" or "--name=value". A
 * name that is not known is answered with the nearest that is. */
#include <stdio.h>
#include <string.h>

#include "host/base/text.h"
#include "host/cli/cli_internal.h"

#define NEAR_EDITS_MAX 3u
#define NAME_BYTES_MAX 64u /* of a command */

const kith_cli_option kith_cli_global_options[] = {
    {"--server", "HOST:PORT", "the server (default: KITH_SERVER, else 127.0.0.1:7441)"},
    {"--timeout", "SECONDS", "longest wait for one answer (default 60)"},
    {"--json", NULL, "print JSON for programs"},
    {"--help", NULL, "this page"},
    {NULL, NULL, NULL},
};

const char *kith_cli_nearest(const char *text, const char *const *names) {
    const char *nearest = NULL;
    uint32_t fewest = NEAR_EDITS_MAX + 1;
    for (; *names; names++) {
        uint32_t edits = kith_text_distance(text, *names);
        if (edits >= fewest || edits >= strlen(*names)) continue;
        fewest = edits;
        nearest = *names;
    }
    return nearest;
}

static const kith_cli_option *find_option(const kith_cli_option *options, const char *name, size_t bytes) {
    for (; options->name; options++)
        if (strlen(options->name) == bytes && memcmp(options->name, name, bytes) == 0) return options;
    return NULL;
}

static kith_status unknown_option(const kith_cli_command *command, const char *name, kith_err *err) {
    const char *names[KITH_CLI_OPTIONS_MAX];
    uint32_t count = 0;
    for (const kith_cli_option *option = command->options; option->name; option++)
        names[count++] = option->name;
    for (const kith_cli_option *option = kith_cli_global_options; option->name; option++)
        names[count++] = option->name;
    names[count] = NULL;
    const char *nearest = kith_cli_nearest(name, names);
    if (nearest) {
        return kith_err_set(
            err, KITH_INVALID, "kith %s has no option %s; did you mean %s?", command->name, name, nearest);
    }
    return kith_err_set(err, KITH_INVALID, "kith %s has no option %s; kith %s --help lists them",
        command->name, name, command->name);
}

/* `name` is the first word of a command of two. */
static bool is_group(const char *name, const kith_cli_command *commands) {
    size_t bytes = strlen(name);
    for (; commands->name; commands++)
        if (strncmp(commands->name, name, bytes) == 0 && commands->name[bytes] == ' ') return true;
    return false;
}

static kith_status unknown_command(const char *name, const kith_cli_command *commands, kith_err *err) {
    const char *names[KITH_CLI_OPTIONS_MAX];
    uint32_t count = 0;
    for (const kith_cli_command *command = commands; command->name; command++)
        names[count++] = command->name;
    names[count] = NULL;
    const char *nearest = kith_cli_nearest(name, names);
    if (nearest)
        return kith_err_set(err, KITH_INVALID, "there is no command '%s'; did you mean '%s'?", name, nearest);
    return kith_err_set(err, KITH_INVALID, "there is no command '%s'; kith --help lists them", name);
}

/* Reads the option at argv[*index]; moves *index to the last word that belongs to it. */
static kith_status take_option(int argc, char **argv, int *index, kith_cli_args *args, kith_err *err) {
    const char *word = argv[*index];
    const char *equals = strchr(word, '=');
    size_t bytes = equals ? (size_t)(equals - word) : strlen(word);
    const kith_cli_option *option = find_option(kith_cli_global_options, word, bytes);
    if (!option && args->command) option = find_option(args->command->options, word, bytes);
    if (!option && args->command) return unknown_option(args->command, word, err);
    if (!option)
        return kith_err_set(
            err, KITH_INVALID, "%s comes before any command; write: kith COMMAND %s ...", word, word);
    if (args->given_count == KITH_CLI_OPTIONS_MAX)
        return kith_err_set(err, KITH_INVALID, "more than %u options", KITH_CLI_OPTIONS_MAX);
    const char *value = equals ? equals + 1 : NULL;
    if (!option->value && value) return kith_err_set(err, KITH_INVALID, "%s takes no value", option->name);
    if (option->value && !value) {
        if (*index + 1 == argc)
            return kith_err_set(err, KITH_INVALID, "%s needs a value: %s", option->name, option->value);
        value = argv[++*index];
    }
    if (strcmp(option->name, "--help") == 0) args->help = true;
    args->given[args->given_count++] = (kith_cli_given){.option = option, .value = value};
    return KITH_OK;
}

static kith_status take_command(
    const char *name, const kith_cli_command *commands, kith_cli_args *args, kith_err *err) {
    for (const kith_cli_command *command = commands; command->name; command++) {
        if (strcmp(command->name, name) != 0) continue;
        args->command = command;
        return KITH_OK;
    }
    return unknown_command(name, commands, err);
}

static kith_status take_word(
    const char *word, const kith_cli_command *commands, kith_cli_args *args, kith_err *err) {
    if (args->command) {
        if (args->argument_count == KITH_CLI_ARGUMENTS_MAX)
            return kith_err_set(err, KITH_INVALID, "more than %u arguments", KITH_CLI_ARGUMENTS_MAX);
        args->arguments[args->argument_count++] = word;
        return KITH_OK;
    }
    if (args->group) {
        char name[NAME_BYTES_MAX];
        snprintf(name, sizeof name, "%s %.32s", args->group, word);
        return take_command(name, commands, args, err);
    }
    if (!is_group(word, commands)) return take_command(word, commands, args, err);
    args->group = word;
    return KITH_OK;
}

static kith_status check_arguments(const kith_cli_args *args, kith_err *err) {
    const kith_cli_command *command = args->command;
    if (args->argument_count < command->arguments_least) {
        return kith_err_set(err, KITH_INVALID, "kith %s needs %s; kith %s --help shows how", command->name,
            command->arguments, command->name);
    }
    if (args->argument_count > command->arguments_most) {
        return kith_err_set(err, KITH_INVALID,
            "kith %s: '%s' is one argument too many; kith %s --help shows how", command->name,
            args->arguments[command->arguments_most], command->name);
    }
    return KITH_OK;
}

kith_status kith_cli_args_parse(
    int argc, char **argv, const kith_cli_command *commands, kith_cli_args *args_out, kith_err *err) {
    memset(args_out, 0, sizeof *args_out);
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        kith_status status = KITH_OK;
        if (!options_end && strcmp(argv[i], "--") == 0)
            options_end = true;
        else if (!options_end && strcmp(argv[i], "-h") == 0)
            args_out->help = true;
        else if (!options_end && strncmp(argv[i], "--", 2) == 0)
            status = take_option(argc, argv, &i, args_out, err);
        else
            status = take_word(argv[i], commands, args_out, err);
        if (status != KITH_OK) return status;
    }
    if (args_out->help || !args_out->command) return KITH_OK;
    return check_arguments(args_out, err);
}

bool kith_cli_args_has(const kith_cli_args *args, const char *name) {
    for (uint32_t i = 0; i < args->given_count; i++)
        if (strcmp(args->given[i].option->name, name) == 0) return true;
    return false;
}

const char *kith_cli_args_text(const kith_cli_args *args, const char *name, const char *otherwise) {
    for (uint32_t i = args->given_count; i > 0; i--)
        if (strcmp(args->given[i - 1].option->name, name) == 0) return args->given[i - 1].value;
    return otherwise;
}

bool kith_cli_args_u64(const kith_cli_args *args, const char *name, uint64_t otherwise, uint64_t least,
    uint64_t most, uint64_t *value_out) {
    const char *text = kith_cli_args_text(args, name, NULL);
    uint64_t value = otherwise;
    if (text && (!kith_text_parse_u64(text, strlen(text), &value) || value < least || value > most)) {
        kith_cli_fail(KITH_CLI_USAGE, "%s %s is not a whole number in %llu..%llu", name, text,
            (unsigned long long)least, (unsigned long long)most);
        return false;
    }
    *value_out = value;
    return true;
}

bool kith_cli_args_read(const kith_cli_args *args, kith_read_consistency *read_out) {
    static const char *const words[] = {"in-sync", "primary", "any"};
    const char *value = kith_cli_args_text(args, "--read", words[KITH_READ_IN_SYNC]);
    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(value, words[i]) != 0) continue;
        *read_out = (kith_read_consistency)i;
        return true;
    }
    kith_cli_fail(KITH_CLI_USAGE, "--read %s is none of in-sync, primary, any", value);
    return false;
}

bool kith_cli_args_f64(const kith_cli_args *args, const char *name, double otherwise, double least,
    double most, double *value_out) {
    const char *text = kith_cli_args_text(args, name, NULL);
    double value = otherwise;
    if (text && (!kith_text_parse_f64(text, strlen(text), &value) || value < least || value > most)) {
        kith_cli_fail(KITH_CLI_USAGE, "%s %s is not a number in %g..%g", name, text, least, most);
        return false;
    }
    *value_out = value;
    return true;
}

/* --- help pages --- */

static void print_options(const kith_cli_option *options) {
    for (; options->name; options++)
        printf("  %-15s %-10s %s\n", options->name, options->value ? options->value : "", options->help);
}

static const char exit_codes[] =
    "Exit status: 0 done; 1 the server refused or failed; 2 the command line or an input "
    "file is wrong;\n3 no server answers; 4 only a part was done.\n";

void kith_cli_help(const kith_cli_command *commands, const char *group) {
    printf(
        "kith: a client of the kith vector search service.\n\nUsage: kith COMMAND ARGUMENTS [OPTIONS]\n\n");
    for (const kith_cli_command *command = commands; command->name; command++)
        if (!group || strncmp(command->name, group, strlen(group)) == 0)
            printf("  %-15s %s\n", command->name, command->summary);
    printf("\nOptions of every command:\n");
    print_options(kith_cli_global_options);
    printf("\nkith COMMAND --help shows one command with examples. A first session:\n\n"
           "  kith create photos --dim 512 --metric cosine\n"
           "  kith load photos vectors.npy --payload names.jsonl\n"
           "  kith search photos --file queries.npy --k 10 --payload\n\n%s",
        exit_codes);
}

void kith_cli_command_help(const kith_cli_command *command) {
    printf("kith %s: %s\n\nUsage: kith %s %s [OPTIONS]\n\n", command->name, command->summary, command->name,
        command->arguments);
    print_options(command->options);
    printf("\nOptions of every command:\n");
    print_options(kith_cli_global_options);
    printf("\n%s\n%s", command->details, exit_codes);
}
