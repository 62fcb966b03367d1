/* Server reflection over a FileDescriptorSet. descriptor.proto is read by field number: FileDescriptorProto
 * has name = 1, package = 2, dependency = 3, message_type = 4, enum_type = 5, service = 6; everything in it
 * has name = 1 and its parts in fields 2 to 4. The descriptors come from our own build, yet no length in them
 * is trusted. */
#include "host/codec/codec_reflection.h"

#include "host/codec/codec_wire.h"
#include "proto/proto_descriptors.h"

#include "grpc/reflection/v1/reflection.pb-c.h"

#define FILES_MAX          32u
#define GRPC_UNIMPLEMENTED 12u
#define GRPC_NOT_FOUND     5u

typedef struct span {
    const uint8_t *data;
    size_t bytes;
} span;

typedef struct wire_field {
    uint32_t number;
    bool is_bytes;
    span value;
} wire_field;

/* --- descriptors --- */

static uint64_t varint_read(kith_reader *reader) {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        uint8_t byte = kith_reader_u8(reader);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
    reader->failed = true;
    return 0;
}

/* False at the end, and at bytes that are no field. */
static bool field_next(kith_reader *reader, wire_field *field_out) {
    if (kith_reader_left(reader) == 0) return false;
    uint64_t tag = varint_read(reader);
    *field_out = (wire_field){.number = (uint32_t)(tag >> 3)};
    switch (tag & 7) {
    case KITH_WIRE_VARINT:
        (void)varint_read(reader);
        break;
    case KITH_WIRE_FIXED64:
        (void)kith_reader_bytes(reader, 8);
        break;
    case KITH_WIRE_FIXED32:
        (void)kith_reader_bytes(reader, 4);
        break;
    case KITH_WIRE_BYTES:
        field_out->is_bytes = true;
        field_out->value.bytes = varint_read(reader);
        field_out->value.data = kith_reader_bytes(reader, field_out->value.bytes);
        break;
    default:
        return false;
    }
    return !reader->failed;
}

/* The first field `number` of `message`, or an empty span. */
static span field_of(span message, uint32_t number) {
    kith_reader reader = kith_reader_of(message.data, message.bytes);
    wire_field field;
    while (field_next(&reader, &field)) {
        if (field.number == number && field.is_bytes) return field.value;
    }
    return (span){0};
}

static bool span_equal(span a, span b) {
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

typedef struct file_list {
    span files[FILES_MAX];
    uint32_t count;
} file_list;

static file_list files_read(void) {
    file_list list = {.count = 0};
    /* As numbers: they are two symbols to the compiler, the ends of one blob to the linker. */
    size_t bytes = (uintptr_t)kith_proto_descriptors_end - (uintptr_t)kith_proto_descriptors;
    kith_reader reader = kith_reader_of(kith_proto_descriptors, bytes);
    wire_field field;
    while (list.count < FILES_MAX && field_next(&reader, &field))
        list.files[list.count++] = field.value;
    return list;
}

static int file_by_name(const file_list *list, span name) {
    for (uint32_t i = 0; i < list->count; i++) {
        if (span_equal(field_of(list->files[i], 1), name)) return (int)i;
    }
    return -1;
}

/* The part of `message` called `name`, in one of the fields [first, last]. */
static bool part_find(span message, uint32_t first, uint32_t last, span name, span *part_out) {
    kith_reader reader = kith_reader_of(message.data, message.bytes);
    wire_field field;
    while (field_next(&reader, &field)) {
        if (field.number < first || field.number > last || !field.is_bytes) continue;
        if (!span_equal(field_of(field.value, 1), name)) continue;
        *part_out = field.value;
        return true;
    }
    return false;
}

static span until_dot(span text) {
    const uint8_t *dot = text.bytes > 0 ? memchr(text.data, '.', text.bytes) : NULL;
    return (span){text.data, dot ? (size_t)(dot - text.data) : text.bytes};
}

/* Whether `path`, a symbol less its package, is declared in `file`: message.nested.field, enum.value,
 * service.method. */
static bool file_declares(span file, span path) {
    span name = until_dot(path), part;
    if (!part_find(file, 4, 6, name, &part)) return false;
    while (name.bytes < path.bytes) {
        path = (span){path.data + name.bytes + 1, path.bytes - name.bytes - 1};
        name = until_dot(path);
        if (!part_find(part, 2, 4, name, &part)) return false;
    }
    return true;
}

static int file_by_symbol(const file_list *list, span symbol) {
    for (uint32_t i = 0; i < list->count; i++) {
        span package = field_of(list->files[i], 2);
        if (symbol.bytes <= package.bytes + 1 || package.bytes == 0) continue;
        if (memcmp(symbol.data, package.data, package.bytes) != 0 || symbol.data[package.bytes] != '.')
            continue;
        span path = {symbol.data + package.bytes + 1, symbol.bytes - package.bytes - 1};
        if (file_declares(list->files[i], path)) return (int)i;
    }
    return -1;
}

/* --- answers --- */

static void error_encode(uint32_t code, const char *what, span name, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 7);
    kith_wire_u64(buf, 1, code);
    size_t text_mark = kith_wire_open(buf, 2);
    kith_buf_append_text(buf, what);
    kith_buf_append(buf, name.data, name.bytes);
    kith_wire_close(buf, text_mark);
    kith_wire_close(buf, mark);
}

