#define _GNU_SOURCE
#include "job.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

// Every member's part of the window begins with this line, alone in its page; its segment follows.
typedef struct {
  // How many barriers the member has reached.
  _Atomic int64_t arrivals;
} window_head;

static const int64_t PAGE = 4096;

struct orpo_mpi_window {
  MPI_Win handle;
  struct orpo_mpi_window *older;
  int32_t rank, size;
  // Of each member, in this process's memory.
  char **parts;
};

// The folder in which Open MPI keeps windows, which an administrator may have moved.
static void backing_directory(char *path, size_t capacity) {
  strncpy(path, "/dev/shm", capacity);
  int provided = 0;
  if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) return;
  int index = 0, count = 0;
  MPI_T_cvar_handle handle;
  if (MPI_T_cvar_get_index("osc_sm_backing_directory", &index) == MPI_SUCCESS &&
      MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) == MPI_SUCCESS) {
    char *value = calloc(1, (size_t)count + 1);
    if (value && count > 1 && MPI_T_cvar_read(handle, value) == MPI_SUCCESS && value[0] == '/' &&
        strlen(value) < capacity)
      strcpy(path, value);
    free(value);
    MPI_T_cvar_handle_free(&handle);
  }
  MPI_T_finalize();
}

int64_t orpo_mpi_window_room(char *directory, int64_t capacity) {
  char path[1024] = "";
  backing_directory(path, sizeof path);
  if (capacity > 0) {
    strncpy(directory, path, (size_t)capacity - 1);
    directory[capacity - 1] = 0;
  }
  struct statvfs status;
  if (access(path, W_OK) != 0 || statvfs(path, &status) != 0) return 0;
  return (int64_t)status.f_bavail * (int64_t)status.f_frsize;
}

static int attach(orpo_mpi_group *group, int64_t bytes, orpo_mpi_window *window, const char **call) {
  const int64_t whole = PAGE + (bytes + PAGE - 1) / PAGE * PAGE;
  MPI_Info info;
  TRY("MPI_Info_create", MPI_Info_create(&info));
  // Each part on pages of its own, near the member that fills it.
  TRY("MPI_Info_set", MPI_Info_set(info, "alloc_shared_noncontig", "true"));
  void *own = NULL;
  TRY("MPI_Win_allocate_shared", MPI_Win_allocate_shared(whole, 1, info, group->ranks, &own, &window->handle));
  TRY("MPI_Info_free", MPI_Info_free(&info));
  TRY("MPI_Comm_rank", MPI_Comm_rank(group->ranks, &window->rank));
  TRY("MPI_Comm_size", MPI_Comm_size(group->ranks, &window->size));
  window->parts = calloc((size_t)window->size, sizeof *window->parts);
  *call = "calloc";
  if (!window->parts) return MPI_ERR_NO_MEM;
  for (int member = 0; member < window->size; member++) {
    MPI_Aint size = 0;
    int unit = 0;
    TRY("MPI_Win_shared_query",
        MPI_Win_shared_query(window->handle, member, &size, &unit, (void *)(window->parts + member)));
  }
  memset(window->parts[window->rank], 0, (size_t)whole);
  // Loads and stores go straight to memory from here on, ordered by the atomics of the barrier.
  TRY("MPI_Win_lock_all", MPI_Win_lock_all(MPI_MODE_NOCHECK, window->handle));
  return MPI_SUCCESS;
}

int orpo_mpi_window_create(orpo_mpi_group *group, int64_t bytes, orpo_mpi_window **window, const char **call) {
  orpo_mpi_window *created = calloc(1, sizeof *created);
  *call = "calloc";
  if (!created) return MPI_ERR_NO_MEM;
  const int code = attach(group, bytes, created, call);
  // What one member has and another has not cannot be used, nor freed together.
  int32_t works = code == MPI_SUCCESS;
  const char *failed = *call;
  TRY("MPI_Allreduce", MPI_Allreduce(MPI_IN_PLACE, &works, 1, MPI_INT32_T, MPI_MIN, group->ranks));
  if (!works) {
    *call = code == MPI_SUCCESS ? "MPI_Win_allocate_shared" : failed;
    return code == MPI_SUCCESS ? MPI_ERR_OTHER : code;
  }
  created->older = group->windows;
  group->windows = created;
  *window = created;
  return MPI_SUCCESS;
}

void *orpo_mpi_window_segment(orpo_mpi_window *window, int32_t member) { return window->parts[member] + PAGE; }

void orpo_mpi_window_barrier(orpo_mpi_window *window) {
  window_head *own = (window_head *)(void *)window->parts[window->rank];
  const int64_t reached = atomic_load_explicit(&own->arrivals, memory_order_relaxed) + 1;
  atomic_store_explicit(&own->arrivals, reached, memory_order_release);
  int64_t turns = 0;
  for (int32_t member = 0; member < window->size; member++) {
    window_head *other = (window_head *)(void *)window->parts[member];
    while (atomic_load_explicit(&other->arrivals, memory_order_acquire) < reached) orpo_mpi_wait_a_turn(&turns);
  }
}

int orpo_mpi_windows_free(orpo_mpi_group *group, const char **call) {
  while (group->windows) {
    orpo_mpi_window *newest = group->windows;
    TRY("MPI_Win_unlock_all", MPI_Win_unlock_all(newest->handle));
    TRY("MPI_Win_free", MPI_Win_free(&newest->handle));
    group->windows = newest->older;
    free(newest->parts);
    free(newest);
  }
  return MPI_SUCCESS;
}
