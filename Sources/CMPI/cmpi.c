#include "cmpi.h"
#include <mpi.h>
