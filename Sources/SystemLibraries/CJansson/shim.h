#pragma once
#include <jansson.h>

/// Drops one reference (`json_decref` uses atomics that Swift cannot import).
static inline void orpo_json_release(json_t *json) { json_decref(json); }
