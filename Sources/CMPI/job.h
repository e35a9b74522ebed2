// What the files of this module share.
#pragma once
#include "cmpi.h"

#include <mpi.h>

struct orpo_mpi_job {
  MPI_Comm world;
  MPI_Comm node;
  int64_t largest_piece;
  // Newest first: freed in that order, which is the same on all members of each.
  struct orpo_mpi_group *groups;
};

struct orpo_mpi_group {
  MPI_Comm ranks;
  orpo_mpi_job *job;
  struct orpo_mpi_group *older;
  struct orpo_mpi_window *windows;
};

/// Length of the next piece of a transfer with `left` to go.
static inline int orpo_mpi_piece(int64_t left, int64_t limit) { return (int)(left < limit ? left : limit); }

/// Frees windows and communicators of all groups; the windows of one group.
int orpo_mpi_groups_free(orpo_mpi_job *job, const char **call);
int orpo_mpi_windows_free(orpo_mpi_group *group, const char **call);

/// One turn of waiting for another rank: spins at first, then gives the core away, then sleeps. Ranks may have fewer
/// cores than they are, and beside a communication thread the threads that compute have better uses for a core.
void orpo_mpi_wait_a_turn(int64_t *turns);

#define TRY(name, expression)                                                                       \
  do {                                                                                              \
    *call = name;                                                                                   \
    int code = (expression);                                                                        \
    if (code != MPI_SUCCESS) return code;                                                           \
  } while (0)
