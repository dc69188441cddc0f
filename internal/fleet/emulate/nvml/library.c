/* Life of the library, handles, and the gate that every call passes. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "emulated.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int references, generation;
static int64_t born[1 << 12]; /* when each generation was made, ms */

/* Handles are addresses in here, never read: device, slot, layout, generation. */
static char handles[1 << 24];

static int open_library(void) {
	int ret = OK;
	pthread_mutex_lock(&lock);
	int64_t now = now_ms();
	if (!the_machine())
		ret = UNKNOWN;
	else if (active(MISMATCH, -1, now))
		ret = LIB_RM_VERSION_MISMATCH;
	else if (active(RELOAD, -1, now))
		ret = DRIVER_NOT_LOADED;
	else if (references++ == 0) {
		generation = (generation + 1) & 0xfff;
		born[generation] = now;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

NVML int nvmlInit_v2(void) { return open_library(); }

NVML int nvmlInitWithFlags(unsigned flags) {
	(void)flags;
	return open_library();
}

NVML int nvmlShutdown(void) {
	int ret = OK;
	pthread_mutex_lock(&lock);
	if (references == 0)
		ret = UNINITIALIZED;
	else
		references--;
	pthread_mutex_unlock(&lock);
	return ret;
}

NVML const char *nvmlErrorString(int ret) {
	switch (ret) {
	case OK: return "The operation was successful";
	case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
	case INVALID_ARGUMENT: return "A supplied argument is invalid";
	case NOT_SUPPORTED: return "The requested operation is not available on target device";
	case NOT_FOUND: return "A query to find an object was unsuccessful";
	case INSUFFICIENT_SIZE: return "An input argument is not large enough";
	case DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
	case TIMEOUT: return "User provided timeout passed";
	case GPU_IS_LOST: return "GPU is lost";
	case RESET_REQUIRED: return "GPU requires a reset";
	case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
	case ARGUMENT_VERSION_MISMATCH: return "The provided version is invalid/unsupported";
	}
	return "Unknown Error";
}

void *handle_of(int gpu, int slot, int layout_number) {
	return &handles[1 + ((gpu & 15) | (slot + 1) << 4 | (layout_number & 15) << 8 | (unsigned)generation << 12)];
}

/* refused: the code that a scenario wants of a call, OK for none. */
static int refused(const machine *m, const char *call, int gpu, int64_t now) {
	for (int i = 0; i < m->faults; i++) {
		const fault *f = &m->fault[i];
		if (f->kind == CALL && f->from <= now && now < f->to && (f->gpu < 0 || f->gpu == gpu) && !strcmp(f->name, call))
			return (int)f->code;
	}
	return OK;
}

int enter(const char *call, look *l) {
	l->now = now_ms();
	l->gpu = l->slot = -1;
	l->g = NULL;
	l->s = NULL;
	l->m = the_machine();
	if (!l->m || __atomic_load_n(&references, __ATOMIC_ACQUIRE) == 0)
		return UNINITIALIZED;
	if (active(MISMATCH, -1, l->now))
		return LIB_RM_VERSION_MISMATCH;
	if (active(RELOAD, -1, l->now))
		return UNKNOWN;
	return refused(l->m, call, -1, l->now);
}

/* gone: the handle died with its GPU, a reset or the driver; only a new
 * initialisation gives a good one. */
static int gone(const look *l, int64_t since) {
	for (int i = 0; i < l->m->faults; i++) {
		const fault *f = &l->m->fault[i];
		if (f->gpu >= 0 && f->gpu != l->gpu)
			continue;
		if (f->from <= l->now && since < f->to) {
			if (f->kind == LOST)
				return GPU_IS_LOST;
			if (f->kind == RESET)
				return RESET_REQUIRED;
			if (f->kind == RELOAD)
				return UNKNOWN;
		}
	}
	return OK;
}

int enter_any(const char *call, void *device, look *l) {
	int ret = enter(call, l);
	if (ret != OK)
		return ret;
	size_t h = (size_t)((char *)device - handles) - 1;
	if (!device || h >= sizeof handles || (h & 15) >= (size_t)l->m->gpus)
		return INVALID_ARGUMENT;
	l->gpu = h & 15;
	l->slot = (int)(h >> 4 & 15) - 1;
	l->g = &l->m->gpu[l->gpu];
	const fault *f = active(HANG, l->gpu, l->now);
	if (f) {
		sleep_until_ms(f->to);
		l->now = now_ms();
	}
	if ((ret = gone(l, born[h >> 12])) != OK)
		return ret;
	if ((int)(h >> 12) != generation)
		return INVALID_ARGUMENT;
	if (l->slot >= 0) {
		int number = 0;
		const layout *y = layout_of(l->gpu, l->now, &number);
		if (!y || (number & 15) != (int)(h >> 8 & 15))
			return INVALID_ARGUMENT;
		l->s = &y->slices[l->slot];
	}
	return refused(l->m, call, l->gpu, l->now);
}

int enter_board(const char *call, void *device, look *l) {
	int ret = enter_any(call, device, l);
	return ret == OK && l->slot >= 0 ? NOT_SUPPORTED : ret;
}

static int text(const char *from, char *to, unsigned size) {
	if (!to)
		return INVALID_ARGUMENT;
	if (strlen(from) >= size)
		return INSUFFICIENT_SIZE;
	strcpy(to, from);
	return OK;
}

NVML int nvmlSystemGetDriverVersion(char *out, unsigned size) {
	look l;
	int ret = enter(__func__, &l);
	return ret ? ret : text(l.m->driver, out, size);
}

NVML int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
	machine *m = the_machine();
	return m ? text(m->version, out, size) : UNKNOWN;
}

NVML int nvmlSystemGetCudaDriverVersion_v2(int *out) {
	*out = 12060;
	return OK;
}

NVML int nvmlDeviceGetCount_v2(unsigned *out) {
	look l;
	int ret = enter(__func__, &l);
	if (ret == OK)
		*out = (unsigned)l.m->gpus;
	return ret;
}

static int board(const look *l, int i, void **out) {
	look at = *l;
	at.gpu = i;
	int ret = gone(&at, l->now);
	if (ret == OK)
		*out = handle_of(i, -1, 0);
	return ret;
}

NVML int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out) {
	look l;
	int ret = enter(__func__, &l);
	if (ret)
		return ret;
	return i < (unsigned)l.m->gpus ? board(&l, (int)i, out) : INVALID_ARGUMENT;
}

