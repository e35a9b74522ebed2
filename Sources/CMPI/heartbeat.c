#include "job.h"

#include <stdlib.h>
#include <string.h>

struct orpo_mpi_heartbeat {
  MPI_Comm ranks;
  int size;
  // One message per peer at most is under way, in `words` of its own.
  MPI_Request *requests;
  int64_t *words;
};

int orpo_mpi_heartbeat_create(orpo_mpi_job *job, orpo_mpi_heartbeat **heartbeat, const char **call) {
  orpo_mpi_heartbeat *created = calloc(1, sizeof *created);
  *call = "calloc";
  if (!created) return MPI_ERR_NO_MEM;
  TRY("MPI_Comm_dup", MPI_Comm_dup(job->world, &created->ranks));
  TRY("MPI_Comm_size", MPI_Comm_size(created->ranks, &created->size));
  created->requests = malloc((size_t)created->size * sizeof *created->requests);
  created->words = calloc((size_t)created->size * ORPO_MPI_HEARTBEAT_WORDS, sizeof *created->words);
  *call = "malloc";
  if (!created->requests || !created->words) return MPI_ERR_NO_MEM;
  for (int peer = 0; peer < created->size; peer++) created->requests[peer] = MPI_REQUEST_NULL;
  *heartbeat = created;
  return MPI_SUCCESS;
}

int orpo_mpi_heartbeat_send(orpo_mpi_heartbeat *heartbeat, int32_t peer, const int64_t *words, int32_t *is_sent) {
  int is_free = 1;
  *is_sent = 0;
  int code = MPI_Test(heartbeat->requests + peer, &is_free, MPI_STATUS_IGNORE);
  if (code != MPI_SUCCESS || !is_free) return code;
  if (!words) {
    *is_sent = 1;
    return MPI_SUCCESS;
  }
  int64_t *own = heartbeat->words + (int64_t)peer * ORPO_MPI_HEARTBEAT_WORDS;
  memcpy(own, words, ORPO_MPI_HEARTBEAT_WORDS * sizeof *own);
  code = MPI_Isend(own, ORPO_MPI_HEARTBEAT_WORDS, MPI_INT64_T, peer, 0, heartbeat->ranks, heartbeat->requests + peer);
  *is_sent = code == MPI_SUCCESS;
  return code;
}

int orpo_mpi_heartbeat_receive(orpo_mpi_heartbeat *heartbeat, int32_t *peer, int64_t *words) {
  int is_there = 0;
  MPI_Status status;
  *peer = -1;
  int code = MPI_Iprobe(MPI_ANY_SOURCE, 0, heartbeat->ranks, &is_there, &status);
  if (code != MPI_SUCCESS || !is_there) return code;
  // So short a message is here as a whole when it is seen: this does not wait.
  code = MPI_Recv(words, ORPO_MPI_HEARTBEAT_WORDS, MPI_INT64_T, status.MPI_SOURCE, 0, heartbeat->ranks,
                  MPI_STATUS_IGNORE);
  if (code == MPI_SUCCESS) *peer = status.MPI_SOURCE;
  return code;
}

int orpo_mpi_heartbeat_free(orpo_mpi_heartbeat *heartbeat, const char **call) {
  TRY("MPI_Comm_free", MPI_Comm_free(&heartbeat->ranks));
  free(heartbeat->requests);
  free(heartbeat->words);
  free(heartbeat);
  return MPI_SUCCESS;
}
