/* Every metric: name with its unit, kind, label, help. A metric is added here and nowhere else.
 *
 * X(id, name, kind, label, help)
 *   kind   COUNTER    only grows
 *          GAUGE      goes up and down
 *          HISTOGRAM  of seconds; buckets in metrics.h
 *   label  name of the one label whose values tell series apart; "" for none
 * Names follow Prometheus' rules: base units (seconds, bytes), counters end in _total. */
#ifndef KITH_METRICS_METRICS_TABLE_H
#define KITH_METRICS_METRICS_TABLE_H

#define KITH_METRICS_TABLE(X)                                                                                \
    X(SEARCH_REQUESTS, "kith_search_requests_total", COUNTER, "code", "Search calls answered, by status.")   \
    X(SEARCH_QUERIES, "kith_search_queries_total", COUNTER, "",                                              \
        "Query vectors searched; a call may bring many.")                                                    \
    X(SEARCH_DURATION, "kith_search_duration_seconds", HISTOGRAM, "",                                        \
        "Time from a search call's arrival to its answer.")                                                  \
    X(SEARCH_ROWS_SCANNED, "kith_search_rows_scanned_total", COUNTER, "",                                    \
        "Rows that were compared with a query.")                                                             \
    X(SEARCH_ROWS_CODED, "kith_search_rows_coded_total", COUNTER, "",                                        \
        "Rows scanned by their codes instead of their vectors.")                                             \
    X(SEARCH_CODE_SURVIVORS, "kith_search_code_survivors_total", COUNTER, "",                                \
        "Rows scanned by their codes that could not be ruled out by them.")                                  \
    X(SEARCH_ROWS_RESCORED, "kith_search_rows_rescored_total", COUNTER, "",                                  \
        "Rows that passed the scan and got an exact score.")                                                 \
    X(SEARCH_WIDE_SCANS, "kith_search_wide_scans_total", COUNTER, "",                                        \
        "Scans whose bounds let too many rows pass, so that full vectors were read instead.")                \
    X(SEARCH_BATCHES, "kith_search_batches_total", COUNTER, "",                                              \
        "Runs over a shard, each for the searches that waited for it together; one alone counts too.")       \
    X(SEARCH_BATCHED, "kith_search_batched_total", COUNTER, "",                                              \
        "Searches of a shard in these runs; those done at once on the thread that took the call are not.")   \
    X(GPU_USABLE, "kith_gpu_usable", GAUGE, "",                                                              \
        "1 while a GPU answers searches; 0: there is none, or it failed and is left alone until a restart.") \
    X(GPU_SEARCHES, "kith_gpu_searches_total", COUNTER, "by",                                                \
        "Searches of a part of a segment that were offered to the GPU: by gpu, or declined, by cpu.")        \
    X(GPU_SEGMENTS, "kith_gpu_segments", GAUGE, "",                                                          \
        "Vector fields of sealed segments whose rows are on the GPU.")                                       \
    X(GPU_MEMORY_BYTES, "kith_gpu_memory_bytes", GAUGE, "category", "Memory of the GPU in use.")             \
    X(GPU_UPLOADS, "kith_gpu_uploads_total", COUNTER, "", "Fields of segments that were copied to the GPU.") \
    X(GPU_UPLOADS_REFUSED, "kith_gpu_uploads_refused_total", COUNTER, "",                                    \
        "Those that the GPU had no memory for: the CPU searches them.")                                      \
    X(GPU_EVICTIONS, "kith_gpu_evictions_total", COUNTER, "",                                                \
        "Those that gave up their memory on the GPU to others: the CPU searches them.")                      \
    X(READ_SLICES, "kith_read_slices_total", COUNTER, "",                                                    \
        "Turns that reads of points took on the search threads; a long read takes many.")                    \
    X(WRITE_REQUESTS, "kith_write_requests_total", COUNTER, "code", "Write calls answered, by status.")      \
    X(WRITE_POINTS, "kith_write_points_total", COUNTER, "", "Points written or deleted.")                    \
    X(WRITE_DURATION, "kith_write_duration_seconds", HISTOGRAM, "",                                          \
        "Time from a write call's arrival to its acknowledgement.")                                          \
    X(LOG_SYNC_DURATION, "kith_log_sync_duration_seconds", HISTOGRAM, "",                                    \
        "Time the disk takes to make a group of log records durable.")                                       \
    X(LOG_BYTES, "kith_log_bytes_total", COUNTER, "", "Bytes appended to the write log.")                    \
    X(LOG_SYNCS, "kith_log_syncs_total", COUNTER, "", "Times the write log was synced.")                     \
    X(SEGMENT_SEALS, "kith_segment_seals_total", COUNTER, "", "Growing segments sealed into a file.")        \
    X(SEGMENT_MERGES, "kith_segment_merges_total", COUNTER, "", "Merges of sealed segments.")                \
    X(SEGMENT_SEAL_DURATION, "kith_segment_seal_duration_seconds", HISTOGRAM, "",                            \
        "Time to write a sealed segment and publish it.")                                                    \
    X(POINTS, "kith_points", GAUGE, "collection", "Live points.")                                            \
    X(SEGMENTS, "kith_segments", GAUGE, "collection", "Segments, growing and sealed.")                       \
    X(SHARDS, "kith_shards", GAUGE, "", "Shards on this node.")                                              \
    X(REPLICA_LAG_SECONDS, "kith_replica_lag_seconds", GAUGE, "",                                            \
        "Longest time for which a copy of a shard that this node leads has lacked a write.")                 \
    X(REPLICA_LAG_BYTES, "kith_replica_lag_bytes", GAUGE, "",                                                \
        "About how many bytes of writes the copies of the shards that this node leads lack together.")       \
    X(REPLICAS_LED, "kith_replicas_led", GAUGE, "", "Shards that this node leads.")                          \
    X(REPLICAS_OUT_OF_SYNC, "kith_replicas_out_of_sync", GAUGE, "",                                          \
        "Copies of the shards that this node leads which are not in sync.")                                  \
    X(REPLICA_DIFFERENCES, "kith_replica_differences_total", COUNTER, "",                                    \
        "Slots in which copies of a shard were found to differ; always 0 if all is well.")                   \
    X(TRANSPORT_MESSAGES, "kith_transport_messages_total", COUNTER, "direction",                             \
        "Messages between nodes: sent, received.")                                                           \
    X(TRANSPORT_BYTES, "kith_transport_bytes_total", COUNTER, "direction",                                   \
        "Bytes of their bodies: sent, received.")                                                            \
    X(TRANSPORT_CONNECTS, "kith_transport_connects_total", COUNTER, "",                                      \
        "Connections between this node and others that were made.")                                          \
    X(TRANSPORT_LOSSES, "kith_transport_losses_total", COUNTER, "",                                          \
        "Those that ended without a goodbye: the peer died, or the network between.")                        \
    X(TRANSPORT_FAILED_HELLOS, "kith_transport_failed_hellos_total", COUNTER, "",                            \
        "Peers that were refused (no credentials, another cluster or protocol) or that gave up before they " \
        "were let in.")                                                                                      \
    X(TRANSPORT_BUSY, "kith_transport_busy_total", COUNTER, "",                                              \
        "Calls and requests refused because too many bytes or calls were under way.")                        \
    X(TRANSPORT_CONNECTIONS, "kith_transport_connections", GAUGE, "",                                        \
        "Connections now, in both directions.")                                                              \
    X(TRANSPORT_CALLS, "kith_transport_calls", GAUGE, "", "Calls to other nodes that wait for an answer.")   \
    X(DISK_FREE_BYTES, "kith_disk_free_bytes", GAUGE, "", "Bytes still free on the disk of data_dir.")       \
    X(MEMORY_RESIDENT_BYTES, "kith_memory_resident_bytes", GAUGE, "",                                        \
        "Physical memory of this process, mapped files included.")                                           \
    X(GRPC_CALLS, "kith_grpc_calls_total", COUNTER, "method", "gRPC calls answered, by method.")             \
    X(HTTP_REQUESTS, "kith_http_requests_total", COUNTER, "path", "HTTP requests answered, by route.")       \
    X(EXECUTOR_QUEUED, "kith_executor_queued", GAUGE, "executor", "Tasks that wait for a thread.")           \
    X(BUILD_INFO, "kith_build_info", GAUGE, "version", "1; the version that runs is the label.")             \
    X(UP_SECONDS, "kith_up_seconds", GAUGE, "", "Time since the process started serving.")

#endif
