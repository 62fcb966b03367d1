/* How many of the true neighbours were found. A query's hits are kept when it is first answered; recall is
 * reckoned once, at the end.
 *
 * Threads: one. */
#ifndef KITH_CLI_CLI_RECALL_H
#define KITH_CLI_CLI_RECALL_H

#include "host/cli/cli_internal.h"
#include "host/cli/cli_queries.h"
#include "host/cli/format.h"

typedef struct kith_cli_recall {
    kith_format_table truth; /* [query][at least k] row numbers */
    uint64_t id_start;
    uint32_t k;
    uint64_t *ids;     /* [query][k] as answered; UINT64_MAX where there is none */
    float *scores;     /* [query][k] */
    uint8_t *answered; /* [query] */
} kith_cli_recall;

/* An exit status; reads --groundtruth and --id-start. Without a --groundtruth nothing is kept. */
int kith_cli_recall_init(
    kith_cli *cli, const kith_cli_queries *queries, uint32_t k, kith_cli_recall *recall_out);
void kith_cli_recall_fini(kith_cli_recall *recall);
static inline bool kith_cli_recall_wants(const kith_cli_recall *recall, uint64_t query) {
    return recall->answered && !recall->answered[query];
}
/* Hits of the queries from `first` on. */
void kith_cli_recall_take(kith_cli_recall *recall, uint64_t first, const kith_codec_client_hits *hits);
/* Mean over the queries answered. `tolerance` < 0: ids alone count. An exit status. */
int kith_cli_recall_mean(kith_cli *cli, const kith_cli_recall *recall, const kith_cli_queries *queries,
    double tolerance, double *mean_out, uint64_t *query_count_out);

#endif
