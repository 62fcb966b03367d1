/* Every configuration key. The struct, the parser, `kithd --print-config`, conf/kith.conf and the tests are
 * made from this table or checked against it; a key is added here and nowhere else.
 *
 * SECTION(title)
 * X(name, type, default, least, most, scope, reload, help)
 *   type    BOOL     default true or false; least and most 0
 *           U32, U64 least..most, both included; most is at most INT64_MAX, which is what a file can hold
 *           TEXT     least..most bytes
 *           CHOICE   least is the allowed names "a|b|c", most 0; the value is the place in it (enums in
 * config.h) scope   NODE: may differ from node to node. CLUSTER: must be the same on all reload  RELOADABLE:
 * SIGHUP changes it. RESTART: read at start only */
#ifndef KITH_CONFIG_CONFIG_TABLE_H
#define KITH_CONFIG_CONFIG_TABLE_H

#include "host/base/limits.h"

#define KITH_CONFIG_TEXT_BYTES_MAX 1023

#define KITH_CONFIG_KIB (1ULL << 10)
#define KITH_CONFIG_MIB (1ULL << 20)
#define KITH_CONFIG_GIB (1ULL << 30)
#define KITH_CONFIG_TIB (1ULL << 40)

#define KITH_CONFIG_TABLE(X, SECTION)                                                                        \
    SECTION("Server")                                                                                        \
    X(role, CHOICE, "standalone", "standalone|coordinator|data|query", 0, NODE, RESTART,                     \
        "What this process does. A standalone server is a whole service in one process; the others make a "  \
        "cluster: coordinators keep its metadata, data nodes the vectors, query nodes serve clients.")       \
    X(data_dir, TEXT, "./kith-data", 1, KITH_CONFIG_TEXT_BYTES_MAX, NODE, RESTART,                           \
        "Folder of everything that must survive a restart; made when missing, used by one process at a "     \
        "time.")                                                                                             \
    X(bind_address, TEXT, "127.0.0.1", 1, 255, NODE, RESTART,                                                \
        "Address to listen on. There is no authentication yet: 0.0.0.0 serves everyone who can reach it.")   \
    X(http_port, U32, 7440, 0, 65535, NODE, RESTART,                                                         \
        "Port of REST, metrics and health checks; 0 takes a free one.")                                      \
    X(grpc_port, U32, 7441, 0, 65535, NODE, RESTART, "Port of gRPC; 0 takes a free one.")                    \
    X(node_port, U32, 7442, 0, 65535, NODE, RESTART,                                                         \
        "Port between the nodes of a cluster; a standalone server does not use it. 0 takes a free one.")     \
    X(message_bytes_max, U64, KITH_MESSAGE_BYTES_MAX, 64 * KITH_CONFIG_KIB, KITH_MESSAGE_BYTES_MAX, NODE,    \
        RESTART, "Largest request or response of a client.")                                                 \
    X(answer_timeout_ms, U32, 30000, 1000, 3600000, NODE, RESTART,                                           \
        "Longest time an answer may wait for its client to read it; then the call is cancelled.")            \
    SECTION("Cluster")                                                                                       \
    X(cluster_name, TEXT, "kith", 1, 63, CLUSTER, RESTART, "Nodes of another cluster are refused.")          \
    X(coordinators, TEXT, "", 0, KITH_CONFIG_TEXT_BYTES_MAX, NODE, RESTART,                                  \
        "Node addresses of the coordinators, host:port, separated by commas. The first start of a cluster "  \
        "needs all of them at once; later any one that answers is enough.")                                  \
    X(node_address, TEXT, "", 0, 261, NODE, RESTART,                                                         \
        "host:port under which other nodes reach this one; empty: bind_address and node_port.")              \
    X(node_name, TEXT, "", 0, 63, NODE, RESTART,                                                             \
        "Name for people, in coverage and logs; empty: the node's id.")                                      \
    X(node_zone, TEXT, "", 0, 63, NODE, RESTART,                                                             \
        "What fails together with this node (a rack, a zone): copies of a shard go to different ones.")      \
    X(node_weight, U32, 100, 0, 10000, NODE, RESTART,                                                        \
        "Share of the shards that this data node gets beside others; 0: none.")                              \
    X(heartbeat_ms, U32, 500, 100, 30000, CLUSTER, RESTART,                                                  \
        "How often a node tells the coordinators that "                                                      \
        "it is there.")                                                                                      \
    X(heartbeat_timeout_ms, U32, 2000, 300, 120000, CLUSTER, RESTART,                                        \
        "A node that is silent for this long is taken for down.")                                            \
    X(election_timeout_ms, U32, 400, 50, 10000, CLUSTER, RESTART,                                            \
        "A coordinator that hears nothing from the leader for one to two times this long stands for "        \
        "election.")                                                                                         \
    X(replica_inflight_bytes_max, U64, 32 * KITH_CONFIG_MIB, 256 * KITH_CONFIG_KIB, KITH_CONFIG_GIB, NODE,   \
        RESTART, "Bytes of writes of one shard that are on their way to one of its copies at once.")         \
    X(replica_compare_ms, U32, 600000, 0, 604800000, NODE, RESTART,                                          \
        "How often a data node compares the copies of each shard that it leads with its own; 0: never.")     \
    X(replica_replace_after_ms, U32, 600000, 1000, 604800000, CLUSTER, RESTART,                              \
        "Copies of shards on a data node that is down for this long are made anew on other nodes.")          \
    X(rebalance_moves_max, U32, 2, 0, 64, CLUSTER, RESTART,                                                  \
        "Shards that are copied to a data node at once, to replace copies that were lost, to empty a node "  \
        "that drains and to even out; 0: nothing is moved.")                                                 \
    X(node_ping_ms, U32, 500, 50, 10000, NODE, RESTART,                                                      \
        "How often connected nodes ask each other for a "                                                    \
        "sign of life.")                                                                                     \
    X(node_ping_timeout_ms, U32, 1500, 100, 60000, NODE, RESTART,                                            \
        "A connection that is silent for this long is cut: requests on it fail.")                            \
    X(node_in_flight_max, U32, 4096, 16, 1048576, NODE, RESTART,                                             \
        "Requests to one other node at once; further ones are refused.")                                     \
    X(node_in_flight_bytes_max, U64, 512 * KITH_CONFIG_MIB, 64 * KITH_CONFIG_MIB, 64 * KITH_CONFIG_GIB,      \
        NODE, RESTART, "Bytes of requests to one other node at once; further ones are refused.")             \
    X(node_busy_poll, BOOL, false, 0, 0, NODE, RESTART,                                                      \
        "Poll the network without sleeping: lower latency for one core that is always busy.")                \
    X(node_ca_file, TEXT, "", 0, KITH_CONFIG_TEXT_BYTES_MAX, NODE, RESTART,                                  \
        "Certificate of the cluster's authority (kith cluster certs makes it). With it nodes prove "         \
        "themselves to each other.")                                                                         \
    X(node_cert_file, TEXT, "", 0, KITH_CONFIG_TEXT_BYTES_MAX, NODE, RESTART, "This node's certificate.")    \
    X(node_key_file, TEXT, "", 0, KITH_CONFIG_TEXT_BYTES_MAX, NODE, RESTART, "Its private key.")             \
    X(node_insecure, BOOL, false, 0, 0, NODE, RESTART,                                                       \
        "Allow a cluster without certificates on an address other than loopback: whoever reaches the node "  \
        "port can read and write everything.")                                                               \
    X(transport_mac, BOOL, true, 0, 0, CLUSTER, RESTART,                                                     \
        "Authenticate every message between nodes that have certificates; false only where the network is "  \
        "trusted.")                                                                                          \
    SECTION("Logging")                                                                                       \
    X(log_level, CHOICE, "info", "error|warn|info|debug", 0, NODE, RELOADABLE,                               \
        "Least severe lines that are written; debug writes several lines a request.")                        \
    X(log_format, CHOICE, "logfmt", "logfmt|json", 0, NODE, RESTART, "Form of the lines on stderr.")         \
    X(slow_query_ms, U32, 1000, 0, 3600000, NODE, RELOADABLE,                                                \
        "A search that takes at least this long is logged with its plan; 0 logs every search.")              \
    SECTION("Compute and threads")                                                                           \
    X(compute_backend, CHOICE, "auto", "auto|cpu|cuda", 0, NODE, RESTART,                                    \
        "Who computes distances: auto takes a GPU that works, else the CPU; with cuda the server is not "    \
        "ready without one. The answers are the same.")                                                      \
    X(search_threads, U32, 0, 0, 256, NODE, RESTART, "Threads that scan for searches; 0 is one per core.")   \
    X(background_threads, U32, 1, 1, 64, NODE, RESTART, "Threads that seal and merge segments.")             \
    X(grpc_threads, U32, 1, 1, 64, NODE, RESTART, "Threads that take gRPC calls in and send answers out.")   \
    SECTION("Searches")                                                                                      \
    X(search_timeout_ms, U32, 30000, 1, 3600000, NODE, RELOADABLE,                                           \
        "Longest time a search may take; a client may ask for less.")                                        \
    X(search_queue_max, U32, 1024, 1, 1048576, NODE, RELOADABLE,                                             \
        "Searches that may wait for a thread; further ones are refused at once with a hint to retry.")       \
    X(search_batch_window_us, U32, 0, 0, 10000, NODE, RESTART,                                               \
        "How long a search on a GPU waits for others to share its work; those that wait for a thread share " \
        "it anyway.")                                                                                        \
    SECTION("Writes")                                                                                        \
    X(write_timeout_ms, U32, 30000, 1, 3600000, NODE, RELOADABLE,                                            \
        "Longest time a write may take; a client may ask for less. A write that times out may still "        \
        "happen.")                                                                                           \
    X(write_queue_bytes_max, U64, 256 * KITH_CONFIG_MIB, KITH_CONFIG_MIB, 64 * KITH_CONFIG_GIB, NODE,        \
        RESTART, "Bytes of writes that may wait; further ones are refused at once with a hint to retry.")    \
    X(request_window, U32, 16384, 16, 1048576, CLUSTER, RESTART,                                             \
        "Writes a shard remembers by request id, so that a repeat gets the first answer.")                   \
    SECTION("Storage")                                                                                       \
    X(segment_seal_bytes, U64, 64 * KITH_CONFIG_MIB, 4 * KITH_CONFIG_KIB, 16 * KITH_CONFIG_GIB, NODE,        \
        RESTART, "A growing segment with this many bytes of vectors is sealed into a file.")                 \
    X(segment_seal_rows, U32, 200000, 1, 100000000, NODE, RESTART,                                           \
        "A growing segment with this many rows is sealed into a file.")                                      \
    X(segment_seal_idle_ms, U32, 30000, 1, 86400000, NODE, RESTART,                                          \
        "A growing segment is sealed when no write came for this long.")                                     \
    X(segment_merge_bytes_max, U64, 512 * KITH_CONFIG_MIB, 4 * KITH_CONFIG_KIB, 256 * KITH_CONFIG_GIB, NODE, \
        RESTART,                                                                                             \
        "Largest segment that merging makes: eight full ones. Larger means fewer to search, and a merge "    \
        "needs this much memory and twice this much disk.")                                                  \
    X(log_file_bytes, U64, 64 * KITH_CONFIG_MIB, 64 * KITH_CONFIG_KIB, 4 * KITH_CONFIG_GIB, NODE, RESTART,   \
        "Size at which the write log goes on in a new file.")                                                \
    X(log_retain_bytes, U64, 256 * KITH_CONFIG_MIB, 0, KITH_CONFIG_TIB, NODE, RESTART,                       \
        "Log kept after its writes are in the store, for replicas that were away for a while.")              \
    X(disk_reserve_bytes, U64, 64 * KITH_CONFIG_MIB, 0, KITH_CONFIG_TIB, NODE, RELOADABLE,                   \
        "Writes are refused while the disk has less than this free, deletes below half; searches go on.")    \
    X(store_memory_bytes, U64, 64 * KITH_CONFIG_MIB, 8 * KITH_CONFIG_MIB, KITH_CONFIG_TIB, NODE, RESTART,    \
        "Memory of the payload store: write buffers and block cache.")

#endif
