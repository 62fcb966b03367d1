#include "host/replica/replica_internal.h"

void replica_digest_handle(void *ctx, kith_transport_request *request) {
    kith_replica_set *set = ctx;
    kith_err err;
    kith_err_set(&err, KITH_UNIMPLEMENTED, "digests");
    kith_transport_reply(request, set->options.transport, KITH_UNIMPLEMENTED, NULL, 0, &err);
}
void replica_compare_tick(replica *own, uint64_t now_ns) {
    (void)now_ns;
    own->compare_due_ns = UINT64_MAX;
}
void replica_compare_stop(replica *own) {
    (void)own;
}
