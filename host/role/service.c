#include "host/role/service.h"

typedef kith_status (*service_start)(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);

static const service_start starts[] = {
    [KITH_CONFIG_ROLE_STANDALONE] = kith_service_standalone_start,
    [KITH_CONFIG_ROLE_DATA] = kith_service_data_start,
    [KITH_CONFIG_ROLE_QUERY] = kith_service_query_start,
};

kith_status kith_service_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    if (!starts[config->role]) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "this role is not implemented in this version; --role standalone is a whole service in one "
            "process");
    }
    return starts[config->role](env, config, service_out, err);
}