NVML int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **out) {
	look l;
	int ret = enter(__func__, &l);
	for (int i = 0; ret == OK && i < l.m->gpus; i++)
		if (!strcasecmp(l.m->gpu[i].pci, pci))
			return board(&l, i, out);
	return ret ? ret : NOT_FOUND;
}

NVML int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
	look l;
	int ret = enter(__func__, &l);
	for (int i = 0; ret == OK && i < l.m->gpus; i++) {
		int number = 0;
		const layout *y = layout_of(i, l.now, &number);
		if (!strcmp(l.m->gpu[i].uuid, uuid))
			return board(&l, i, out);
		for (int s = 0; y && s < MAX_SLICES; s++)
			if (y->slices[s].present && !strcmp(y->slices[s].uuid, uuid)) {
				*out = handle_of(i, s, number);
				return OK;
			}
	}
	return ret ? ret : NOT_FOUND;
}

NVML int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
	look l;
	int ret = enter_any(__func__, device, &l);
	return ret ? ret : text(l.s ? l.s->uuid : l.g->uuid, out, size);
}

NVML int nvmlDeviceGetName(void *device, char *out, unsigned size) {
	look l;
	int ret = enter_any(__func__, device, &l);
	return ret ? ret : text(l.m->name, out, size);
}

NVML int nvmlDeviceGetSerial(void *device, char *out, unsigned size) {
	look l;
	int ret = enter_board(__func__, device, &l);
	return ret ? ret : text(l.g->serial, out, size);
}

NVML int nvmlDeviceGetPciInfo_v3(void *device, em_pci *out) {
	look l;
	int ret = enter_any(__func__, device, &l);
	if (ret)
		return ret;
	memset(out, 0, sizeof *out);
	out->domain = l.g->domain;
	out->bus = l.g->bus;
	out->pci_device_id = l.m->pci_device_id;
	out->pci_subsystem_id = 0x153310de;
	snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%04X:%02X:00.0", l.g->domain & 0xffff, l.g->bus & 0xff);
	snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:00.0", l.g->domain, l.g->bus & 0xff);
	return OK;
}
