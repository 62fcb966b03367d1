/* Columns of vectors as a client sent them -> stored vectors of the points; private to host/api. */
#ifndef KITH_API_API_WRITE_COLUMNS_H
#define KITH_API_API_WRITE_COLUMNS_H

#include "host/api/api.h"

/* Checks every column against the schema and sets `vectors` and `field_mask` of points [point_count]. A point may lack
 * any field, or all. */
KITH_CHECK kith_status kith_api_columns_set(
    const kith_api_write_call *call, const kith_collection *collection, kith_op_point *points, kith_err *err);

#endif
