/* The program kith: a client of the server over gRPC. One command a run.
 *
 * Threads: one. */
#ifndef KITH_CLI_CLI_H
#define KITH_CLI_CLI_H

/* What scripts may trust; printed by --help. */
typedef enum kith_cli_exit {
    KITH_CLI_OK = 0,
    KITH_CLI_REFUSED = 1,     /* the server refused or failed */
    KITH_CLI_USAGE = 2,       /* the command line or an input file is wrong */
    KITH_CLI_UNREACHABLE = 3, /* no server answers */
    KITH_CLI_PARTIAL = 4,     /* some of it was done, not all */
} kith_cli_exit;

/* Runs the command in `argv`; returns the exit status. */
int kith_cli_main(int argc, char **argv);

#endif
