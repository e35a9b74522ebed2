// Open MPI behind plain functions: no macro, handle or 32-bit count of <mpi.h> reaches Swift.
//
// Every call returns MPI's code, ORPO_MPI_SUCCESS when it worked; `orpo_mpi_error_text` explains any other. Counts
// are 64-bit and are split below 2^31 inside. Collective calls must be made by all ranks in the same order.
#pragma once
#include <stdint.h>

#define ORPO_MPI_SUCCESS 0

typedef enum { ORPO_MPI_FLOAT, ORPO_MPI_DOUBLE, ORPO_MPI_BYTE } orpo_mpi_type;
typedef enum { ORPO_MPI_SUM, ORPO_MPI_MAX } orpo_mpi_operation;
typedef enum {
  ORPO_MPI_THREAD_SINGLE,
  ORPO_MPI_THREAD_FUNNELED,
  ORPO_MPI_THREAD_SERIALIZED,
  ORPO_MPI_THREAD_MULTIPLE
} orpo_mpi_thread_level;

/// The job as this process sees it: a private duplicate of MPI_COMM_WORLD and the ranks that share this node's memory.
typedef struct orpo_mpi_job orpo_mpi_job;

typedef struct {
  int32_t rank, world_size;
  /// Position and number of the ranks on this node; `node_leader` is the world rank of the first of them.
  int32_t local_rank, local_size, node_leader;
  orpo_mpi_thread_level thread_level;
} orpo_mpi_place;

/// Initialises MPI, asking for MPI_THREAD_MULTIPLE. `*call` names the MPI call a returned code belongs to.
int orpo_mpi_start(orpo_mpi_job **job, orpo_mpi_place *place, const char **call);
/// 1 between a successful MPI_Init_thread and MPI_Finalize.
int orpo_mpi_is_running(void);
/// Frees the communicators and finalises MPI; `job` is invalid afterwards.
int orpo_mpi_finish(orpo_mpi_job *job, const char **call);
/// Ends every process of the job. Returns only when MPI could not do so.
int orpo_mpi_abort(orpo_mpi_job *job, int exit_code);

/// Texts are cut to `capacity` bytes, terminator included.
void orpo_mpi_error_text(int code, char *text, int64_t capacity);
int orpo_mpi_library_version(char *text, int64_t capacity);
int orpo_mpi_processor_name(char *text, int64_t capacity);

/// Bytes one MPI call moves at most (256 MiB at first, at least 8); the same on all ranks.
void orpo_mpi_limit_pieces(orpo_mpi_job *job, int64_t bytes);

int orpo_mpi_barrier(orpo_mpi_job *job);
/// In place on every rank.
int orpo_mpi_all_reduce(orpo_mpi_job *job, void *values, int64_t count, orpo_mpi_type type,
                        orpo_mpi_operation operation);
/// In place on the root; the other ranks' values are left as they are.
int orpo_mpi_reduce(orpo_mpi_job *job, void *values, int64_t count, orpo_mpi_type type,
                    orpo_mpi_operation operation, int32_t root);
int orpo_mpi_broadcast(orpo_mpi_job *job, void *bytes, int64_t count, int32_t root);
/// One 64-bit integer per rank, in rank order, on every rank.
int orpo_mpi_all_gather_int64(orpo_mpi_job *job, int64_t value, int64_t *values);
int orpo_mpi_send(orpo_mpi_job *job, const void *bytes, int64_t count, int32_t to);
int orpo_mpi_receive(orpo_mpi_job *job, void *bytes, int64_t count, int32_t from);

/// Some of the ranks with a communicator of their own: what they say to each other mixes with nothing else. Freed by
/// `orpo_mpi_finish`.
typedef struct orpo_mpi_group orpo_mpi_group;

/// Called by all ranks; those with the same `color` (at least 0) form a group, in world order. `*rank` and `*size` are
/// this rank's place in it.
int orpo_mpi_group_create(orpo_mpi_job *job, int32_t color, orpo_mpi_group **group, int32_t *rank, int32_t *size,
                          const char **call);
/// The smallest of the members' values, on all of them.
int orpo_mpi_group_smallest(orpo_mpi_group *group, int64_t *value);

/// Bytes to or from another member of a group.
typedef struct {
  void *bytes;
  int64_t count;
  int32_t peer;
  int32_t is_send;
} orpo_mpi_message;

/// Messages under way; their bytes must stay as they are until it is finished.
typedef struct orpo_mpi_exchange orpo_mpi_exchange;

/// Starts all messages, in this order between any two members. `orpo_mpi_exchange_finish` waits for them and frees
/// `exchange` in any case.
int orpo_mpi_exchange_start(orpo_mpi_group *group, const orpo_mpi_message *messages, int32_t count,
                            orpo_mpi_exchange **exchange, const char **call);
int orpo_mpi_exchange_finish(orpo_mpi_exchange *exchange, const char **call);

/// Memory that all members of a group on one node see. Freed by `orpo_mpi_finish`.
typedef struct orpo_mpi_window orpo_mpi_window;

/// Bytes that can be had for windows on this node, and the folder that holds them.
int64_t orpo_mpi_window_room(char *directory, int64_t capacity);
/// A window of `bytes` for each member, touched once; every member gets the same result. Members must share a node and
/// must have asked whether there is room: where there is not, MPI may hang or the first touch may end the process.
int orpo_mpi_window_create(orpo_mpi_group *group, int64_t bytes, orpo_mpi_window **window, const char **call);
/// A member's bytes, at the start of a page.
void *orpo_mpi_window_segment(orpo_mpi_window *window, int32_t member);
/// Waits until all members are here. What each wrote into the window before, all read after.
void orpo_mpi_window_barrier(orpo_mpi_window *window);

/// Short messages between ranks by which they tell each other that they live, in a communicator of their own. No call waits
/// for another rank, but for creating and freeing, which all ranks do together. Needs ORPO_MPI_THREAD_MULTIPLE.
typedef struct orpo_mpi_heartbeat orpo_mpi_heartbeat;
#define ORPO_MPI_HEARTBEAT_WORDS 4

int orpo_mpi_heartbeat_create(orpo_mpi_job *job, orpo_mpi_heartbeat **heartbeat, const char **call);
/// Sends ORPO_MPI_HEARTBEAT_WORDS words, unless the message before is still under way: then `*is_sent` is 0. Without
/// words it only asks whether that message has left.
int orpo_mpi_heartbeat_send(orpo_mpi_heartbeat *heartbeat, int32_t peer, const int64_t *words, int32_t *is_sent);
/// The next message that has arrived from any rank; `*peer` is -1 when there is none.
int orpo_mpi_heartbeat_receive(orpo_mpi_heartbeat *heartbeat, int32_t *peer, int64_t *words);
/// All messages must have been received, and have left.
int orpo_mpi_heartbeat_free(orpo_mpi_heartbeat *heartbeat, const char **call);

/// The calling thread's core binding, which the launcher set: bit i of `mask` is logical core i. 0 when it was read.
int orpo_mpi_core_binding(uint8_t *mask, int64_t capacity);
