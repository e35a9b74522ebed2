#define _GNU_SOURCE
#include "job.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int orpo_mpi_group_create(orpo_mpi_job *job, int32_t color, orpo_mpi_group **group, int32_t *rank, int32_t *size,
                          const char **call) {
  orpo_mpi_group *created = calloc(1, sizeof *created);
  *call = "calloc";
  if (!created) return MPI_ERR_NO_MEM;
  created->job = job;
  int world_rank = 0;
  TRY("MPI_Comm_rank", MPI_Comm_rank(job->world, &world_rank));
  TRY("MPI_Comm_split", MPI_Comm_split(job->world, color, world_rank, &created->ranks));
  created->older = job->groups;
  job->groups = created;
  TRY("MPI_Comm_rank", MPI_Comm_rank(created->ranks, rank));
  TRY("MPI_Comm_size", MPI_Comm_size(created->ranks, size));
  *group = created;
  return MPI_SUCCESS;
}

int orpo_mpi_group_smallest(orpo_mpi_group *group, int64_t *value) {
  return MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, MPI_MIN, group->ranks);
}

void orpo_mpi_wait_a_turn(int64_t *turns) {
  *turns += 1;
  if (*turns < 200) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  } else if (*turns < 2000) {
    sched_yield();
  } else {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
  }
}

// Requests and statuses are freed with `requests`; `statuses` lies behind them.
struct orpo_mpi_exchange {
  int count;
  MPI_Request *requests;
  MPI_Status *statuses;
};

static void exchange_free(orpo_mpi_exchange *exchange) {
  free(exchange->requests);
  free(exchange->statuses);
  free(exchange);
}

// A failed start leaves its requests behind: the job is over then.
static int start_all(orpo_mpi_group *group, const orpo_mpi_message *messages, int32_t count, int sends,
                     orpo_mpi_exchange *exchange, const char **call) {
  const int64_t limit = group->job->largest_piece;
  for (int32_t index = 0; index < count; index++) {
    const orpo_mpi_message *message = messages + index;
    if ((message->is_send != 0) != sends) continue;
    for (int64_t done = 0; done < message->count;) {
      const int part = orpo_mpi_piece(message->count - done, limit);
      char *here = (char *)message->bytes + done;
      MPI_Request *request = exchange->requests + exchange->count++;
      if (sends)
        TRY("MPI_Isend", MPI_Isend(here, part, MPI_BYTE, message->peer, 0, group->ranks, request));
      else
        TRY("MPI_Irecv", MPI_Irecv(here, part, MPI_BYTE, message->peer, 0, group->ranks, request));
      done += part;
    }
  }
  return MPI_SUCCESS;
}

int orpo_mpi_exchange_start(orpo_mpi_group *group, const orpo_mpi_message *messages, int32_t count,
                            orpo_mpi_exchange **exchange, const char **call) {
  int64_t pieces = 0;
  for (int32_t index = 0; index < count; index++) {
    const int64_t limit = group->job->largest_piece;
    pieces += (messages[index].count + limit - 1) / limit;
  }
  orpo_mpi_exchange *started = calloc(1, sizeof *started);
  *call = "calloc";
  if (!started) return MPI_ERR_NO_MEM;
  started->requests = calloc((size_t)pieces + 1, sizeof *started->requests);
  started->statuses = calloc((size_t)pieces + 1, sizeof *started->statuses);
  if (!started->requests || !started->statuses) {
    exchange_free(started);
    return MPI_ERR_NO_MEM;
  }
  // Announcements of large messages leave before the go-ahead for the other's, which would let its data occupy the one
  // connection between the two: with receives first, the two directions of a network take turns, half as fast.
  int code = start_all(group, messages, count, 1, started, call);
  if (code == MPI_SUCCESS) code = start_all(group, messages, count, 0, started, call);
  if (code != MPI_SUCCESS) {
    exchange_free(started);
    return code;
  }
  *exchange = started;
  return MPI_SUCCESS;
}

int orpo_mpi_exchange_finish(orpo_mpi_exchange *exchange, const char **call) {
  *call = "MPI_Testall";
  int is_done = 0;
  int code = MPI_SUCCESS;
  for (int64_t turns = 0; code == MPI_SUCCESS;) {
    code = MPI_Testall(exchange->count, exchange->requests, &is_done, exchange->statuses);
    if (is_done) break;
    orpo_mpi_wait_a_turn(&turns);
  }
  if (code == MPI_ERR_IN_STATUS) {
    for (int index = 0; index < exchange->count; index++) {
      const int own = exchange->statuses[index].MPI_ERROR;
      if (own != MPI_SUCCESS && own != MPI_ERR_PENDING) code = own;
    }
  }
  exchange_free(exchange);
  return code;
}

static int group_free(orpo_mpi_group *group, const char **call) {
  TRY("MPI_Comm_free", MPI_Comm_free(&group->ranks));
  free(group);
  return MPI_SUCCESS;
}

int orpo_mpi_groups_free(orpo_mpi_job *job, const char **call) {
  while (job->groups) {
    orpo_mpi_group *newest = job->groups;
    int code = orpo_mpi_windows_free(newest, call);
    if (code != MPI_SUCCESS) return code;
    job->groups = newest->older;
    code = group_free(newest, call);
    if (code != MPI_SUCCESS) return code;
  }
  return MPI_SUCCESS;
}
