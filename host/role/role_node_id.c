#include "host/role/role_node_id.h"

#include <stdio.h>
#include <string.h>

#include "host/model/id.h"

#define UUID_TEXT_BYTES     36u
#define NODE_PATH_BYTES_MAX 4096u

_Static_assert(KITH_NODE_NAME_BYTES_MAX >= UUID_TEXT_BYTES, "a node is called by its UUID");

static void node_name_set(kith_node *node) {
    kith_id id = {.type = KITH_ID_UUID, .bytes = node->id.bytes};
    kith_buf text;
    kith_buf_init(&text);
    kith_id_append_text(&text, &id);
    memcpy(node->name, text.data, text.bytes);
    node->name[text.bytes] = 0;
    kith_buf_fini(&text);
}

static kith_status id_read(kith_file *file, const char *path, kith_node *node, kith_err *err) {
    char text[UUID_TEXT_BYTES + 1]; /* and a line end */
    size_t read = 0;
    kith_id id = {0};
    kith_status status = kith_file_read_at(file, 0, text, sizeof text, &read, err);
    if (status != KITH_OK) return status;
    bool whole = read == sizeof text && text[UUID_TEXT_BYTES] == '\n';
    if (whole) status = kith_id_from_text(text, UUID_TEXT_BYTES, node->id.bytes, &id, err);
    if (whole && status == KITH_OK && id.type == KITH_ID_UUID) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "%s is not a UUID and a line end", path);
}

/* Version 4, variant 1 (RFC 4122, 4.4). */
static void id_draw(kith_env *env, kith_node *node) {
    kith_env_random(env, node->id.bytes, sizeof node->id.bytes);
    node->id.bytes[6] = (uint8_t)(0x40 | (node->id.bytes[6] & 0x0f));
    node->id.bytes[8] = (uint8_t)(0x80 | (node->id.bytes[8] & 0x3f));
}

static kith_status id_write(kith_env *env, const char *dir, const kith_node *node, kith_err *err) {
    char line[UUID_TEXT_BYTES + 2];
    snprintf(line, sizeof line, "%.36s\n", node->name);
    return kith_file_replace(env, dir, "node_id", &(kith_file_part){line, UUID_TEXT_BYTES + 1}, 1, err);
}

kith_status kith_role_node_id_load(kith_env *env, const char *dir, kith_node *node_out, kith_err *err) {
    char path[NODE_PATH_BYTES_MAX];
    kith_node node = {.name = ""};
    kith_file *file;
    int bytes = snprintf(path, sizeof path, "%s/node_id", dir);
    if (bytes < 0 || (size_t)bytes >= sizeof path)
        return kith_err_set(err, KITH_INVALID, "data_dir is too long");
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status == KITH_OK) {
        status = id_read(file, path, &node, err);
        kith_file_close(file);
        node_name_set(&node);
    } else if (status == KITH_NOT_FOUND) {
        id_draw(env, &node);
        node_name_set(&node);
        status = id_write(env, dir, &node, err);
    }
    if (status == KITH_OK) *node_out = node;
    return status;
}
