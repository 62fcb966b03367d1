/* Any text as a configuration file: it is refused with a message, or what it means prints and loads as the
 * same. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 forgets the string it was reading when a syntax error stops it: some bytes for each bad file,
 * once at start or for each SIGHUP. */
const char *__lsan_default_suppressions(void) {
    return "leak:libconfig";
}

static void check_printed(const kith_config *config, kith_buf *errors) {
    kith_buf printed;
    kith_buf_init(&printed);
    kith_config_print(config, &printed);
    kith_buf_u8(&printed, 0);
    kith_config again;
    kith_status status =
        kith_config_load(&(kith_config_options){.text = (const char *)printed.data}, &again, errors);
    kith_assert(status == KITH_OK);
    kith_buf_clear(&printed);
    kith_buf restart_keys;
    kith_buf_init(&restart_keys);
    kith_config_print(&again, &printed);
    kith_buf_u8(&printed, 0);
    status = kith_config_reload(
        config, &(kith_config_options){.text = (const char *)printed.data}, &again, &restart_keys, errors);
    kith_assert(status == KITH_OK);
    kith_assert(restart_keys.bytes == 0);
    kith_buf_fini(&restart_keys);
    kith_buf_fini(&printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char *text = kith_alloc(bytes + 1);
    if (bytes) memcpy(text, data, bytes);
    text[bytes] = 0;
    kith_buf errors;
    kith_buf_init(&errors);
    kith_config config;
    /* What is included depends on the machine, not on the input. */
    bool repeatable = strstr(text, "@include") == NULL;
    kith_status status = repeatable ? kith_config_load(&(kith_config_options){.text = text}, &config, &errors)
                                    : KITH_CANCELLED;
    if (status == KITH_INVALID) kith_assert(errors.bytes > 0);
    if (status == KITH_OK) check_printed(&config, &errors);
    kith_buf_fini(&errors);
    kith_free(text);
    return 0;
}
