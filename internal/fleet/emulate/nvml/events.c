/* Event sets: Xids of the scenario, each delivered once to each set. */
#include <stdlib.h>

#include "emulated.h"

enum { XID_CRITICAL = 8 };

typedef struct {
	int64_t since[MAX_GPUS]; /* registered, ms; 0: not */
	uint64_t types[MAX_GPUS];
	unsigned char told[MAX_FAULTS];
} event_set;

NVML int nvmlEventSetCreate(void **out) {
	look l;
	int ret = enter(__func__, &l);
	if (ret)
		return ret;
	*out = calloc(1, sizeof(event_set));
	return *out ? OK : UNKNOWN;
}

NVML int nvmlEventSetFree(void *set) {
	free(set);
	return OK;
}

NVML int nvmlDeviceGetSupportedEventTypes(void *device, uint64_t *out) {
	look l;
	int ret = enter_board(__func__, device, &l);
	if (ret == OK)
		*out = XID_CRITICAL;
	return ret;
}

NVML int nvmlDeviceRegisterEvents(void *device, uint64_t types, void *set) {
	look l;
	int ret = enter_board(__func__, device, &l);
	if (ret)
		return ret;
	if (!set)
		return INVALID_ARGUMENT;
	if (types & ~(uint64_t)XID_CRITICAL)
		return NOT_SUPPORTED;
	event_set *s = set;
	s->types[l.gpu] |= types;
	s->since[l.gpu] = l.now;
	return OK;
}

/* next is the earliest Xid that the set was not told of yet. */
static const fault *next(const machine *m, const event_set *s, int *gpu, int *index) {
	const fault *found = NULL;
	for (int i = 0; i < m->faults; i++) {
		const fault *f = &m->fault[i];
		int g = f->gpu;
		if (f->kind != XID || g < 0 || g >= m->gpus || s->told[i] || !s->types[g] || f->from < s->since[g])
			continue;
		if (!found || f->from < found->from) {
			found = f;
			*gpu = g;
			*index = i;
		}
	}
	return found;
}

NVML int nvmlEventSetWait_v2(void *set, em_event *out, unsigned timeout) {
	look l;
	int gpu, index, ret = enter(__func__, &l);
	if (ret)
		return ret;
	if (!set)
		return INVALID_ARGUMENT;
	int64_t until = l.now + timeout;
	const fault *f = next(l.m, set, &gpu, &index);
	if (!f || f->from > until) {
		if (timeout)
			sleep_until_ms(until);
		return TIMEOUT;
	}
	if (f->from > l.now)
		sleep_until_ms(f->from);
	((event_set *)set)->told[index] = 1;
	*out = (em_event){handle_of(gpu, -1, 0), XID_CRITICAL, f->code, UINT32_MAX, UINT32_MAX};
	return OK;
}