/* The file, then those it imports, each once: the order in which a client can add them backwards. */
static void files_encode(const file_list *list, int index, kith_buf *buf) {
    uint64_t seen = 1ull << index;
    uint32_t queue[FILES_MAX], queued = 1;
    queue[0] = (uint32_t)index;
    size_t mark = kith_wire_open(buf, 4);
    for (uint32_t at = 0; at < queued; at++) {
        span file = list->files[queue[at]];
        kith_wire_bytes_always(buf, 1, file.data, file.bytes);
        kith_reader reader = kith_reader_of(file.data, file.bytes);
        wire_field field;
        while (field_next(&reader, &field)) {
            int imported = field.number == 3 && field.is_bytes ? file_by_name(list, field.value) : -1;
            if (imported < 0 || seen >> imported & 1) continue;
            seen |= 1ull << imported;
            queue[queued++] = (uint32_t)imported;
        }
    }
    kith_wire_close(buf, mark);
}

static void service_encode(span package, span service, kith_buf *buf) {
    span name = field_of(service, 1);
    size_t mark = kith_wire_open(buf, 1);
    size_t name_mark = kith_wire_open(buf, 1);
    kith_buf_append(buf, package.data, package.bytes);
    kith_buf_u8(buf, '.');
    kith_buf_append(buf, name.data, name.bytes);
    kith_wire_close(buf, name_mark);
    kith_wire_close(buf, mark);
}

static void services_encode(const file_list *list, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 6);
    for (uint32_t i = 0; i < list->count; i++) {
        span package = field_of(list->files[i], 2);
        kith_reader reader = kith_reader_of(list->files[i].data, list->files[i].bytes);
        wire_field field;
        while (field_next(&reader, &field)) {
            if (field.number == 6 && field.is_bytes) service_encode(package, field.value, buf);
        }
    }
    kith_wire_close(buf, mark);
}

static span span_of(ProtobufCBinaryData bytes) {
    return (span){bytes.data, bytes.len};
}

kith_status kith_codec_reflection_answer(
    const void *request, size_t bytes, kith_arena *arena, kith_buf *buf, kith_err *err) {
    const Grpc__Reflection__V1__ServerReflectionRequest *message =
        kith_codec_unpack(&grpc__reflection__v1__server_reflection_request__descriptor, request, bytes, arena,
            KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    file_list list = files_read();
    kith_wire_bytes(buf, 1, message->host.data, message->host.len);
    kith_wire_bytes_always(buf, 2, request, bytes);
    int index;
    switch (message->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        index = file_by_name(&list, span_of(message->file_by_filename));
        if (index >= 0)
            files_encode(&list, index, buf);
        else
            error_encode(GRPC_NOT_FOUND, "no file ", span_of(message->file_by_filename), buf);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        index = file_by_symbol(&list, span_of(message->file_containing_symbol));
        if (index >= 0)
            files_encode(&list, index, buf);
        else
            error_encode(GRPC_NOT_FOUND, "no symbol ", span_of(message->file_containing_symbol), buf);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        services_encode(&list, buf);
        break;
    default:
        error_encode(GRPC_UNIMPLEMENTED, "proto3 has no extensions", (span){0}, buf);
    }
    return KITH_OK;
}
