#include "host/role/service.h"

typedef kith_status (*service_start)(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);

static const service_start starts[] = {
    [KITH_CONFIG_ROLE_STANDALONE] = kith_service_standalone_start,
    [KITH_CONFIG_ROLE_COORDINATOR] = kith_service_coordinator_start,
    [KITH_CONFIG_ROLE_DATA] = kith_service_data_start,
    [KITH_CONFIG_ROLE_QUERY] = kith_service_query_start,
};

kith_status kith_service_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    return starts[config->role](env, config, service_out, err);
}
