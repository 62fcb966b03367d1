/* What the files of config share: the table as an array, and setting a key from a value of a file or a text.
 */
#ifndef KITH_CONFIG_CONFIG_INTERNAL_H
#define KITH_CONFIG_CONFIG_INTERNAL_H

#include <stddef.h>

#include "host/config/config.h"

typedef enum config_kind {
    CONFIG_SECTION,
    CONFIG_BOOL,
    CONFIG_U32,
    CONFIG_U64,
    CONFIG_TEXT,
    CONFIG_CHOICE,
} config_kind;

typedef struct config_key {
    const char *name; /* title of a section */
    config_kind kind;
    size_t offset;            /* in kith_config */
    const char *text_default; /* of TEXT and CHOICE */
    uint64_t number_default;  /* of the others */
    uint64_t least;
    uint64_t most;
    const char *choices; /* "a|b|c" */
    bool cluster;
    bool reloadable;
    const char *help;
} config_key;

extern const config_key config_keys[];
extern const size_t config_keys_count;

/* NULL if there is none. */
const config_key *config_key_find(const char *name, size_t name_bytes);
/* The key whose name takes the fewest edits to get from `name`, and how many. */
const config_key *config_key_nearest(const char *name, uint32_t *edits_out);

/* ", did you mean http_port?" when a key's name is near. */
void config_append_suggestion(const char *name, kith_buf *buf);

/* A value as it was found. `shown` is how the file or the command line has it. */
typedef struct config_value {
    enum { CONFIG_VALUE_BOOL, CONFIG_VALUE_NUMBER, CONFIG_VALUE_TEXT, CONFIG_VALUE_OTHER } kind;
    bool boolean;
    bool number_fits; /* false: negative or past 64 bits */
    uint64_t number;
    const char *text;
    const char *shown;
} config_value;

/* Sets the key; or, when the value is not allowed, adds a line to `errors` that begins with `where`. */
void config_key_set(const config_key *key, const config_value *value, const char *where, kith_config *config,
    kith_buf *errors);
/* As config_key_set with a value from the environment or the command line, all of which are texts. */
void config_key_set_text(
    const config_key *key, const char *text, const char *where, kith_config *config, kith_buf *errors);
/* The key's value as a number (place of a choice, 0 or 1) or as a text. */
uint64_t config_key_number(const config_key *key, const kith_config *config);
const char *config_key_text(const config_key *key, const kith_config *config);
bool config_key_equal(const config_key *key, const kith_config *a, const kith_config *b);
void config_key_copy(const config_key *key, const kith_config *from, kith_config *to);
/* "an integer in 1..10", "one of auto, cpu, cuda". */
void config_key_append_allowed(const config_key *key, kith_buf *buf);
/* Name at `place` of "a|b|c"; NULL past the end. */
const char *config_choice_at(const char *choices, uint32_t place, size_t *bytes_out);

/* Reads a file (or `text`, when it is not NULL) into `config`. */
void config_file_read(const char *path, const char *text, kith_config *config, kith_buf *errors);

/* The integer that `text` (a configuration file) gives to `name`, as it is written; NULL if there is none.
 * libconfig cuts integers without the suffix L to 32 bits without a word, so their values are read again from
 * the text. */
const char *config_integer_find(const char *text, const char *name, size_t *bytes_out);
/* False if it is negative or does not fit. Takes 0x and the suffixes L and LL. */
bool config_integer_parse(const char *integer, size_t bytes, uint64_t *value_out);

#endif
