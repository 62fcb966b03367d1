#include "host/base/status.h"

const char *kith_status_text(kith_status status) {
    switch (status) {
#define KITH_STATUS_CASE(name, number, text, grpc, http)                                                     \
    case KITH_##name:                                                                                        \
        return text;
        KITH_STATUS_TABLE(KITH_STATUS_CASE)
#undef KITH_STATUS_CASE
    }
    return "unknown status";
}

const char *kith_status_name(kith_status status) {
    switch (status) {
#define KITH_STATUS_CASE(name, number, text, grpc, http)                                                     \
    case KITH_##name:                                                                                        \
        return #name;
        KITH_STATUS_TABLE(KITH_STATUS_CASE)
#undef KITH_STATUS_CASE
    }
    return "UNKNOWN";
}

int kith_status_grpc(kith_status status) {
    switch (status) {
#define KITH_STATUS_CASE(name, number, text, grpc, http)                                                     \
    case KITH_##name:                                                                                        \
        return grpc;
        KITH_STATUS_TABLE(KITH_STATUS_CASE)
#undef KITH_STATUS_CASE
    }
    return 13;
}

int kith_status_http(kith_status status) {
    switch (status) {
#define KITH_STATUS_CASE(name, number, text, grpc, http)                                                     \
    case KITH_##name:                                                                                        \
        return http;
        KITH_STATUS_TABLE(KITH_STATUS_CASE)
#undef KITH_STATUS_CASE
    }
    return 500;
}

kith_status kith_status_from_number(uint32_t number) {
    switch (number) {
#define KITH_STATUS_CASE(name, value, text, grpc, http)                                                      \
    case value:                                                                                              \
        return KITH_##name;
        KITH_STATUS_TABLE(KITH_STATUS_CASE)
#undef KITH_STATUS_CASE
    default:
        return KITH_INTERNAL;
    }
}
