#define _GNU_SOURCE
#include "job.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

// MPI counts are `int`, and Open MPI's own arithmetic on bytes is not everywhere 64-bit: by default no call moves
// more than this.
static const int64_t LARGEST_PIECE = (int64_t)1 << 28;

static MPI_Datatype datatype(orpo_mpi_type type) {
  switch (type) {
  case ORPO_MPI_FLOAT: return MPI_FLOAT;
  case ORPO_MPI_DOUBLE: return MPI_DOUBLE;
  case ORPO_MPI_BYTE: return MPI_BYTE;
  }
  return MPI_DATATYPE_NULL;
}

static int64_t size_of(orpo_mpi_type type) {
  switch (type) {
  case ORPO_MPI_FLOAT: return sizeof(float);
  case ORPO_MPI_DOUBLE: return sizeof(double);
  case ORPO_MPI_BYTE: return 1;
  }
  return 1;
}

static MPI_Op operator_of(orpo_mpi_operation operation) {
  switch (operation) {
  case ORPO_MPI_SUM: return MPI_SUM;
  case ORPO_MPI_MAX: return MPI_MAX;
  }
  return MPI_OP_NULL;
}

// Ranks on one node copy from each other's memory with process_vm_readv. Where a container's system call filter
// refuses it, even for the own process, Open MPI 4 fails in the first large message: choose its copy through shared
// memory instead.
static void avoid_refused_single_copy(void) {
  char from = 1, to = 0;
  struct iovec local = {&to, 1}, remote = {&from, 1};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

int orpo_mpi_start(orpo_mpi_job **job, orpo_mpi_place *place, const char **call) {
  avoid_refused_single_copy();
  int provided = MPI_THREAD_SINGLE;
  TRY("MPI_Init_thread", MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided));
  TRY("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  orpo_mpi_job *started = calloc(1, sizeof *started);
  *call = "calloc";
  if (!started) return MPI_ERR_NO_MEM;
  started->largest_piece = LARGEST_PIECE;
  *job = started;
  // Duplicates inherit the error handler.
  TRY("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &started->world));
  int rank = 0, size = 0, local_rank = 0, local_size = 0;
  TRY("MPI_Comm_rank", MPI_Comm_rank(started->world, &rank));
  TRY("MPI_Comm_size", MPI_Comm_size(started->world, &size));
  TRY("MPI_Comm_split_type",
      MPI_Comm_split_type(started->world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &started->node));
  TRY("MPI_Comm_rank", MPI_Comm_rank(started->node, &local_rank));
  TRY("MPI_Comm_size", MPI_Comm_size(started->node, &local_size));
  int leader = rank;
  TRY("MPI_Bcast", MPI_Bcast(&leader, 1, MPI_INT, 0, started->node));
  place->rank = rank;
  place->world_size = size;
  place->local_rank = local_rank;
  place->local_size = local_size;
  place->node_leader = leader;
  switch (provided) {
  case MPI_THREAD_MULTIPLE: place->thread_level = ORPO_MPI_THREAD_MULTIPLE; break;
  case MPI_THREAD_SERIALIZED: place->thread_level = ORPO_MPI_THREAD_SERIALIZED; break;
  case MPI_THREAD_FUNNELED: place->thread_level = ORPO_MPI_THREAD_FUNNELED; break;
  default: place->thread_level = ORPO_MPI_THREAD_SINGLE; break;
  }
  return MPI_SUCCESS;
}

int orpo_mpi_is_running(void) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started && !ended;
}

int orpo_mpi_finish(orpo_mpi_job *job, const char **call) {
  const int code = orpo_mpi_groups_free(job, call);
  if (code != MPI_SUCCESS) return code;
  TRY("MPI_Comm_free", MPI_Comm_free(&job->node));
  TRY("MPI_Comm_free", MPI_Comm_free(&job->world));
  free(job);
  TRY("MPI_Finalize", MPI_Finalize());
  return MPI_SUCCESS;
}

int orpo_mpi_abort(orpo_mpi_job *job, int exit_code) { return MPI_Abort(job ? job->world : MPI_COMM_WORLD, exit_code); }

static void copy_text(char *to, int64_t capacity, const char *from) {
  if (capacity > 0) snprintf(to, (size_t)capacity, "%s", from);
}

void orpo_mpi_error_text(int code, char *text, int64_t capacity) {
  char own[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (!orpo_mpi_is_running() || MPI_Error_string(code, own, &length) != MPI_SUCCESS)
    snprintf(own, sizeof own, "unknown MPI error");
  copy_text(text, capacity, own);
}

int orpo_mpi_library_version(char *text, int64_t capacity) {
  char own[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  int code = MPI_Get_library_version(own, &length);
  copy_text(text, capacity, own);
  return code;
}

int orpo_mpi_processor_name(char *text, int64_t capacity) {
  char own[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  int code = MPI_Get_processor_name(own, &length);
  copy_text(text, capacity, own);
  return code;
}

void orpo_mpi_limit_pieces(orpo_mpi_job *job, int64_t bytes) {
  job->largest_piece = bytes < 8 ? 8 : bytes > LARGEST_PIECE ? LARGEST_PIECE : bytes;
}

int orpo_mpi_barrier(orpo_mpi_job *job) { return MPI_Barrier(job->world); }

int orpo_mpi_all_reduce(orpo_mpi_job *job, void *values, int64_t count, orpo_mpi_type type,
                        orpo_mpi_operation operation) {
  for (int64_t done = 0; done < count;) {
    const int part = orpo_mpi_piece(count - done, job->largest_piece / size_of(type));
    const int code = MPI_Allreduce(MPI_IN_PLACE, (char *)values + done * size_of(type), part, datatype(type),
                                   operator_of(operation), job->world);
    if (code != MPI_SUCCESS) return code;
    done += part;
  }
  return MPI_SUCCESS;
}

int orpo_mpi_reduce(orpo_mpi_job *job, void *values, int64_t count, orpo_mpi_type type,
                    orpo_mpi_operation operation, int32_t root) {
  int rank = 0;
  int code = MPI_Comm_rank(job->world, &rank);
  for (int64_t done = 0; code == MPI_SUCCESS && done < count;) {
    const int part = orpo_mpi_piece(count - done, job->largest_piece / size_of(type));
    void *here = (char *)values + done * size_of(type);
    code = MPI_Reduce(rank == root ? MPI_IN_PLACE : here, rank == root ? here : NULL, part, datatype(type),
                      operator_of(operation), root, job->world);
    done += part;
  }
  return code;
}

int orpo_mpi_broadcast(orpo_mpi_job *job, void *bytes, int64_t count, int32_t root) {
  int code = MPI_SUCCESS;
  for (int64_t done = 0; code == MPI_SUCCESS && done < count;) {
    const int part = orpo_mpi_piece(count - done, job->largest_piece);
    code = MPI_Bcast((char *)bytes + done, part, MPI_BYTE, root, job->world);
    done += part;
  }
  return code;
}

int orpo_mpi_all_gather_int64(orpo_mpi_job *job, int64_t value, int64_t *values) {
  return MPI_Allgather(&value, 1, MPI_INT64_T, values, 1, MPI_INT64_T, job->world);
}

int orpo_mpi_send(orpo_mpi_job *job, const void *bytes, int64_t count, int32_t to) {
  int code = MPI_SUCCESS;
  for (int64_t done = 0; code == MPI_SUCCESS && done < count;) {
    const int part = orpo_mpi_piece(count - done, job->largest_piece);
    code = MPI_Send((const char *)bytes + done, part, MPI_BYTE, to, 0, job->world);
    done += part;
  }
  return code;
}

int orpo_mpi_receive(orpo_mpi_job *job, void *bytes, int64_t count, int32_t from) {
  int code = MPI_SUCCESS;
  for (int64_t done = 0; code == MPI_SUCCESS && done < count;) {
    const int part = orpo_mpi_piece(count - done, job->largest_piece);
    code = MPI_Recv((char *)bytes + done, part, MPI_BYTE, from, 0, job->world, MPI_STATUS_IGNORE);
    done += part;
  }
  return code;
}

int orpo_mpi_core_binding(uint8_t *mask, int64_t capacity) {
  memset(mask, 0, (size_t)capacity);
  return sched_getaffinity(0, (size_t)capacity, (cpu_set_t *)(void *)mask);
}
